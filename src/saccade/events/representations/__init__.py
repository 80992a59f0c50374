"""Frames of events, one file a representation: what a window of a recording looks like to a network.

Channels are (off, on) unless a representation says otherwise; values are neither clipped nor scaled unless it says so.
"""

from saccade.events.representations.base import REPRESENTATIONS, Events, FrameStream, Representation, make_frames
from saccade.plugins import load_files_of

__all__ = ["REPRESENTATIONS", "Events", "FrameStream", "Representation", "make_frames"]

load_files_of(__name__)
