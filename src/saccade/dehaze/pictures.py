"""Picture files: read whatever people have, write aside and rename."""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.data.folder import EXTENSIONS as READ
from saccade.data.folder import FORMATS, MOST_PIXELS
from saccade.data.quiet import quiet
from saccade.dehaze.metadata import (
    NOTHING,
    Metadata,
    colour_space,
    png_chunks,
    png_with,
    read_metadata,
    save_options,
    tiff_with,
    to_srgb,
)
from saccade.optional import need

MAX_PIXELS = MOST_PIXELS
DEEP_COSTS = 5  # a picture with 16 bits a channel takes 177 bytes a pixel, others 39: its pixels count so many times
WRITTEN = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
# EXIF's orientations, to undo them
TURNS: dict[int, Callable[[NDArray], NDArray]] = {
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: np.rot90,
}
DEEP = frozenset({".png", ".tif", ".tiff"})  # keep 16 bits


@dataclass(frozen=True)
class Picture:
    """``pixels`` uint8 or uint16, RGB ``[H, W, 3]`` or grey ``[H, W]``; ``alpha`` ``[H, W]`` of the same type, or None.

    ``metadata``: what goes with the pixels into the file.
    """

    pixels: NDArray
    alpha: NDArray | None = None
    metadata: Metadata = NOTHING


def is_picture(path: Path) -> bool:
    """Whether a file has a picture's extension and is not hidden."""
    return path.suffix.lower() in READ and not path.name.startswith(".") and path.is_file()


def check_size(width: int, height: int, max_pixels: int, deep: bool = False) -> None:
    """Raises ValueError where a picture has more than ``max_pixels``; before it is decoded, for its memory's sake."""
    if width * height * (DEEP_COSTS if deep else 1) > max_pixels:
        allowed = max_pixels / 1e6 / (DEEP_COSTS if deep else 1)
        raise ValueError(
            f"{width} x {height} pixels, {width * height / 1e6:.0f} million; at most {allowed:g} million"
            f"{' with 16 bits a channel' if deep else ''} are decoded: raise --max-megapixels if you trust it"
        )


def read_picture(path: Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a file: turned as its EXIF mark says, CMYK and palettes as RGB, 16 bits kept, alpha and metadata apart.

    The content is one of ``FORMATS``, whatever the name says. Of several pictures in one file (an animation, pages) the first.

    Raises ValueError naming the file if it cannot be decoded or has more than ``max_pixels``, told from its header.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        if path.exists() and not path.is_file():
            raise ValueError("no regular file")
        with quiet(), _open(path) as file:
            is_deep = _deep(path, file)
            check_size(file.width, file.height, max_pixels, is_deep)
            metadata = read_metadata(path, file)
            if is_deep:
                turned = file.getexif().get(0x0112, 1) if file.format == "PNG" else 1  # OpenCV turns TIFFs, no PNGs
                picture = _read_deep(path, turned)
                if metadata.profile and picture.pixels.ndim == 3 and colour_space(metadata.profile) != "RGB":
                    metadata = replace(metadata, profile=None)
                return replace(picture, metadata=metadata)
            if file.mode in ("F", "I"):
                raise ValueError(f"mode {file.mode}, 32 bits a channel: convert it to 8 or 16 bits")
            file.filename = ""  # else Pillow maps a grey TIFF into memory with its sides exchanged before it is turned
            image: Image.Image = ImageOps.exif_transpose(file)
            return _as_picture(image, metadata)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except PermissionError:
        raise ValueError(f"{path}: no permission to read it") from None
    except ModuleNotFoundError:
        raise
    except UnidentifiedImageError:
        raise ValueError(f"{path}: unreadable picture (none of {', '.join(FORMATS)}): replace or delete it") from None
    except Exception as error:  # decoders of damaged files raise nearly anything
        reason = " ".join(str(error).split()).replace(f" '{path}'", "") or type(error).__name__
        if "--max-megapixels" in reason:
            raise ValueError(f"{path}: {reason}") from None
        raise ValueError(f"{path}: unreadable picture ({reason}): replace or delete it") from None


_OPENING = threading.Lock()


def _open(path: Path) -> Any:
    """Open a file as one of the formats. Sizes are checked by ``check_size``, Pillow's own limit would stand in its way."""
    from PIL import Image

    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _as_picture(image: Any, metadata: Metadata) -> Picture:
    """A decoded picture of 8 bits a channel as grey, RGB or either with alpha; in sRGB where the profile is for others."""
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return Picture(np.array(image.convert("L")), None, metadata)
    alpha = None
    if "A" in image.getbands() or "transparency" in image.info:
        whole = np.array(image.convert("RGBA"))
        pixels, alpha = np.ascontiguousarray(whole[..., :3]), np.ascontiguousarray(whole[..., 3])
    else:
        pixels = np.array(image.convert("RGB"))
    if metadata.profile is not None and colour_space(metadata.profile) != "RGB":
        converted = to_srgb(image.convert("L") if image.mode == "LA" else image, metadata.profile)
        pixels = pixels if converted is None else np.array(converted)
        metadata = replace(metadata, profile=None)
    return Picture(pixels, alpha, metadata)


def place_of(path: Path, picture: Picture) -> Path:
    """Where ``write_picture`` puts a picture: a format that cannot be written, or not in its 16 bits, becomes .png."""
    suffix = path.suffix.lower()
    fits = suffix in (DEEP if picture.pixels.dtype == np.uint16 else WRITTEN)
    return path if fits else path.with_suffix(".png")


def aside_of(path: Path) -> Path:
    """A hidden name beside a file to write to before renaming, short however long the file's own is."""
    return path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}-{os.getpid()}.part{path.suffix.lower()}")


