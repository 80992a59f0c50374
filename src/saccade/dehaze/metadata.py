"""What a picture file carries besides its pixels: colour profile, EXIF, resolution, the colour chunks of a PNG."""

from __future__ import annotations

import contextlib
import io
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

# Of EXIF's main directory what describes the picture: description, camera, software, date, artist, copyright, resolution, and
# EXIF's own range. Not how the file was stored, not its orientation (applied), not the thumbnail (which is hazy).
DESCRIPTIVE = frozenset({0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298})
EXIF_RANGE = range(0x829A, 0xA500)
STORAGE = frozenset({0x83BB, 0x8649, 0x8769, 0x8773, 0x8825})  # IPTC, Photoshop, profile; two directories of their own
DIRECTORIES = (0x8769, 0x8825)  # EXIF, GPS
STALE = frozenset(
    {0x927C, 0xA002, 0xA003, 0xA005}
)  # maker's notes (by offsets), old width and height, interoperability
COLOUR_CHUNKS = frozenset({b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI"})
PROFILE, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT, INCH = 34675, 282, 283, 296, 2


@dataclass(frozen=True)
class Metadata:
    """``profile``: ICC profile of the pixels. ``exif``: EXIF without orientation and thumbnail, after its ``Exif`` mark.

    ``dpi``: dots an inch across and down. ``png``: colour chunks as they stand in a PNG file.
    """

    profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    png: bytes = b""


NOTHING = Metadata()


def read_metadata(path: Path, file: Image) -> Metadata:
    """What an opened picture carries; parts that are damaged are left out, as a picture without them still is one."""
    profile = file.info.get("icc_profile")
    if not isinstance(profile, bytes) or len(profile) < 132 or profile[36:40] != b"acsp":
        profile = None
    exif, turned = None, False
    with contextlib.suppress(Exception):  # EXIF's reader raises nearly anything on damaged data
        exif, turned = _exif(file)
    return Metadata(profile, exif, _dpi(file, turned), _colour_chunks(path) if file.format == "PNG" else b"")


def _exif(file: Image) -> tuple[bytes | None, bool]:
    """EXIF to keep, and whether orientation swaps the sides."""
    from PIL.Image import Exif

    found, kept = file.getexif(), Exif()
    turned = found.get(0x0112) in (5, 6, 7, 8)
    for tag, value in found.items():
        if tag in DESCRIPTIVE or (tag in EXIF_RANGE and tag not in STORAGE):
            kept[tag] = value
    if turned and X_RESOLUTION in kept and Y_RESOLUTION in kept:
        kept[X_RESOLUTION], kept[Y_RESOLUTION] = kept[Y_RESOLUTION], kept[X_RESOLUTION]
    for directory in DIRECTORIES:
        inside = {tag: value for tag, value in found.get_ifd(directory).items() if tag not in STALE}
        if inside:
            kept[directory] = inside
    return kept.tobytes() if len(kept) else None, turned


def _dpi(file: Image, turned: bool) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in file.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if not all(math.isfinite(value) and 1 <= value < 65535 for value in (across, down)):  # what JPEG can hold
        return None
    return (down, across) if turned else (across, down)


def colour_space(profile: bytes) -> str:
    """The colour space of a profile's pixels: RGB, GRAY, CMYK, ..."""
    return profile[16:20].decode("latin-1").strip()


def to_srgb(image: Image, profile: bytes) -> Image | None:
    """A picture in the colours of sRGB, for a place that cannot hold its profile; None where the profile does not fit it."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def save_options(metadata: Metadata, suffix: str) -> dict[str, Any]:
    """Arguments of Pillow's ``save`` for what the format of ``suffix`` can hold."""
    options: dict[str, Any] = {}
    if metadata.profile is not None and suffix != ".bmp":
        options["icc_profile"] = metadata.profile
    fits = suffix not in (".jpg", ".jpeg") or len(metadata.exif or b"") < 65_000  # a JPEG's segment
    if metadata.exif is not None and suffix != ".bmp" and fits:
        options["exif"] = metadata.exif
    if metadata.dpi is not None and suffix != ".webp":  # WebP has it in EXIF only
        options["dpi"] = metadata.dpi
    return options


# PNG


def _colour_chunks(path: Path) -> bytes:
    """The colour chunks of a PNG file, whole; they stand before its pixels."""
    found = b""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            size, name = struct.unpack(">I4s", head)
            if name in (b"IDAT", b"IEND"):
                break
            if name in COLOUR_CHUNKS and size <= 64:
                found += head + file.read(size + 4)
            else:
                file.seek(size + 4, io.SEEK_CUR)
    return found


def png_with(data: bytes, chunks: bytes) -> bytes:
    """A PNG file with chunks put behind its header."""
    return data[:33] + chunks + data[33:]  # signature 8, IHDR 25


def png_chunks(metadata: Metadata) -> bytes:
    """All that a PNG holds of it, as chunks."""
    chunks = metadata.png
    if metadata.profile is not None:
        chunks += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.profile))
    if metadata.dpi is not None:
        across, down = (round(value / 0.0254) for value in metadata.dpi)
        chunks += _chunk(b"pHYs", struct.pack(">IIB", across, down, 1))
    if metadata.exif is not None:
        chunks += _chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0"))
    return chunks


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


# TIFF


def tiff_with(data: bytes, metadata: Metadata) -> bytes:
    """A TIFF file (one directory, little endian, under 4 GB) with profile, resolution and EXIF added to its directory."""
    from PIL.Image import Exif
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    extra: Any = ImageFileDirectory_v2(ifh=b"II*\0\0\0\0\0")
    if metadata.exif is not None:
        exif = Exif()
        exif.load(metadata.exif)
        for tag in exif:
            extra[tag] = exif.get_ifd(tag) if tag in DIRECTORIES else exif[tag]
    if metadata.profile is not None:
        extra[PROFILE] = metadata.profile
        extra.tagtype[PROFILE] = 7
    if metadata.dpi is not None:
        extra[X_RESOLUTION], extra[Y_RESOLUTION], extra[RESOLUTION_UNIT] = *metadata.dpi, INCH
    if not len(extra) or data[:4] != b"II*\0":
        return data
    data += b"\0" * (len(data) % 2)
    start = len(data)
    data += extra.tobytes(start)
    entries = _entries(data, struct.unpack_from("<I", data, 4)[0]) | _entries(data, start)
    data += b"\0" * (len(data) % 2)
    directory = struct.pack("<H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + b"\0\0\0\0"
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


def _entries(data: bytes, at: int) -> dict[int, bytes]:
    """The entries of a directory by tag, 12 bytes each."""
    count = struct.unpack_from("<H", data, at)[0]
    found = (data[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(count))
    return {struct.unpack_from("<H", entry)[0]: entry for entry in found}
