"""Messages: what goes in comes out, and whatever else comes in is refused by type, in bounded time and memory."""

import json
import os
import random
import tracemalloc

import pytest
import split_models  # noqa: F401  (skips without the extra)

from saccade.split import wire
from saccade.split.wire import Blob, Kind, Message, Refused, Role

SAMPLE = Message(
    Kind.STEP, 7, {"a": 1.5, "b": [None, "x"]},
    [Blob(Role.ACTIVATIONS, (2, 3, 4), bytes(range(96))), Blob(Role.LABELS, (2, 3), b"\1" * 24), Blob(Role.MASK, (), b"")],
)  # fmt: skip


def test_there_and_back():
    data = wire.encode(SAMPLE)
    back = wire.decode(data, len(data))
    assert (back.kind, back.seq, back.meta) == (SAMPLE.kind, SAMPLE.seq, SAMPLE.meta)
    assert [(b.role, b.shape, bytes(b.payload)) for b in back.blobs] == [
        (b.role, b.shape, b.payload) for b in SAMPLE.blobs
    ]
    assert wire.size(SAMPLE) == len(data) == 20 + len(json.dumps(SAMPLE.meta, separators=(",", ":"))) + 3 * 24 + 120


def test_every_prefix_and_suffix_is_refused():
    data = wire.encode(SAMPLE)
    for end in range(len(data)):
        with pytest.raises(Refused):
            wire.decode(data[:end], 1000)
    with pytest.raises(Refused):
        wire.decode(data + b"\0", 1000)
    with pytest.raises(Refused) as caught:
        wire.decode(data, len(data) - 1)
    assert caught.value.code == "TOO_BIG"


@pytest.mark.parametrize("text", [b"[1]", b"{", b"[" * 9000, b'{"a": NaN}', b"\xff\xfe", b"1"])
def test_json_that_is_no_object(text):
    data = wire.HEADER.pack(wire.MAGIC, wire.VERSION, Kind.HELLO, 0, 0, len(text)) + text
    with pytest.raises(Refused) as caught:
        wire.decode(data, 1 << 20)
    assert caught.value.code == "MALFORMED"


def mutate(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(data))
        how = rng.randrange(5)
        if how == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            data[at] = rng.choice((0, 1, 127, 128, 255))
        elif how == 2:
            del data[at : at + rng.randrange(1, 9)]
        elif how == 3:
            data[at:at] = os.urandom(0) + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
        else:
            data[at : at + 4] = rng.choice((0, 1, 0xFFFFFFFF, 0x7FFFFFFF, 1 << 24)).to_bytes(4, "little")
        data = data or bytearray(b"\0")
    return bytes(data)


def fuzz(count):
    rng, whole = random.Random(0), wire.encode(SAMPLE)
    read = refused = 0
    tracemalloc.start()
    for _ in range(count):
        try:
            message = wire.decode(mutate(whole, rng), 4096)
            assert sum(len(blob.payload) for blob in message.blobs) <= 4096
            read += 1
        except Refused as error:
            refused += error.code in wire.CODES
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read + refused == count
    assert min(read, refused) > count // 20  # changes of payloads are read, changes of headers are not
    assert peak < 1 << 20


def test_mutated_messages():
    fuzz(4000)


@pytest.mark.slow
def test_a_hundred_thousand_mutated_messages():
    fuzz(100_000)
