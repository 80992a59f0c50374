"""Recordings of event cameras: streams, files, windows, frames."""

from saccade.events.faults import EventsWarning
from saccade.events.format import FORMATS, Format
from saccade.events.opening import common_format, format_for, format_of, open_events, read_chunks, write_events
from saccade.events.representations import REPRESENTATIONS, FrameStream, Representation, make_frames
from saccade.events.stream import EventStream, concat
from saccade.events.windows import WINDOWS, Windows

__all__ = [
    "FORMATS",
    "REPRESENTATIONS",
    "WINDOWS",
    "EventStream",
    "EventsWarning",
    "Format",
    "FrameStream",
    "Representation",
    "Windows",
    "common_format",
    "concat",
    "format_for",
    "format_of",
    "make_frames",
    "open_events",
    "read_chunks",
    "write_events",
]
