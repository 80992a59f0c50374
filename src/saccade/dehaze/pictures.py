"""Picture files: read whatever people have, write aside and rename."""

from __future__ import annotations

import contextlib
import os
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

    Raises ValueError naming the file if it cannot be decoded.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            if _deep(path, file):
                return _read_deep(path)
            if file.mode in ("F", "I"):
                raise ValueError(f"mode {file.mode}, 32 bits a channel: convert it to 8 or 16 bits")
            image = ImageOps.exif_transpose(file)
            if image.mode in ("1", "L"):
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


def write_picture(path: Path, picture: Picture) -> Path:
    """Write beside its place, then rename; returns where it went: formats that cannot be written become .png.

    Raises OSError naming the path if it cannot be written. JPEG has no alpha; quality is 95, without colour subsampling.
    """
    suffix = path.suffix.lower()
    deep = picture.pixels.dtype == np.uint16
    if suffix not in WRITTEN or (deep and suffix not in DEEP):
        path, suffix = path.with_suffix(".png"), ".png"
    aside = path.with_name(f".{path.name}.part{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if deep:
            _write_deep(aside, picture)
        else:
            _write(aside, suffix, picture)
        os.replace(aside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise OSError(f"{path}: cannot be written ({error.strerror or error})") from None
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


def _read_deep(path: Path) -> Picture:
    cv2 = need("cv2")
    whole = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if whole is None:
        raise ValueError("the 16-bit decoder could not read it")
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
