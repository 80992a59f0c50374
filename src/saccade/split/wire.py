"""Messages between a client and the split server, as bytes.

A message is a fixed header, a little JSON, and tensors as raw little-endian bytes behind fixed headers of their own.
Nothing in it is ever executed, and no size in it is believed before it has been held against the bytes that came.

    message  magic "SPLT", version u8, kind u8, tensors u16, sequence number u64, length of the JSON u32          20 bytes
    tensor   role u8, dimensions u8, reserved u16, length u32 of each of four dimensions, length of its bytes u32  24 bytes
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

HEADER = struct.Struct("<4sBBHQI")
TENSOR = struct.Struct("<BBH4II")
MAGIC, VERSION = b"SPLT", 1
MOST_META = 16384
MOST_TENSORS = 8192
MOST_DIMENSION = 1 << 24


class Kind(IntEnum):
    HELLO, ACCEPT, REJECT, ROUND, STEP, MIDDLE, MIDDLE_GRADIENT, GRADIENT, UPDATE, DONE, END, WAIT = range(1, 13)


class Role(IntEnum):
    """What a tensor is, and so which line of the ledger it stands in."""

    ACTIVATIONS, GRADIENTS, LABELS, MASK, ADAPTERS = range(5)


class Refused(ValueError):
    """A message or a peer that is turned away. ``code``: one of CODES."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code


CODES = (
    "MALFORMED", "TOO_BIG", "BAD_TOKEN", "WRONG_RUN", "MODEL_MISMATCH", "STALE_ROUND", "STALE_CUT", "BAD_SEQUENCE", "BAD_SHAPE",
    "POISON", "EVICTED", "TOO_FAST", "BUSY", "NOT_INVITED",
)  # fmt: skip


@dataclass(frozen=True)
class Blob:
    """A tensor under way. shape: of what the payload decodes to, at most four dimensions."""

    role: Role
    shape: tuple[int, ...]
    payload: bytes | memoryview


@dataclass(frozen=True)
class Message:
    kind: Kind
    seq: int = 0
    meta: dict[str, Any] = field(default_factory=dict)
    blobs: Sequence[Blob] = ()


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    meta = json.dumps(message.meta, separators=(",", ":")).encode() if message.meta else b""
    assert len(meta) <= MOST_META, len(meta)
    assert len(message.blobs) <= MOST_TENSORS, len(message.blobs)
    parts: list[bytes | memoryview] = [
        HEADER.pack(MAGIC, VERSION, message.kind, len(message.blobs), message.seq, len(meta)),
        meta,
    ]
    for blob in message.blobs:
        dims = (*blob.shape, *(1,) * (4 - len(blob.shape)))
        parts += [TENSOR.pack(blob.role, len(blob.shape), 0, *dims, len(blob.payload)), blob.payload]
    return b"".join(parts)


def size(message: Message) -> int:
    """Bytes that ``encode`` would make."""
    meta = json.dumps(message.meta, separators=(",", ":")).encode() if message.meta else b""
    return HEADER.size + len(meta) + sum(TENSOR.size + len(blob.payload) for blob in message.blobs)


def decode(data: bytes, most: int) -> Message:
    """The message in ``data``, its payloads being views of it. Raises Refused (MALFORMED, TOO_BIG) for anything
    else."""
    if len(data) > most:
        raise Refused("TOO_BIG", f"a message of {len(data):,} bytes where {most:,} are allowed")
    if len(data) < HEADER.size:
        raise Refused("MALFORMED", f"{len(data)} bytes are no message")
    magic, version, kind, count, seq, length = HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or kind not in Kind.__members__.values():
        raise Refused("MALFORMED", f"not a message of version {VERSION} of this protocol")
    if length > MOST_META or count > MOST_TENSORS or HEADER.size + length + count * TENSOR.size > len(data):
        raise Refused("MALFORMED", "a header that promises more than came")
    view, at = memoryview(data), HEADER.size + length
    meta: Any = {}
    if length:
        try:
            meta = json.loads(bytes(view[HEADER.size : at]), parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise Refused("MALFORMED", "text that is not JSON") from None
    if not isinstance(meta, dict):
        raise Refused("MALFORMED", "JSON that is no object")
    blobs = []
    for _ in range(count):
        if at + TENSOR.size > len(data):
            raise Refused("MALFORMED", "ends inside a tensor")
        role, ndim, reserved, *dims, size = TENSOR.unpack_from(data, at)
        at += TENSOR.size
        if role not in Role.__members__.values() or ndim > 4 or reserved or any(dim != 1 for dim in dims[ndim:]):
            raise Refused("MALFORMED", "a tensor header that cannot be")
        if max(dims) > MOST_DIMENSION or math.prod(dims) > 8 * most or size > len(data) - at:
            raise Refused("MALFORMED", "a tensor that is larger than its message")
        blobs.append(Blob(Role(role), tuple(dims[:ndim]), view[at : at + size]))
        at += size
    if at != len(data):
        raise Refused("MALFORMED", f"{len(data) - at} bytes behind the last tensor")
    return Message(Kind(kind), seq, meta, blobs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def rejection(error: Refused) -> Message:
    return Message(Kind.REJECT, 0, {"code": error.code, "words": str(error)})


def raise_if_rejected(message: Message) -> None:
    """Raises Refused for a REJECT of the peer."""
    if message.kind == Kind.REJECT:
        code = str(message.meta.get("code"))
        known = code if code in CODES else "MALFORMED"
        raise Refused(known, f"{known}: {str(message.meta.get('words'))[:300]}")
