"""The LIF recurrence in plain torch: any device, any float type, any surrogate. The other forms are held to it."""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.kernels.spike import Surrogate, spike


def lif(
    x: Tensor,
    v0: Tensor | None,
    decay: float | Tensor,
    gain: float | Tensor,
    v_th: float | Tensor,
    v_rest: float,
    v_reset: float,
    reset: str,
    detach_reset: bool,
    surrogate: Surrogate,
    last: bool,
    record: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """See ``saccade.kernels.lif``."""
    dtype = x.dtype
    if dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    v = torch.full(x.shape[1:], v_rest, dtype=x.dtype, device=x.device) if v0 is None else v0.to(x.dtype)
    spikes, potentials = [], []
    # unbind once: indexing x[t] in the loop would make the backward quadratic in T
    for current in (gain * x).unbind(0):
        # without a rest potential the two additions of it change nothing but the sign of a zero
        u = decay * v + current if v_rest == 0 else v_rest + decay * (v - v_rest) + current
        s = spike(u - v_th, surrogate)
        held = s.detach() if detach_reset else s
        if reset == "hard":
            v = u * (1 - held) if v_reset == 0 else u * (1 - held) + v_reset * held
        elif reset == "soft":
            v = u - v_th * held
        else:
            v = u
        spikes.append(s)
        if record:
            potentials.append(u)
    out = torch.stack(spikes) if spikes else torch.zeros_like(x)
    kept = (torch.stack(potentials) if potentials else torch.zeros_like(x)) if record else None
    return out.to(dtype), v if last else None, kept
