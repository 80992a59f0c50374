"""Pictures of a target that is followed: events, the box, its way."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saccade.events import EventStream
from saccade.events.pictures import full_scale, painted

BOX, WAY = (234, 115, 23), (15, 157, 119)


def counted(events: EventStream) -> NDArray[np.uint8]:
    """Events of a window by polarity and pixel, uint8 ``[2, H, W]`` (off, on), at most 255."""
    plane = events.height * events.width
    place = events.p.astype(np.int64) * plane + events.y.astype(np.int64) * events.width + events.x
    counts = np.bincount(place, minlength=2 * plane)
    return np.minimum(counts, 255).astype(np.uint8).reshape(2, events.height, events.width)


def pictures(counts: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Each window painted, all by one scale: uint8 ``[h, w, 3]``, enlarged where the sensor is small."""
    full = max((full_scale(one.astype(np.float32)) for one in counts), default=1.0)
    return [painted(one.astype(np.float32), full) for one in counts]


def marked(
    picture: NDArray[np.uint8], size: tuple[int, int], boxes: Sequence[Sequence[float]], held: bool = False
) -> NDArray[np.uint8]:
    """A picture with the way of the box's middle so far, and the last box: dashed where it was held.

    size: height and width of the sensor, pixels. boxes: so far, left, top, width and height in its pixels.
    """
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    by = picture.shape[1] / size[1]
    line = max(1, round(picture.shape[1] / 200))
    way = [((x + w / 2) * by, (y + h / 2) * by) for x, y, w, h in boxes]
    if len(way) > 1:
        draw.line(way, fill=WAY, width=line)
    x, y, w, h = (value * by for value in boxes[-1])
    corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)]
    for (ax, ay), (bx, by_) in itertools.pairwise(corners):
        parts = 7 if held else 1
        for part in range(0, parts, 2):
            a, b = part / parts, (part + 1) / parts
            ends = [(ax + (bx - ax) * a, ay + (by_ - ay) * a), (ax + (bx - ax) * b, ay + (by_ - ay) * b)]
            draw.line(ends, fill=BOX, width=2 * line)
    return np.asarray(image)
