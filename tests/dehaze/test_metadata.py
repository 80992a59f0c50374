"""What a picture file carries besides its pixels comes out again: profile, EXIF, resolution, colour chunks."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from saccade.cli.main import run
from saccade.dehaze import Dehazer
from saccade.dehaze.pictures import Picture, read_picture, write_picture

ORIENTATION, DATE, TAKEN, MODEL = 0x0112, 0x0132, 0x9003, 0x0110


@functools.cache  # it carries the second in which it was made
def profile(gamma: float = 2.2, space: str = "RGB") -> bytes:
    """A profile that is not sRGB: its colours with another gamma, or grey with one."""
    plain = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if space == "RGB":
        plain[50:60] = b"other prof"[:10]  # reserved bytes of the header: only to tell it apart
        return bytes(plain)
    curve = b"curv" + b"\0" * 4 + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    white = b"XYZ " + b"\0" * 4 + struct.pack(">iii", 63190, 65536, 54061)
    words = b"desc" + b"\0" * 4 + struct.pack(">I", 2) + b"g\0" + b"\0" * 78
    parts, at = [(b"desc", words), (b"wtpt", white), (b"kTRC", curve)], 128 + 4 + 36
    table, body = struct.pack(">I", 3), b""
    for name, data in parts:
        data += b"\0" * (-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    head = bytearray(plain[:128])
    head[8:12], head[12:16], head[16:20], head[20:24] = b"\2\x10\0\0", b"mntr", b"GRAY", b"XYZ "
    head[0:4] = struct.pack(">I", at + len(body))
    return bytes(head) + table + body


def exif(turn: int = 1) -> Image.Exif:
    found = Image.Exif()
    found[ORIENTATION], found[DATE], found[MODEL] = turn, "2024:01:02 03:04:05", "Box 1"
    found[0x8769] = {TAKEN: "2023:12:31 00:00:00", 0x927C: b"maker", 0xA002: 1}
    found[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    return found


def check(path: Path, size: tuple[int, int], dpi: tuple[int, int] | None) -> None:
    with Image.open(path) as file:
        assert file.size == size
        found = file.getexif()
        assert file.info["icc_profile"] == profile()
        assert found.get(ORIENTATION, 1) == 1
        assert (found[DATE], found[MODEL]) == ("2024:01:02 03:04:05", "Box 1")
        inside = found.get_ifd(0x8769)
        assert inside[TAKEN] == "2023:12:31 00:00:00"
        assert 0x927C not in inside
        assert found.get_ifd(0x8825)[1] == "N"
        if dpi is not None:
            assert [round(float(value)) for value in file.info["dpi"]] == list(dpi)


KEPT = [(name, turn) for name in ("a.jpg", "a.png", "a.tif", "a.webp") for turn in (1, 6)]


@pytest.mark.parametrize(("name", "turn"), [*KEPT, ("deep.png", 1), ("deep.tif", 1)])
def test_profile_date_and_resolution_stay(tmp_path, hazy, name, turn):
    small = np.ascontiguousarray(hazy[:40, :60])
    given = {"icc_profile": profile(), "dpi": (300, 150), "exif": exif(turn).tobytes()}
    source, out = tmp_path / name, tmp_path / "out" / name
    if name.startswith("deep"):
        from saccade.dehaze.metadata import Metadata

        carried = Metadata(profile(), exif().tobytes(), (300, 150))
        write_picture(source, Picture(small.astype(np.uint16) * 257, None, carried))
        assert (read_picture(source).pixels == small.astype(np.uint16) * 257).all()
    else:
        Image.fromarray(small).save(source, **given)
    assert run(["dehaze", "run", str(source), "--out", str(out)]) == 0
    dpi = None if name.endswith("webp") else ((300, 150) if turn == 1 else (150, 300))
    check(out, (60, 40) if turn == 1 else (40, 60), dpi)


def test_plain_pictures_are_the_same_bytes(tmp_path, hazy):
    small = np.ascontiguousarray(hazy[:40, :60])
    for preset in ("fidelity", "clear"):
        pixels = Dehazer(preset)(small)
        for name, options in (
            ("a.png", {}),
            ("a.jpg", {"quality": 95, "subsampling": 0}),
            ("a.tif", {}),
            ("a.bmp", {}),
            ("a.webp", {"lossless": True}),
        ):
            Image.fromarray(small).save(tmp_path / "in.png")
            assert (
                run(["dehaze", "run", str(tmp_path / "in.png"), "--out", str(tmp_path / name), "--preset", preset]) == 0
            )
            plain = io.BytesIO()
            Image.fromarray(pixels).save(plain, format=Image.registered_extensions()[Path(name).suffix], **options)
            assert (tmp_path / name).read_bytes() == plain.getvalue()


def test_colours_that_the_result_cannot_hold_become_srgb(tmp_path, hazy):
    grey = np.ascontiguousarray(hazy[:40, :60, 0])
    Image.fromarray(grey).save(tmp_path / "grey.png", icc_profile=profile(1.0, "GRAY"))
    kept = read_picture(tmp_path / "grey.png")
    assert kept.metadata.profile == profile(1.0, "GRAY")
    assert (kept.pixels == grey).all()
    Image.fromarray(np.dstack([grey, grey])).save(tmp_path / "alpha.png", icc_profile=profile(1.0, "GRAY"))
    with_alpha = read_picture(tmp_path / "alpha.png")  # alpha makes RGB of it, which a grey profile is not for
    assert with_alpha.metadata.profile is None
    linear = grey / 255.0
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(with_alpha.pixels - srgb[..., None]).max() < 2
    assert (with_alpha.alpha == grey).all()
    plain = read_picture(tmp_path / "grey.png")
    bmp = write_picture(tmp_path / "grey.bmp", plain)
    assert np.abs(read_picture(bmp).pixels - srgb[..., None]).max() < 2


def test_png_colour_chunks_stay(tmp_path, hazy):
    Image.fromarray(np.ascontiguousarray(hazy[:40, :60])).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    body = b"gAMA" + struct.pack(">I", 100_000)
    chunk = struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    assert run(["dehaze", "run", str(tmp_path / "a.png"), "--out", str(tmp_path / "b.png")]) == 0
    assert chunk in (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "b.png") as file:
        assert file.info["gamma"] == 1.0


def test_damaged_metadata_is_left_out(tmp_path, hazy):
    image = Image.fromarray(np.ascontiguousarray(hazy[:40, :60]))
    image.save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f", icc_profile=b"no profile at all")
    assert run(["dehaze", "run", str(tmp_path / "a.jpg"), "--out", str(tmp_path / "b.jpg")]) == 0
    with Image.open(tmp_path / "b.jpg") as file:
        assert "icc_profile" not in file.info
        assert not len(file.getexif())


@pytest.mark.parametrize("levels", [65535, 1023])
def test_deep_netpbm_keeps_its_levels_or_is_refused(tmp_path, levels):
    pixels = np.linspace(0, levels, 8 * 6 * 3).astype(">u2").reshape(6, 8, 3)
    (tmp_path / "a.ppm").write_bytes(b"P6\n# words\n8 6\n%d\n" % levels + pixels.tobytes())
    if levels == 65535:
        assert (read_picture(tmp_path / "a.ppm").pixels == pixels).all()
    else:
        with pytest.raises(ValueError, match=r"a.ppm: unreadable picture \(1,024 levels"):
            read_picture(tmp_path / "a.ppm")


@pytest.mark.parametrize("kind", ["F", "I"])
def test_thirty_two_bits_are_refused_by_name(tmp_path, kind):
    Image.new(kind, (9, 9)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=rf"a.tif: unreadable picture \(mode {kind}, 32 bits"):
        read_picture(tmp_path / "a.tif")
