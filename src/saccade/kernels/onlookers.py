"""Who is looking at a call: what runs natively is invisible to some, so each kernel asks before it chooses a short cut.

The one place where that is asked. Addresses of tensors go to native code only where nobody looks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def operators_only(x: Tensor) -> bool:
    """Compilers, export, dispatch modes and tensor subclasses see operators, registered ones too."""
    return bool(
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or type(x) not in (Tensor, torch.nn.Parameter)
    )


def torch_only() -> bool:
    """jit tracing, ONNX, ``torch.func`` (vmap, grad, jvp) and forward-mode gradients see torch's own operations alone."""
    if torch.compiler.is_compiling():
        return torch.onnx.is_in_onnx_export()  # slow to ask, and the exporter that traces is seen below
    return bool(
        torch._C._is_tracing()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


def somebody(x: Tensor) -> bool:
    """Either of them."""
    return operators_only(x) or torch_only()
