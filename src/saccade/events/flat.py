"""FlatBuffers by their offsets, each checked against the bytes that are there."""

from __future__ import annotations

import struct


class Flat:
    """A buffer with its size in front. Raises ValueError, saying what does not fit, for every offset that leaves it."""

    def __init__(self, data: bytes | memoryview, identifier: bytes) -> None:
        self.data = memoryview(data)
        if len(self.data) < 12:
            raise ValueError(f"{len(self.data)} bytes, too few for a table")
        size, root, kind = struct.unpack_from("<II4s", self.data)
        if size + 4 > len(self.data):
            raise ValueError(f"a size of {size} bytes, and {len(self.data) - 4} are there")
        if kind != identifier:
            raise ValueError(f"a table of kind {kind!r}, not {identifier!r}")
        self.table = 4 + root
        self.fields = self.table - self._read("<i", self.table)
        if self.fields < 0:
            raise ValueError("a table whose list of fields lies before the buffer")
        self.size = self._read("<H", self.fields)
        if self.size < 4 or self.size % 2 or self.fields + self.size > len(self.data):
            raise ValueError(f"a list of fields of {self.size} bytes")

    def _read(self, form: str, at: int) -> int:
        if at < 0 or at + struct.calcsize(form) > len(self.data):
            raise ValueError(f"an offset to byte {at} of {len(self.data)}")
        return struct.unpack_from(form, self.data, at)[0]

    def u32(self, at: int) -> int:
        return self._read("<I", at)

    def follow(self, at: int) -> int:
        """Where the offset that stands at a byte leads."""
        return at + self.u32(at)

    def field(self, number: int) -> int | None:
        """Where a field of the root table stands; None if it is left at its default."""
        entry = 4 + 2 * number
        if entry + 2 > self.size:
            return None
        offset = self._read("<H", self.fields + entry)
        return self.table + offset if offset else None

    def integer(self, number: int, form: str, default: int) -> int:
        at = self.field(number)
        return default if at is None else self._read(form, at)

    def vector(self, number: int, each: int) -> tuple[int, int]:
        """Where the elements of a vector field begin, and how many there are."""
        at = self.field(number)
        if at is None:
            return 0, 0
        begin = self.follow(at)
        count = self.u32(begin)
        if begin + 4 + count * each > len(self.data):
            raise ValueError(f"{count} elements of {each} bytes in a buffer of {len(self.data)}")
        return begin + 4, count

    def text(self, number: int) -> str:
        begin, count = self.vector(number, 1)
        return bytes(self.data[begin : begin + count]).decode("utf-8", "replace")
