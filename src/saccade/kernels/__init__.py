"""The few hot loops: one function each, in plain torch, native code and Triton; the plain one defines the result."""

from saccade.kernels.dendritic import dendritic
from saccade.kernels.forms import FORMS, form_for, has_native, has_triton, keep_memory, use
from saccade.kernels.integer import integer
from saccade.kernels.lif import lif
from saccade.kernels.mix import mix
from saccade.kernels.spike import spike

__all__ = [
    "FORMS",
    "dendritic",
    "form_for",
    "has_native",
    "has_triton",
    "integer",
    "keep_memory",
    "lif",
    "mix",
    "spike",
    "use",
]
