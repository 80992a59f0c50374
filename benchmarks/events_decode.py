"""Decoding of event recordings, file in the page cache to columns, against other readers, in one process.

    python benchmarks/events_decode.py --data ../shared/data/events [--rounds 9] [--out results/events/decode.json]

Files: real samples, and the same repeated with rising time to about ten million events, written by our writers (EVT 2.0, DAT,
EVT 3.0 with one event a word, AEDAT 4, HDF5, N-MNIST) or, for EVT 3.0 with the camera's own vectors, from the sample's words.
Before anything is timed, every reader's events are compared with ours, one by one: t, x, y and polarity. A reader that gives
others is timed too and marked. Rounds are interleaved over the readers; the median, the quartiles and the best of wall time
and of processor time are stored, and the load of the machine: processor time counts where it has other work.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from saccade.events import EventStream, EventsWarning, decoding, open_events, write_events
from saccade.events.formats import evt3 as evt3_format
from saccade.events.prophesee import read_header

ROOT = Path(__file__).parents[1]
WANTED = 10_000_000
Read = Callable[[Path], Any]
Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def repeated(events: EventStream, wanted: int) -> EventStream:
    """One recording after itself, until there are about so many events; times go on."""
    times = max(1, round(wanted / len(events)))
    period = events.duration_us + 50
    t = (np.arange(times)[:, None] * period + (events.t - events.t[0])).ravel()
    x, y, p = (np.tile(column, times) for column in (events.x, events.y, events.p))
    return EventStream(t, x, y, p, events.height, events.width)


def repeated_words(path: Path, target: Path, wanted: int) -> None:
    """The words of an EVT 3.0 recording after themselves, with the upper bits of the time going on."""
    content = path.read_bytes()
    end = read_header(content).end
    words = np.frombuffer(content[end : end + (len(content) - end) // 2 * 2], "<u2")
    upper = words >> 12 == 8
    events = len(open_events(path))
    high = words[upper] & 0xFFF
    span = int(high[-1]) - int(high[0]) + 1
    with target.open("wb") as file:
        file.write(content[:end])
        for i in range(max(1, round(wanted / events))):
            words = words.copy()
            words[upper] = 8 << 12 | (high + i * span) & 0xFFF
            file.write(words.tobytes())


def files(data: Path, folder: Path) -> dict[str, tuple[Path, str]]:
    """What is read: the file and its kind."""
    formats = data / "formats"
    found: dict[str, tuple[Path, str]] = {
        "EVT 3.0, real sample": (formats / "evt3_sample.raw", "evt3"),
        "EVT 2.0, real sample": (formats / "evt2_sample.raw", "evt2"),
        "AEDAT 4, real sample": (formats / "sample.aedat4", "aedat4"),
        "N-MNIST, real sample": (formats / "sample_nmnist.bin", "nmnist"),
    }
    large = repeated(open_events(formats / "evt2_sample.raw"), WANTED)

    def made(name: str, file: str, kind: str, events: EventStream) -> None:
        write_events(folder / file, events, kind)
        found[name] = (folder / file, kind)

    worth, evt3_format.WORTH = evt3_format.WORTH, 1 << 20
    made("EVT 3.0, one event a word", "single.raw", "evt3", large)
    evt3_format.WORTH = worth
    repeated_words(formats / "evt3_sample.raw", folder / "vectors.raw", WANTED)
    found["EVT 3.0, the camera's vectors"] = (folder / "vectors.raw", "evt3")
    made("EVT 2.0", "large2.raw", "evt2", large)
    made("DAT", "large.dat", "dat", large)
    made("HDF5, DSEC's layout", "large.h5", "hdf5", large)
    made("HDF5 of Prophesee, not compressed", "large.hdf5", "hdf5_prophesee", large)
    made("AEDAT 4, LZ4", "large.aedat4", "aedat4", repeated(open_events(formats / "sample.aedat4"), WANTED))
    clip = open_events(data / "dvs-gesture-10" / "5.bs2", height=128, width=128)
    made("N-MNIST layout, SLAYER clip", "large.bs2", "nmnist", repeated(clip, 900_000))
    return found


def structured(table: Any, p: str = "p") -> Columns:
    return table["t"], table["x"], table["y"], table[p]


def readers(kind: str, path: Path) -> dict[str, tuple[str, Read, Callable[[Any], Columns]]]:
    """For a kind of file: name, call, and how its columns are taken from what it returns."""
    size = open_events(path)
    sizes = {"height": size.height, "width": size.width}
    found: dict[str, tuple[str, Read, Callable[[Any], Columns]]] = {
        "saccade": ("saccade-snn", lambda file: open_events(file, **sizes), lambda s: (s.t, s.x, s.y, s.p))
    }

    def add(name: str, make: Callable[[], tuple[Read, Callable[[Any], Columns]]]) -> None:
        try:
            found[name] = (name, *make())
        except ImportError as error:
            print(f"{name}: not here ({error})")

    def evutils() -> tuple[Read, Callable[[Any], Columns]]:
        io = importlib.import_module("evutils.io")

        def read(file: Path) -> Any:
            with io.EventReader(str(file)) as reader:
                return reader.read_all()

        return read, structured

    def expelliarmus() -> tuple[Read, Callable[[Any], Columns]]:
        wizard = importlib.import_module("expelliarmus").Wizard(encoding={"aedat4": "aedat"}.get(kind, kind))
        return (lambda file: wizard.read(str(file))), structured

    def faery() -> tuple[Read, Callable[[Any], Columns]]:
        library = importlib.import_module("faery")
        size_of = {"dimensions_fallback": (size.width, size.height)}
        return (
            lambda file: library.events_stream_from_file(str(file), **size_of).to_array(),
            lambda table: structured(table, "on"),
        )

    def evt3() -> tuple[Read, Callable[[Any], Columns]]:
        library = importlib.import_module("evt3")
        return (lambda file: library.decode_file(str(file))), lambda e: (e.timestamp, e.x, e.y, e.polarity)

    def aedat() -> tuple[Read, Callable[[Any], Columns]]:
        library = importlib.import_module("aedat")
        return (
            lambda file: np.concatenate([p["events"] for p in library.Decoder(str(file)) if "events" in p]),
            lambda table: structured(table, "on"),
        )

    def tonic() -> tuple[Read, Callable[[Any], Columns]]:
        library = importlib.import_module("tonic.io")
        dtype = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])  # that of its N-MNIST
        return (lambda file: library.read_mnist_file(str(file), dtype)), structured

    def numpy_form() -> tuple[Read, Callable[[Any], Columns]]:
        """Whole columns of bytes, nothing checked: no reader, a bound."""

        def read(file: Path) -> Columns:
            raw = np.fromfile(file, np.uint8).astype(np.uint32)
            t = (raw[2::5] & 127) << 16 | raw[3::5] << 8 | raw[4::5]
            return t, raw[0::5], raw[1::5], (raw[2::5] & 128) >> 7

        return read, lambda columns: columns

    def h5py_form() -> tuple[Read, Callable[[Any], Columns]]:
        library = importlib.import_module("h5py")

        def read(file: Path) -> Columns:
            with library.File(file) as opened:
                if kind == "hdf5":
                    group = opened["events"]
                    return group["t"][:] + opened["t_offset"][()], group["x"][:], group["y"][:], group["p"][:]
                return structured(opened["CD/events"][:])

        return read, lambda columns: columns

    others = {
        "evt3": (("evutils", evutils), ("evt3", evt3), ("expelliarmus", expelliarmus), ("faery", faery)),
        "evt2": (("evutils", evutils), ("expelliarmus", expelliarmus), ("faery", faery)),
        "dat": (("evutils", evutils), ("expelliarmus", expelliarmus), ("faery", faery)),
        "aedat4": (("evutils", evutils), ("aedat", aedat), ("faery", faery)),
        "nmnist": (("tonic", tonic), ("bare numpy", numpy_form)),
        "hdf5": (("evutils", evutils), ("bare h5py", h5py_form)),
        "hdf5_prophesee": (("evutils", evutils), ("bare h5py", h5py_form)),
    }
    for name, make in others[kind]:
        add(name, make)
    return found


def compared(ours: EventStream, columns: Columns) -> str:
    """ "equal", or what is not."""
    if len(columns[0]) != len(ours):
        return f"{len(columns[0])} events of {len(ours)}"
    wrong = []
    for name, theirs in zip("txyp", columns, strict=True):
        theirs, mine = np.asarray(theirs).astype(np.int64), getattr(ours, name)
        share = float(((theirs > 0) == mine if name == "p" else theirs == mine).mean())
        if share < 1:
            wrong.append(f"{name} wrong for {1 - share:.1%}")
    return ", ".join(wrong) or "equal"


def timed(kind: str, path: Path, rounds: int) -> dict[str, Any]:
    ours = open_events(path, height=None, width=None)
    found: dict[str, Any] = {"events": len(ours), "bytes": path.stat().st_size, "readers": {}}
    calls: dict[str, Read] = {}
    for name, (_, read, columns) in readers(kind, path).items():
        try:
            same = compared(ours, columns(read(path)))
        except Exception as error:
            found["readers"][name] = {"fails": " ".join(f"{type(error).__name__}: {error}".split())[:160]}
            continue
        calls[name] = read
        found["readers"][name] = {"events_against_ours": same, "wall": [], "processor": []}
    inner = max(1, min(200, 300_000 // max(len(ours), 1)))
    for _ in range(rounds):
        for name, read in calls.items():
            gc.collect()
            wall, processor = time.perf_counter(), time.process_time()
            for _ in range(inner):
                result = read(path)
            spent = (time.perf_counter() - wall, time.process_time() - processor)
            del result
            for key, seconds in zip(("wall", "processor"), spent, strict=True):
                found["readers"][name][key].append(len(ours) * inner / max(seconds, 1e-9) / 1e6)
    for name in calls:
        row = found["readers"][name]
        for key in ("wall", "processor"):
            speeds = sorted(row.pop(key))
            low, middle, high = statistics.quantiles(speeds, n=4) if len(speeds) > 1 else speeds * 3
            row[f"{key}_mevents_per_s"] = {
                "median": round(middle, 1), "quartiles": [round(low, 1), round(high, 1)], "best": round(speeds[-1], 1)
            }  # fmt: skip
    return found


def memory_kB() -> tuple[int, int]:
    """What this process has of its own in memory, and what it has mapped of files that are in the page cache anyway."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]), int(lines["RssFile"].split()[0])


