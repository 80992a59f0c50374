"""The few hot loops: one function each, with a plain reference that faster forms are tested against."""

from saccade.kernels.lif import lif
from saccade.kernels.spike import spike

__all__ = ["lif", "spike"]
