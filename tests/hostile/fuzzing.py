"""Mutated files for every reader: what is wrong with a file is one line that names it, whatever bytes it holds.

    python tests/hostile/fuzzing.py --count 100000 --seconds 100 [--seed 0] [READER ...]

prints, for each reader, how many mutations were read, how many were refused, and every one that gave anything but a result or
one line. A mutation is made from (seed, reader, number) alone.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import importlib.util
import io
import os
import pickle
import random
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

MOST_LETTERS = 400  # of a refusal, without the path
MOST_SECONDS = 10.0
ODD_NUMBERS = [
    0,
    1,
    2,
    3,
    7,
    8,
    127,
    128,
    255,
    256,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**62,
    2**63 - 1,
]
ODD_WORDS = (
    'null true -1 0 1e308 -1e308 NaN Infinity 99999999999999999999 [] {} [[]] "" "x" \'\' ~ 0.5 1_0 0x10 2020-99-99 '
    "!!binary !!python/object:os.system &a *a <<: - ? : , [ ] { } \" ' # % @ ` \\ \\u0000 \\ud800 ../../x /etc/passwd "
    "$\\frac$ é \x00 \x85 \ufeff"
).split(" ")


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A few changes of one kind or another, small ones most often."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(9)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 100)))
        elif kind == 3:
            del data[at : at + rng.choice((1, 2, 4, 100, 10_000))]
        elif kind == 4:
            del data[at:]
        elif kind == 5:  # a piece again, elsewhere
            start = rng.randrange(len(data) + 1)
            data[at:at] = data[start : start + rng.choice((4, 16, 64, 1000))]
        elif kind == 6:  # a number at its edge
            form = rng.choice(("B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
            number = rng.choice(ODD_NUMBERS) & (256 ** struct.calcsize(form) - 1)
            data[at : at + struct.calcsize(form)] = struct.pack(form, number)
        else:  # a word in the place of a word
            word = rng.choice(ODD_WORDS).encode("utf-8", "surrogatepass")
            end = at
            while end < len(data) and end - at < 30 and chr(data[end]).isalnum():
                end += 1
            data[at:end] = word
    return bytes(data)


def with_right_sums(content: bytes) -> bytes:
    """A PNG whose chunks have the checksums of their content, so that what is inside is looked at."""
    out, at = bytearray(content[:8]), 8
    while at + 12 <= len(content):
        size = struct.unpack(">I", content[at : at + 4])[0]
        chunk = content[at + 4 : at + 8 + size]
        out += content[at : at + 4] + chunk + struct.pack(">I", zlib.crc32(chunk))
        at += 12 + size
    return bytes(out + content[at:])


def with_right_length(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file with a mutated header of the length that stands before it."""
    size = struct.unpack("<Q", content[:8])[0]
    header = mutated(content[8 : 8 + size], rng)
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


Read = Callable[[Path], object]
Reader = tuple[str, bytes, Read]  # the name of the file, sound content, what reads it


def model_files() -> dict[str, Reader]:
    from small_models import narrow

    from saccade.files import load_model, load_packed, save_model, save_packed
    from saccade.train import checkpoint
    from saccade.transforms import apply

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model, _ = narrow("vgg_small", widths=(4, 6, 6))
        save_model(model, folder / "m.safetensors", [str(k) for k in range(10)], (3, 32, 32))
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.rand(2, 3, 32, 32)).sum().backward()
        optimizer.step()
        progress = checkpoint.Progress(epoch=1, history=[{"epoch": 0, "lr": 0.0, "train_loss": None, "seconds": 0.0}])
        checkpoint.save(folder / "c.safetensors", model.state_dict(), None, optimizer, progress)
        apply(model.eval(), "quantize")
        save_packed(model, folder / "p.safetensors")
        content = {key: (folder / f"{key}.safetensors").read_bytes() for key in "mcp"}
    return {
        "model file": ("m.safetensors", content["m"], load_model),
        "packed file": ("p.safetensors", content["p"], load_packed),
        "checkpoint": ("c.safetensors", content["c"], checkpoint.load),
    }


RECIPE = """
name: t
seed: 3
model: {name: or_resnet18, config: {stem: mnist, T: 3, widths: [4, 8], pairs: [1, 1], neuron: {name: tet, config: {v_th: 0.9}}}}
data: {name: digits, validation: 100, augment: [crop, cutout], crop_padding: 1, cutout_size: 2}
train: {epochs: 2, batch_size: 64, optimizer: adam, lr: 5e-3, accelerator: cpu, ema: 0.9, warmup_epochs: 0.5}
task: {name: classification, config: {label_smoothing: 0.1}}
stages: [profile]
notes: &n |
  words
  and words
"""


