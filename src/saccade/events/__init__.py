"""Event recordings as tensors."""

from saccade.events.frames import frames_by_number

__all__ = ["frames_by_number"]
