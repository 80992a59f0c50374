"""Arrays of whole numbers in the fewest bytes that hold them exactly: what a program file stores, read off their values.

Three forms, of which the smallest is taken. "raw": the narrowest integers, which a file maps. "packed": ``base + step * code``
with codes of as many bits as the largest needs (weights of +-1 take one bit each). "codebook": kernels ``[O, I, kh, kw]`` of
which few differ, as those and a number for each kernel, both packed: 16 kernels of 3x3 take 4/9 of a bit a weight.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from saccade.deploy.values import Integers

Record = dict[str, Any]
LARGEST_BOOK = 1 << 12  # kernels
MOST_ALIKE = 1 << 26  # numbers of an array that takes no bytes, as all are the same
RAW: dict[str, np.dtype[Any]] = {kind: np.dtype(f"<{kind}") for kind in ("i1", "i2", "i4", "i8", "f8")}


def encode(array: np.ndarray) -> tuple[Record, bytes]:
    """A record that JSON holds, and the bytes that belong to it."""
    if array.dtype.kind == "f":
        return {"form": "raw", "type": "f8", "shape": list(array.shape)}, array.astype("<f8").tobytes()
    candidates = [_raw(array), _packed(array)]
    if array.ndim == 4 and array.shape[2] * array.shape[3] > 1 and array.size:
        candidates += _codebook(array)
    return min(candidates, key=lambda found: len(found[1]))


def decode(record: Record, data: memoryview) -> np.ndarray:
    """The array, int64 or float64; mapped where its bytes are those. Raises ValueError for bytes that do not belong to the
    record."""
    shape = tuple(record["shape"])
    if any(type(side) is not int or side < 0 for side in shape):
        raise ValueError(f"an array of the shape {list(shape)}")
    count = math.prod(shape)
    if record["form"] == "raw":
        kind = RAW[record["type"]]
        _fits(data, count * kind.itemsize)
        raw = np.frombuffer(data, kind).reshape(shape)
        return raw if kind.kind == "f" else raw.astype(np.int64)
    if record["form"] == "packed":
        base, step, bits = (_whole(record[key]) for key in ("base", "step", "bits"))
        if not 0 <= bits <= 62 or abs(base) + step * ((1 << bits) - 1) >= 1 << 63 or step < 1:
            raise ValueError("packed numbers need more than 64 bits")
        if not bits and count > MOST_ALIKE:
            raise ValueError(f"{count:,} equal numbers; {MOST_ALIKE:,} are the most")
        _fits(data, -(-count * bits // 8))
        return (base + step * _unpack(data, count, bits)).reshape(shape)
    if record["form"] == "codebook":
        cut = _whole(record["cut"])
        book, numbers = decode(record["book"], data[:cut]), decode(record["numbers"], data[cut:])
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(book):
            raise ValueError("a kernel that is not in its codebook")
        return book[numbers].reshape(shape)
    raise ValueError(f"an array of the form {record['form']!r}")


def _raw(array: Integers) -> tuple[Record, bytes]:
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    kind = next(k for k in ("i1", "i2", "i4", "i8") if np.iinfo(RAW[k]).min <= low and high <= np.iinfo(RAW[k]).max)
    return {"form": "raw", "type": kind, "shape": list(array.shape)}, array.astype(RAW[kind]).tobytes()


def _packed(array: Integers) -> tuple[Record, bytes]:
    base = int(array.min(initial=np.iinfo(np.int64).max)) if array.size else 0
    if array.size and int(array.max()) - base >= 1 << 62:
        return _raw(array)
    codes = array.ravel() - base
    step = max(int(np.gcd.reduce(codes)), 1) if array.size else 1
    codes = codes // step
    bits = int(codes.max(initial=0)).bit_length()
    record = {"form": "packed", "base": base, "step": step, "bits": bits, "shape": list(array.shape)}
    return record, _pack(codes, bits)


def _codebook(array: Integers) -> list[tuple[Record, bytes]]:
    kernels = array.reshape(-1, array.shape[2] * array.shape[3])
    book, numbers = np.unique(kernels, axis=0, return_inverse=True)
    if len(book) > min(LARGEST_BOOK, len(kernels) // 2):
        return []
    (first, a), (second, b) = _packed(book), _packed(numbers.reshape(-1).astype(np.int64))
    return [({"form": "codebook", "book": first, "numbers": second, "cut": len(a), "shape": list(array.shape)}, a + b)]


def _pack(codes: Integers, bits: int) -> bytes:
    """Code i in the bits ``i * bits ...`` of the bytes, the lowest first."""
    planes = (codes[:, None] >> np.arange(bits)) & 1
    return np.packbits(planes.astype(np.uint8), bitorder="little").tobytes()


def _unpack(data: memoryview, count: int, bits: int) -> Integers:
    planes = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits, bitorder="little").reshape(count, bits)
    total = np.zeros(count, np.int64)
    for bit in range(bits):
        total |= planes[:, bit].astype(np.int64) << bit
    return total


def _fits(data: memoryview, size: int) -> None:
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes where an array needs {size}")


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} where a whole number belongs")
    return value
