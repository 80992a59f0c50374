"""Compressed packets: what comes out is bounded before memory is set aside for it."""

from __future__ import annotations

import bz2
from collections.abc import Callable

from saccade.optional import need

MOST = 1 << 28  # bytes of one packet: 16 million events


def lz4(data: bytes | memoryview) -> bytes:
    """An LZ4 frame. Raises ValueError if it is none, is not all there, or is larger than ``MOST``."""
    frame = need("lz4.frame", "events")
    context, left = frame.create_decompression_context(), memoryview(data)
    try:
        size = frame.get_frame_info(left)["content_size"] if len(left) >= 7 else 0
        # the library sets aside what it may return: what the frame says, or is likely, and then the rest
        room = min(size, MOST) or 8 * len(left) + 4096
        found, used, ended = frame.decompress_chunk(context, left, max_length=room)
        while not ended and used < len(left) and len(found) <= MOST:
            left, room = left[used:], 4 * room
            more, used, ended = frame.decompress_chunk(context, left, max_length=room)
            found += more
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"no LZ4 frame ({error})") from None
    if not ended or len(found) > MOST:
        raise ValueError(f"an LZ4 frame that is not all there, or larger than {MOST} bytes")
    return found


def zstd(data: bytes | memoryview) -> bytes:
    """A Zstandard frame. Raises ValueError if it is none, is not all there, or is larger than ``MOST``."""
    library = need("zstandard", "events")
    try:
        size = library.frame_content_size(data)
        if size > MOST:
            raise ValueError(f"a Zstandard frame of {size} bytes")
        decoder = library.ZstdDecompressor(max_window_size=1 << 27)
        if size > 0:
            return decoder.decompress(data, max_output_size=size)
        found = decoder.stream_reader(bytes(data)).read(MOST + 1)
    except library.ZstdError as error:
        raise ValueError(f"no Zstandard frame ({' '.join(str(error).split())})") from None
    if len(found) > MOST:
        raise ValueError(f"a Zstandard frame of more than {MOST} bytes")
    return found


def bzip2(data: bytes | memoryview) -> bytes:
    """A bzip2 stream. Raises ValueError as the others."""
    decoder = bz2.BZ2Decompressor()
    try:
        found = decoder.decompress(bytes(data), MOST)
    except (OSError, EOFError) as error:
        raise ValueError(f"no bzip2 stream ({error})") from None
    if not decoder.eof:
        raise ValueError(f"a bzip2 stream that is not all there, or larger than {MOST} bytes")
    return found


def none(data: bytes | memoryview) -> bytes | memoryview:
    return data


BY_NUMBER: tuple[Callable[[bytes | memoryview], bytes | memoryview], ...] = (
    none,
    lz4,
    lz4,
    zstd,
    zstd,
)  # as AEDAT 4 counts
