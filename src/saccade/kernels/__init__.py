"""The few hot loops: one function each, in plain torch, native code and Triton; the plain one defines the result."""

from saccade.kernels.forms import FORMS, form_for, has_native, has_triton, keep_memory, use
from saccade.kernels.lif import lif
from saccade.kernels.mix import mix
from saccade.kernels.spike import spike

__all__ = ["FORMS", "form_for", "has_native", "has_triton", "keep_memory", "lif", "mix", "spike", "use"]
