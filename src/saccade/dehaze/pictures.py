"""Picture files: read whatever people have, write aside and rename."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.dehaze.optional import need

READ = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
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
    """``pixels`` uint8 or uint16, RGB ``[H, W, 3]`` or grey ``[H, W]``; ``alpha`` ``[H, W]`` of the same type, or None."""

    pixels: NDArray
    alpha: NDArray | None = None


def is_picture(path: Path) -> bool:
    """Whether a file has a picture's extension and is not hidden."""
    return path.suffix.lower() in READ and not path.name.startswith(".") and path.is_file()


def read_picture(path: Path) -> Picture:
    """Decode a file: turned as its EXIF mark says, CMYK and palettes as RGB, 16 bits kept, alpha apart.

    Of several pictures in one file (an animation, pages) the first.

    Raises ValueError naming the file if it cannot be decoded.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            if _deep(path, file):
                turned = file.getexif().get(0x0112, 1) if file.format == "PNG" else 1  # OpenCV turns TIFFs, no PNGs
                return _read_deep(path, turned)
            if file.mode in ("F", "I"):
                raise ValueError(f"mode {file.mode}, 32 bits a channel: convert it to 8 or 16 bits")
            file.filename = ""  # else Pillow maps a grey TIFF into memory with its sides exchanged before it is turned
            image = ImageOps.exif_transpose(file)
            if image.mode in ("1", "L") and "transparency" not in image.info:
                return Picture(np.array(image.convert("L")))
            if "A" in image.getbands() or "transparency" in image.info:
                whole = np.array(image.convert("RGBA"))
                return Picture(np.ascontiguousarray(whole[..., :3]), np.ascontiguousarray(whole[..., 3]))
            return Picture(np.array(image.convert("RGB")))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except PermissionError:
        raise ValueError(f"{path}: no permission to read it") from None
    except ModuleNotFoundError:
        raise
    except Exception as error:  # decoders of damaged files raise nearly anything
        reason = " ".join(str(error).split()).replace(f" '{path}'", "") or type(error).__name__
        raise ValueError(f"{path}: unreadable picture ({reason}): replace or delete it") from None


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

    pixels = picture.pixels
    if picture.alpha is not None and suffix not in (".jpg", ".jpeg", ".bmp"):
        pixels = np.dstack([pixels, picture.alpha])
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if WRITTEN[suffix] == "JPEG" else {}
    if suffix == ".webp":
        options = {"lossless": True}
    Image.fromarray(pixels).save(path, format=WRITTEN[suffix], **options)


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
    return False


def _read_deep(path: Path, turned: int) -> Picture:
    cv2 = need("cv2")
    whole = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
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
    cv2 = need("cv2")
    whole = picture.pixels if picture.pixels.ndim == 2 else picture.pixels[..., ::-1]
    if picture.alpha is not None and whole.ndim == 3:
        whole = np.dstack([whole, picture.alpha])
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(whole))
    if not done:
        raise OSError(f"no encoder for {path.suffix} with 16 bits")
    path.write_bytes(data.tobytes())
