"""Recordings of event cameras: streams, files, frames."""

from saccade.events.frames import frames_by_number
from saccade.events.stream import EventStream, concat

__all__ = ["EventStream", "concat", "frames_by_number"]
