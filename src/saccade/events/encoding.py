"""What writers share: words that say the upper bits of the time, and runs of events that fit into one word."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.events.stream import EventStream

MOST_STEPS = 1_000_000  # words that are written to get to the first event's time


def refuse(format: str, words: str) -> ValueError:
    """What a format cannot hold, in one line."""
    return ValueError(f"{format} files cannot hold this recording: {words}")


def fits(format: str, height: int, width: int, most_height: int, most_width: int) -> None:
    """Raises ValueError for a sensor that is too large for a format."""
    if height > most_height or width > most_width:
        raise refuse(format, f"its sensor is {width} x {height}, and at most {most_width} x {most_height} fit")


def times_fit(format: str, events: EventStream, bits: int) -> None:
    """Raises ValueError for times below 0 or of more bits than there are."""
    if len(events) and (events.t[0] < 0 or int(events.t[-1]) >> bits):
        span = f"times go from {events.t[0]} to {events.t[-1]} us"
        raise refuse(format, f"{span}, and 0 to {(1 << bits) - 1} fit; shift them (--rebase)")


def steps(format: str, upper: NDArray[np.int64], before: int, bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often the upper bits of the time are said before each event, and what is said, whole (not wrapped).

    upper: of each event's time. before: what was said last, -1 for nothing. A counter of ``bits`` bits is known to have
    wrapped only where it falls by more than half its range, so longer gaps are said in several steps.
    """
    stride = (1 << bits - 1) - 1
    previous = np.concatenate([[max(before, 0)], upper[:-1]])
    counts = -((previous - upper) // stride)
    if len(counts) and before < 0:
        counts[0] = max(counts[0], 1)
    total = int(counts.sum())
    if total > len(upper) + MOST_STEPS:
        raise refuse(
            format,
            "times so large that a counter would wrap a million times; shift its times (--rebase)",
        )
    event = np.repeat(np.arange(len(upper)), counts)
    place = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    return counts, np.minimum(previous[event] + stride * place, upper[event])


def laid(pieces: list[tuple[NDArray[Any], NDArray[Any]]], dtype: str) -> NDArray[Any]:
    """Words in the order of events. pieces: for each kind of word, how many stand before or at each event, and the words."""
    counts = sum(count.astype(np.int64) for count, _ in pieces)
    begin = np.cumsum(counts) - counts
    out = np.empty(int(np.sum(counts)), dtype)
    for count, words in pieces:
        count = count.astype(np.int64)
        event = np.repeat(np.arange(len(count)), count)
        out[begin[event] + np.arange(len(event)) - np.repeat(np.cumsum(count) - count, count)] = words
        begin = begin + count
    return out


def runs(events: EventStream) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Runs of events of one time, row and polarity, from left to right in 32 aligned columns: where each begins, its bits."""
    t, x, y, p = events.t, events.x, events.y, events.p
    if not len(events):
        return np.empty(0, np.int64), np.empty(0, np.uint32)
    same = (t[1:] == t[:-1]) & (y[1:] == y[:-1]) & (p[1:] == p[:-1]) & (x[1:] >> 5 == x[:-1] >> 5) & (x[1:] > x[:-1])
    first = np.flatnonzero(np.concatenate([[True], ~same]))
    bits = np.left_shift(np.uint32(1), (x & 31).astype(np.uint32))
    return first, np.bitwise_or.reduceat(bits, first)
