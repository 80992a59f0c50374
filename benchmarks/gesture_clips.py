"""The ten gesture clips, cut into short pieces by time: a small data set to compare networks of events on.

    python benchmarks/gesture_clips.py OUT --data ../shared/data/events/dvs-gesture-10
    python benchmarks/event_tables.py gestures --data OUT --seeds 5

One clip of 1.45 s a class. Pieces of 150 ms, 25 ms apart: of the first 0.85 s to learn from, of the 0.2 s behind it to choose
by, of the last 0.4 s to test. All pieces of a class are of one person in one recording: what is measured is whether a network
knows a movement again a moment later, not whether it knows gestures.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from saccade.events import open_events, write_events

PIECE, STRIDE = 150_000, 25_000
PARTS = {"train": (0, 850_000), "validation": (850_000, 1_050_000), "test": (1_050_000, 1_450_000)}


def cut(clips: Path, out: Path) -> int:
    """OUT/{train,validation,test}/CLASS/START.bs2, times from the piece's own beginning; how many."""
    count = 0
    for clip in sorted(clips.glob("*.bs2")):
        events = open_events(clip, height=128, width=128)
        for part, (start, stop) in PARTS.items():
            folder = out / part / clip.stem
            folder.mkdir(parents=True, exist_ok=True)
            for begin in range(start, stop - PIECE + 1, STRIDE):
                piece = events.between(begin, begin + PIECE)
                shifted = replace(piece, t=piece.t - begin)
                write_events(folder / f"{begin // 1000:04}ms.bs2", shifted)
                count += 1
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    print(f"{cut(given.data, given.out)} pieces in {given.out}")
