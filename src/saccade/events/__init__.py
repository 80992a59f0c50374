"""Recordings of event cameras: streams, files, frames."""

from saccade.events.faults import EventsWarning
from saccade.events.format import FORMATS, Format
from saccade.events.frames import frames_by_number
from saccade.events.opening import common_format, format_for, format_of, open_events, read_chunks, write_events
from saccade.events.stream import EventStream, concat

__all__ = [
    "FORMATS",
    "EventStream",
    "EventsWarning",
    "Format",
    "common_format",
    "concat",
    "format_for",
    "format_of",
    "frames_by_number",
    "open_events",
    "read_chunks",
    "write_events",
]