def text_files() -> dict[str, Reader]:
    from saccade.experiment import load_recipe
    from saccade.report.run_files import RunFiles

    summary = (
        b'{"format": "saccade-summary-1", "recipe": "t", "scores": [{"name": "accuracy", "percent": true}], '
        b'"test_accuracy": 0.5, "classes": ["a", "b\\u00e9"], "confusion": [[1, 0], [0, 1]], "images": {"train": 3}, '
        b'"stages_done": [], "profile": null}'
    )
    metrics = b"epoch,lr,train_loss,rate/a.b,seconds\n0,0.0,,0.25,0.0\n1,0.005,1.5,0.5,2.25\n2,1e-3,nan,0.5,2.25\n"
    arrays = io.BytesIO()
    np.savez(arrays, images=np.zeros((2, 3, 4), np.uint8), **{"raster/a.b": np.ones((2, 3), bool)})
    return {
        "samples.npz": (
            "samples.npz",
            arrays.getvalue(),
            lambda path: RunFiles(path.parent).read_arrays("samples.npz"),
        ),
        "recipe": ("r.yaml", RECIPE.encode(), load_recipe),
        "summary.json": ("summary.json", summary, lambda path: RunFiles(path.parent).read_json("summary.json")),
        "metrics.csv": ("metrics.csv", metrics, lambda path: RunFiles(path.parent).metrics()),
    }


def data_files() -> dict[str, Reader]:
    from saccade.data.cifar import FORMATS, _read_python
    from saccade.data.idx import read_idx
    from saccade.verify.targets import _read

    rng = np.random.default_rng(0)
    idx = bytes([0, 0, 8, 3]) + struct.pack(">3I", 4, 5, 5) + rng.integers(0, 256, 100, np.uint8).tobytes()
    batch = {
        b"data": rng.integers(0, 256, (2, 3072), np.uint8),
        b"labels": [3, 4],
        b"filenames": [b"a.png", b"b.png"],
        b"batch_label": b"x",
    }
    npy = io.BytesIO()
    np.save(npy, rng.normal(size=(2, 3, 4)).astype(np.float32))
    return {
        "idx": ("images", idx, read_idx),
        "idx, gzipped": ("images.gz", gzip.compress(idx, mtime=0), read_idx),
        "CIFAR batch": ("data_batch_1", pickle.dumps(batch, 2), lambda path: _read_python(path, 2, FORMATS["cifar10"])),
        "npy": ("x.npy", npy.getvalue(), lambda path: _read(path, False)),
    }


def pictures() -> dict[str, Reader]:
    from saccade.data.folder import read_image

    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x9003] = 6, "words", "2020:01:01 00:00:00"
    saved = {}
    for name, options in {
        "png": {"exif": exif, "dpi": (72, 72)},
        "jpg": {"exif": exif, "quality": 90},
        "bmp": {},
        "gif": {},
        "ppm": {},
        "tif": {"compression": "tiff_lzw"},
        "webp": {"exif": exif},
    }.items():
        out = io.BytesIO()
        image.save(out, {"jpg": "JPEG", "tif": "TIFF"}.get(name, name.upper()), **options)
        saved[name] = out.getvalue()
    deep = io.BytesIO()
    Image.fromarray(rng.integers(0, 65536, (9, 12)).astype(np.uint16)).save(deep, "PNG")
    found: dict[str, Reader] = {
        name: (f"x.{name}", content, lambda path: read_image(path, 8)) for name, content in saved.items()
    }
    with contextlib.suppress(ImportError):
        import cv2  # noqa: F401

        from saccade.dehaze.pictures import read_picture

        found |= {f"{name}, dehaze": (f"x.{name}", content, read_picture) for name, content in saved.items()}
        found["deep png, dehaze"] = ("x.png", deep.getvalue(), read_picture)
    return found


def clips() -> dict[str, Reader]:
    try:
        import av
    except ImportError:
        return {}
    from saccade.dehaze.clips import open_clip

    av.logging.set_level(None)
    found: dict[str, Reader] = {}
    for suffix, codec in (
        (".mp4", "mpeg4"),
        (".mkv", "ffv1"),
        (".avi", "mjpeg"),
        (".webm", "libvpx"),
        (".ts", "mpeg2video"),
    ):
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / f"x{suffix}"
            with av.open(str(path), "w") as container:
                stream = container.add_stream(codec, rate=25)
                stream.width, stream.height = 64, 48
                stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
                for k in range(4):
                    pixels = np.random.default_rng(k).integers(0, 256, (48, 64, 3), np.uint8)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                container.mux(stream.encode())
            content = path.read_bytes()
        found[f"{suffix[1:]} clip"] = (
            f"x{suffix}",
            content,
            lambda path: sum(1 for _ in open_clip(path, 1_000_000).frames),
        )
    return found


