"""Recordings of event cameras: streams, files, windows, frames."""

from saccade.events.representations import REPRESENTATIONS, FrameStream, Representation, make_frames
from saccade.events.stream import EventStream, concat
from saccade.events.windows import WINDOWS, Windows

__all__ = [
    "REPRESENTATIONS",
    "WINDOWS",
    "EventStream",
    "FrameStream",
    "Representation",
    "Windows",
    "concat",
    "make_frames",
]