def container(folder: Path, events: int) -> dict[str, Any]:
    """A window of 10 ms out of a container: how long, and how much memory that takes."""
    path = folder / "large.events"
    step = 4_000_000
    rng = np.random.default_rng(0)

    def streams():
        for first in range(0, events, step):
            t = np.arange(first, min(first + step, events), dtype=np.int64)  # a million events a second
            x, y = rng.integers(0, 1280, len(t), np.uint16), rng.integers(0, 720, len(t), np.uint16)
            yield EventStream(t, x, y, (x & 1).astype(np.uint8), 720, 1280)

    write_events(path, streams())
    opening, cutting, memory = [], [], []
    for i in range(200):
        before = memory_kB()
        begin = time.perf_counter()
        recording = open_events(path)
        opening.append(time.perf_counter() - begin)
        start = int(rng.integers(0, events - 10_000))
        begin = time.perf_counter()
        window = recording.between(start, start + 10_000)
        columns = [np.array(column) for column in (window.t, window.x, window.y, window.p)]  # all of it is looked at
        cutting.append(time.perf_counter() - begin)
        memory.append([now - then for now, then in zip(memory_kB(), before, strict=True)])
        assert len(columns[0]) == 10_000, i
        del recording, window, columns
    path.unlink()
    return {
        "events": events,
        "events_in_10_ms": 10_000,
        "open_ms": {"median": statistics.median(opening) * 1e3, "worst": max(opening) * 1e3},
        "window_ms": {"median": statistics.median(cutting) * 1e3, "worst": max(cutting) * 1e3},
        "more_memory_kB": dict(zip(("own", "mapped"), map(statistics.median, zip(*memory, strict=True)), strict=True)),
        "slice_kB": 13 * 10_000 / 1000,
    }