def write_picture(path: Path, picture: Picture) -> Path:
    """Write beside its place, then rename; returns where it went (``place_of``).

    Raises OSError naming the path if it cannot be written, with the system's ``errno`` where it has one. JPEG has no alpha;
    quality is 95, without colour subsampling.
    """
    path = place_of(path, picture)
    suffix = path.suffix.lower()
    deep = picture.pixels.dtype == np.uint16
    aside = aside_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if deep:
            _write_deep(aside, picture)
        else:
            _write(aside, suffix, picture)
        os.replace(aside, path)
    except (OSError, ValueError) as error:  # ValueError: an encoder's limits, such as the 16383 pixels of WebP
        with contextlib.suppress(OSError):
            aside.unlink()
        failure = OSError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})")
        failure.errno = getattr(error, "errno", None)
        raise failure from None
    return path


def _write(path: Path, suffix: str, picture: Picture) -> None:
    from PIL import Image

    pixels, metadata = picture.pixels, picture.metadata
    if picture.alpha is not None and suffix not in (".jpg", ".jpeg", ".bmp"):
        pixels = np.dstack([pixels, picture.alpha])
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if WRITTEN[suffix] == "JPEG" else {}
    if suffix == ".webp":
        options = {"lossless": True}
    image: Image.Image = Image.fromarray(pixels)
    if suffix == ".bmp" and metadata.profile is not None:  # which holds no profile
        image = to_srgb(image, metadata.profile) or image
    options |= save_options(metadata, suffix)
    if suffix == ".png" and metadata.png:
        whole = io.BytesIO()
        image.save(whole, format="PNG", **options)
        path.write_bytes(png_with(whole.getvalue(), metadata.png))
    else:
        image.save(path, format=WRITTEN[suffix], **options)


def _deep(path: Path, image: Any) -> bool:
    """16 bits a channel: Pillow keeps them in grey pictures only, and makes 8 of them in colour without a word."""
    if image.mode.startswith("I;16"):
        return True
    if image.format == "PNG":
        with path.open("rb") as file:
            header = file.read(25)
        return len(header) == 25 and header[24] == 16
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, (8,))
        return max(bits if isinstance(bits, tuple) else (bits,)) == 16
    if image.format == "PPM":
        with path.open("rb") as file:
            levels = re.match(rb"P[2356](?:(?:\s|#[^\n]*\n)+\d+){2}(?:\s|#[^\n]*\n)+(\d+)", file.read(4096))
        if levels and int(levels[1]) > 255:
            if int(levels[1]) != 65535:
                raise ValueError(f"{int(levels[1]) + 1:,} levels a channel: convert it to 8 or 16 bits")
            return True
    return False


def _check_chunks(content: bytes) -> None:
    """Raises ValueError for a PNG with a chunk that ends behind the file: OpenCV would set aside the 4 GB that it claims."""
    at, name = 8, b""
    while content.startswith(b"\x89PNG") and name != b"IEND":
        if at + 12 > len(content):
            raise ValueError("it ends before its last chunk")
        size, name = struct.unpack(">I4s", content[at : at + 8])
        at += 12 + size
        if at > len(content):
            raise ValueError(f"a chunk claims {size:,} bytes, more than the file has")


def _read_deep(path: Path, turned: int) -> Picture:
    cv2 = need("cv2", "dehaze")
    content = np.fromfile(path, np.uint8)
    _check_chunks(content.tobytes())
    logging = cv2.utils.logging
    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        whole = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    finally:
        logging.setLogLevel(level)
    if whole is None:
        raise ValueError("the 16-bit decoder could not read it")
    if whole.dtype != np.uint16:
        raise ValueError(f"{whole.dtype} samples: convert it to 8 or 16 bits without sign")
    whole = np.ascontiguousarray(TURNS.get(turned, lambda x: x)(whole))
    if whole.ndim == 2:
        return Picture(whole)
    pixels = np.ascontiguousarray(whole[..., 2::-1])
    return Picture(pixels, np.ascontiguousarray(whole[..., 3]) if whole.shape[2] == 4 else None)


def _write_deep(path: Path, picture: Picture) -> None:
    cv2 = need("cv2", "dehaze")
    whole = picture.pixels if picture.pixels.ndim == 2 else picture.pixels[..., ::-1]
    if picture.alpha is not None and whole.ndim == 3:
        whole = np.dstack([whole, picture.alpha])
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(whole))
    if not done:
        raise OSError(f"no encoder for {path.suffix} with 16 bits")
    if path.suffix == ".png":
        path.write_bytes(png_with(data.tobytes(), png_chunks(picture.metadata)))
    else:
        path.write_bytes(tiff_with(data.tobytes(), picture.metadata))
