"""What is opened, and how large: budgets from the header, listed formats, ordinary names."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.cli.main import run
from saccade.dehaze.pictures import read_picture
from saccade.dehaze.video import Writer, dehaze_video, open_clip


def told(capsys) -> str:
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    return line


def blank_png(path: Path, width: int, height: int, bits: int = 8) -> Path:
    """A grey PNG of zeros, small as a file."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = b"\0" * (1 + width * bits // 8)
    packer, data = zlib.compressobj(9), b""
    for _ in range(height):
        data += packer.compress(row)
    data += packer.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


def test_too_many_pixels_are_refused_from_the_header_in_little_memory(tmp_path):
    picture = blank_png(tmp_path / "bomb.png", 13312, 13312)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))

    words = [sys.executable, "-m", "saccade", "dehaze", "run", str(picture), "--out", str(tmp_path / "o.png")]
    done = subprocess.run(words, capture_output=True, text=True, preexec_fn=limited, timeout=120)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "bomb.png: 13312 x 13312 pixels, 177 million; at most 100 million are decoded: raise --max" in done.stderr


def test_the_budget_can_be_set(tmp_path, capsys):
    blank_png(tmp_path / "a.png", 1200, 1000)
    words = ["dehaze", "run", str(tmp_path / "a.png"), "--out", str(tmp_path / "b.png"), "--max-megapixels"]
    assert run([*words, "1"]) == 2
    assert "at most 1 million are decoded" in told(capsys)
    assert run([*words, "1.2"]) == 0
    for bad in ("0", "nan", "1e9"):
        assert run([*words, bad]) == 2
        assert "--max-megapixels is above 0" in capsys.readouterr().err
    blank_png(tmp_path / "deep.png", 300, 100, 16)
    with pytest.raises(ValueError, match=r"at most 0.02 million with 16 bits a channel"):
        read_picture(tmp_path / "deep.png", 100_000)
    (tmp_path / "f").mkdir()
    shutil.copy(tmp_path / "a.png", tmp_path / "f")
    words = ["dehaze", "eval", "--hazy", str(tmp_path / "f"), "--methods", "hazy", "--max-megapixels", "1"]
    assert run(words) == 1
    assert "raise --max-megapixels" in capsys.readouterr().err


def test_beyond_the_limit_of_the_library_without_its_warnings(tmp_path, recwarn):
    blank_png(tmp_path / "wide.png", 200_000, 1000)
    limit = Image.MAX_IMAGE_PIXELS
    assert read_picture(tmp_path / "wide.png", 300_000_000).pixels.shape == (1000, 200_000)
    assert limit == Image.MAX_IMAGE_PIXELS
    assert not recwarn.list


def test_frames_have_the_budget_too(tmp_path, hazy, capsys):
    pytest.importorskip("av")
    writer = Writer(tmp_path / "in.mp4", Fraction(25))
    writer.add(hazy)
    writer.close()
    words = ["dehaze", "run", str(tmp_path / "in.mp4"), "--out", str(tmp_path / "o.mp4"), "--max-megapixels", "0.05"]
    assert run(words) == 2
    assert "in.mp4: 370 x 250 pixels" in told(capsys)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_postscript_under_any_name_starts_nothing(tmp_path, capsys, monkeypatch, name):
    (tmp_path / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")

    def started(*words, **_):
        raise AssertionError(f"started {words}")

    monkeypatch.setattr(subprocess, "Popen", started)
    assert run(["dehaze", "run", str(tmp_path / name), "--out", str(tmp_path / "o.png")]) == 2
    assert f"{name}: unreadable picture (none of PNG, JPEG, BMP, GIF, PPM, TIFF, WEBP)" in told(capsys)


@pytest.mark.parametrize("suffix", [".png", ".mp4"])
def test_a_pipe_is_not_waited_for(tmp_path, capsys, suffix):
    os.mkfifo(tmp_path / f"pipe{suffix}")
    words = ["dehaze", "run", str(tmp_path / f"pipe{suffix}"), "--out", str(tmp_path / f"o{suffix}")]
    assert run(words) == 2
    assert f"pipe{suffix}" in told(capsys)


def clip(path: Path, hazy: np.ndarray) -> Path:
    writer = Writer(path, Fraction(25))
    for _ in range(3):
        writer.add(np.ascontiguousarray(hazy[:64, :96]))
    writer.close()
    return path


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile in.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nin.mp4\n#EXT-X-ENDLIST\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>',
    ],
)
def test_a_list_of_other_files_is_no_video(tmp_path, hazy, capsys, monkeypatch, text):
    pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)
    clip(Path("in.mp4"), hazy)
    Path("list.mp4").write_text(text)
    assert run(["dehaze", "run", "list.mp4", "--out", "o.mp4"]) == 2
    assert "list.mp4: cannot be opened as video (none of MP4, MOV, MKV" in told(capsys)
    assert not Path("o.mp4").exists()