def machine() -> dict[str, Any]:
    lines = dict(
        line.split(":", 1) for line in subprocess.run(["lscpu"], capture_output=True, text=True).stdout.splitlines()
    )
    return {
        "processor": lines.get("Model name", "").strip(),
        "cores": os.cpu_count(),
        "flags": lines.get("Flags", "").strip(),
        "load_average": os.getloadavg(),
        "instruction_set": decoding._native.instruction_set() if decoding._native else "plain NumPy",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of event recordings")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="files whose name holds this; others stay as they were")
    parser.add_argument("--container", type=int, default=0, metavar="N", help="also slices of a container of N events")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "events" / "decode.json")
    options = parser.parse_args()
    warnings.simplefilter("ignore", EventsWarning)
    record: dict[str, Any] = {
        "format": "saccade-events-decode-1",
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
    }
    record |= {
        "command": "python benchmarks/events_decode.py --data DATA",
        "rounds": options.rounds,
        "machine": machine(),
    }
    record["commit"] = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    record["files"] = {}
    if options.only and options.out.is_file():  # the others stay as they were
        record = json.loads(options.out.read_text()) | {"machine": record["machine"], "commit": record["commit"]}
    names: set[str] = set()
    with tempfile.TemporaryDirectory() as place:
        for name, (path, kind) in files(options.data, Path(place)).items():
            if options.only not in name:
                continue
            record["files"][name] = found = timed(kind, path, options.rounds)
            names |= set(found["readers"])
            print(f"{name}: {found['events']:,} events, {found['bytes']:,} bytes")
            for reader, row in found["readers"].items():
                if "fails" in row:
                    print(f"    {reader:14} fails: {row['fails']}")
                    continue
                wall, processor = row["wall_mevents_per_s"], row["processor_mevents_per_s"]
                words = f"wall {wall['median']:7.1f} (best {wall['best']:7.1f}), processor {processor['median']:7.1f}"
                print(f"    {reader:14} {words} Mevents/s, {row['events_against_ours']}", flush=True)
        if options.container:
            record["container"] = container(Path(place), options.container)
            print(json.dumps(record["container"]))
    versions = {}
    for name in sorted(names - {"saccade"}):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    record["versions"] = record.get("versions", {}) | versions
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
