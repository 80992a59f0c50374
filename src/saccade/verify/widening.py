"""Models that say float32 themselves, run in float64: casts and allocations in narrower floats are taken as float64."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

NARROW = (torch.float32, torch.float16, torch.bfloat16)
CASTS = (Tensor.float, Tensor.half, Tensor.bfloat16)


class Widened(TorchFunctionMode):
    """Inside, whatever asks torch for a float narrower than float64 gets float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in CASTS:
            return args[0].double()
        wide = [torch.float64 if _narrow(value) else value for value in args]
        options = {key: torch.float64 if _narrow(value) else value for key, value in kwargs.items()}
        result = func(*wide, **options)
        if isinstance(result, Tensor) and result.dtype in NARROW:
            return result.double()
        return result


def _narrow(value: object) -> bool:
    return isinstance(value, torch.dtype) and value in NARROW