def recordings() -> dict[str, Reader]:
    """Event recordings in every format that we write; HDF5 is left out, whose own library is not ours to fuzz."""
    from saccade.events import FORMATS, EventStream, EventsWarning, open_events, read_chunks, write_events

    rng = np.random.default_rng(0)
    libraries = {"aedat4": "lz4"}
    sensors = {"aedat2": (180, 240), "aedat3": (128, 128), "nmnist": (34, 34)}
    found: dict[str, Reader] = {}
    for name, one in FORMATS.items():
        if one.write is None or name.startswith("hdf5"):
            continue
        if name in libraries and importlib.util.find_spec(libraries[name]) is None:
            continue
        height, width = sensors.get(name, (30, 40))
        t, x = np.sort(rng.integers(0, 9999, 200)), rng.integers(0, width, 200)
        events = EventStream(t, x, rng.integers(0, height, 200), rng.integers(0, 2, 200), height, width)

        def read(path: Path, name: str = name, height: int = height, width: int = width) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EventsWarning)
                for lenient in (True, False):
                    open_events(path, name, height=height, width=width, lenient=lenient)
                    list(read_chunks(path, name, events=64, height=height, width=width, lenient=lenient))

        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / f"x{one.suffixes[0]}"
            write_events(path, events, name)
            found[f"{name} recording"] = (path.name, path.read_bytes(), read)
    return found


def all_readers() -> dict[str, Reader]:
    return model_files() | text_files() | data_files() | pictures() | clips() | recordings()


class Fuzzed:
    """What came of the mutations of one reader's file."""

    def __init__(self) -> None:
        self.count = self.refused = 0
        self.seconds = 0.0
        self.faults: list[tuple[int, str]] = []  # the mutation's number, what it gave

    def words(self) -> str:
        return "; ".join(f"mutation {number}: {what}" for number, what in self.faults[:5])


@contextlib.contextmanager
def printed(found: list[str]):
    """What libraries write to stderr past Python, one entry if anything."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            said = file.read().decode("utf-8", "replace").strip()
            if said:
                found.append(said)


def trouble(path: Path, read: Read) -> tuple[str, bool]:
    """What is wrong with how a file was read ("" for nothing), and whether it was refused."""
    said: list[str] = []
    started = time.perf_counter()
    refused, what = False, ""
    with printed(said), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            read(path)
        except (ValueError, OSError) as error:
            refused, words = True, str(error)
            if type(error).__name__ in ("UnicodeDecodeError", "UnicodeEncodeError", "EOFError"):
                what = f"a raw {type(error).__name__}: {words}"
            elif "\n" in words:
                what = f"a refusal of several lines: {words!r}"
            elif path.name not in words:
                what = f"a refusal that names no file: {words}"
            elif len(words.replace(str(path), "")) > MOST_LETTERS:
                what = f"a refusal of {len(words)} letters: {words[:200]}"
            elif "interrupted" in words:
                what = f"called interrupted: {words}"
            if what:
                what += " " + _where(error)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            what = f"{type(error).__name__}: {str(error)[:200]} {_where(error)}"
    if not what and warned:
        what = f"a warning: {warned[0].message}"
    if not what and said:
        what = f"printed: {said[0][:200]!r}"
    seconds = time.perf_counter() - started
    if not what and seconds > MOST_SECONDS:
        what = f"{seconds:.0f} s"
    return what, refused


def _where(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "saccade" in f.filename]
    return f"({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""


def fuzz(name: str, reader: Reader, count: int, seconds: float = 1e9, seed: int = 0, start: int = 0) -> Fuzzed:
    """Mutations ``start`` to ``start + count`` of a reader's file, or as many as fit into so many seconds."""
    file, content, read = reader
    found = Fuzzed()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / file
        path.write_bytes(content)
        what, refused = trouble(path, read)
        assert not what, f"{name}, as it should be: {what}"
        if refused:
            read(path)
        for number in range(start, start + count):
            rng = random.Random(f"{seed} {name} {number}")
            new = mutated(content, rng)
            if file.endswith(".png") and rng.random() < 0.7:
                new = with_right_sums(new)
            if file.endswith(".safetensors") and rng.random() < 0.7:
                new = with_right_length(content, rng)
            if file.endswith(".gz") and rng.random() < 0.7:
                new = gzip.compress(mutated(gzip.decompress(content), rng), mtime=0)
            path.write_bytes(new)
            what, refused = trouble(path, read)
            found.count += 1
            found.refused += refused
            if what:
                found.faults.append((number, what))
            if time.perf_counter() - began > seconds:
                break
    found.seconds = time.perf_counter() - began
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("readers", nargs="*")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1e9, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    readers = all_readers()
    print(f"{'reader':20} {'mutations':>9} {'refused':>8} {'faults':>6} {'seconds':>8}", flush=True)
    for name in options.readers or readers:
        found = fuzz(name, readers[name], options.count, options.seconds, options.seed)
        print(f"{name:20} {found.count:9,} {found.refused:8,} {len(found.faults):6} {found.seconds:8.1f}", flush=True)
        kinds: dict[str, list[int]] = {}
        for number, what in found.faults:
            kinds.setdefault(what[:160], []).append(number)
        for what, numbers in list(kinds.items())[:20]:
            print(f"    {len(numbers)} x {what}   [{numbers[0]}]", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
