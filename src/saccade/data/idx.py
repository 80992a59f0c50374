"""The idx format of the MNIST family, plain or gzipped."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_UNSIGNED_BYTES = 0x08
_MOST_BYTES = 1 << 32  # a header may claim anything: no set of this family comes near 4 GiB


def read_idx(path: Path) -> Tensor:
    """The uint8 array of an idx file, [count] or [count, rows, columns]; gzipped if the name ends in .gz.

    Header: two zero bytes, a type code (0x08: unsigned bytes), the number of dimensions, then each dimension as a
    big-endian uint32. Raises FileNotFoundError, or ValueError with one line on what is wrong with the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(4)
            if len(start) < 4 or start[:2] != b"\0\0" or not 1 <= start[3] <= 4:
                raise ValueError(f"{path}: not an idx file (starts with {start.hex(' ') or 'nothing'}): fetch it again")
            if start[2] != _UNSIGNED_BYTES:
                raise ValueError(f"{path}: idx type 0x{start[2]:02x} at byte 2, where images and labels have 0x08")
            header = file.read(4 * start[3])
            if len(header) < 4 * start[3]:
                raise ValueError(f"{path}: ends within its header: fetch it again")
            dimensions = [int(size) for size in np.frombuffer(header, ">u4")]
            expected = math.prod(dimensions)
            if math.prod(size or 1 for size in dimensions) > _MOST_BYTES:
                raise ValueError(f"{path}: its header claims {dimensions}, {expected} bytes: fetch it again")
            payload = file.read(expected + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: truncated or damaged gzip ({error}): fetch it again") from None
    if len(payload) != expected:
        length = "more" if len(payload) > expected else str(len(payload))
        raise ValueError(f"{path}: its header says {dimensions}, {expected} bytes, but {length} follow: fetch it again")
    return torch.from_numpy(np.frombuffer(payload, np.uint8).copy()).view(dimensions)


def find_idx(folder: Path, name: str) -> Path | None:
    """folder/name, else folder/name.gz, else None."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