def test_names_are_names_of_files(tmp_path, hazy, monkeypatch):
    pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)
    Path("a:b").mkdir()
    for name, out in (("12:30:05.mp4", "13:00:00.mp4"), ("a:b/http:x.mp4", "a:b/y.webm"), ("50%.mp4", "%03d.mp4")):
        clip(Path(name), hazy)
        assert run(["dehaze", "run", name, "--out", out]) == 0
        assert len(list(open_clip(Path(out)).frames)) == 3


def test_names_that_are_not_text(tmp_path, hazy, capfd):
    pytest.importorskip("av")
    odd = os.fsdecode(b"caf\xe9")
    try:
        clip(tmp_path / f"{odd}.mp4", hazy)
    except (OSError, UnicodeError):
        pytest.skip("a file system of names that are text")
    Image.fromarray(hazy[:40, :60].copy()).save(tmp_path / f"{odd}.png")
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    for suffix in (".mp4", ".png"):
        words = [sys.executable, "-m", "saccade", "dehaze", "run", str(tmp_path / f"{odd}{suffix}"), "--out"]
        done = subprocess.run([*words, str(tmp_path / f"{odd}-out{suffix}")], capture_output=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / f"{odd}-out{suffix}").is_file()


def test_the_time_of_the_first_frame_is_not_that_of_loading(tmp_path, hazy):
    """In a process of its own: what is printed as dehazing does not hold the loading of libraries."""
    pytest.importorskip("av")
    clip(tmp_path / "in.mp4", hazy)
    words = [
        sys.executable,
        "-m",
        "saccade",
        "dehaze",
        "run",
        str(tmp_path / "in.mp4"),
        "--out",
        str(tmp_path / "o.mp4"),
    ]
    done = subprocess.run([*words, "--frames", "1", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["dehazing_ms_per_frame"] < 200


def test_damaged_video_is_one_line(tmp_path, hazy):
    """Whatever FFmpeg's error is called, also of a stream without a decoder and of a file that ends in its header."""
    pytest.importorskip("av")
    rng, told = np.random.default_rng(5), []
    for suffix in (".mp4", ".mkv", ".ts", ".mpg", ".avi"):
        data = clip(tmp_path / f"in{suffix}", hazy).read_bytes()
        for _ in range(40):
            bad = bytearray(data[: rng.integers(1, len(data)) if rng.random() < 0.2 else len(data)])
            for at in rng.integers(0, min(len(bad), 800), 4):
                bad[at] = rng.integers(256)
            (tmp_path / f"bad{suffix}").write_bytes(bad)
            try:
                dehaze_video(tmp_path / f"bad{suffix}", tmp_path / "o.mp4", lambda frame: frame, max_pixels=10**6)
            except (ValueError, OSError) as error:
                told.append(str(error))
    assert len(told) > 50
    assert not any("\n" in line for line in told)
