"""A tracker over sequences with true boxes: what ``saccade.track.metrics`` scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saccade.events import EventStream, FrameStream, Representation
from saccade.track.boxes import Boxes
from saccade.track.live import Follower
from saccade.track.results import Track, matched


def tracked(
    tracker: Follower,
    representation: Representation,
    events: EventStream,
    stamps_us: Sequence[int] | NDArray[np.int64],
    truth: Boxes,
    name: str = "",
) -> Track:
    """The boxes of a tracker that is shown the first true box, window by window between the stamps (one more than boxes).

    It begins at the first window with a true box, those before are left out; a window without one counts as absent. Raises
    ValueError for
    stamps and boxes that do not go together.
    """
    if len(stamps_us) != len(truth) + 1:
        raise ValueError(f"{len(stamps_us)} stamps for {len(truth)} boxes; one more is wanted")
    visible: NDArray[np.bool_] = np.asarray(np.isfinite(truth).all(1))
    if not visible.any():
        raise ValueError(f"{name or 'the sequence'}: no window has a true box")
    first = int(visible.argmax())
    frames = FrameStream(representation, events.height, events.width)
    boxes = np.full((len(truth), 4), np.nan)
    for number, window in enumerate(events.slices_at(stamps_us)):
        frame = frames.update(window, int(stamps_us[number]), int(stamps_us[number + 1]))
        if number == first:
            boxes[number] = tracker.init(frame, truth[number])
        elif number > first:
            boxes[number] = tracker.track(frame, window).box
    return matched(name, boxes[first:], np.where(visible[:, None], truth, 0.0)[first:], ~visible[first:])
