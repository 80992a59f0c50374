"""The leaky integrate-and-fire recurrence, every variant of it, in one loop over time."""

from __future__ import annotations

import torch
from torch import Tensor

from saccade.kernels.spike import Surrogate, spike

RESETS = ("hard", "soft", "none")


def lif(
    x: Tensor,
    v0: Tensor | None = None,
    *,
    decay: float | Tensor,
    gain: float | Tensor,
    v_th: float | Tensor,
    v_rest: float = 0.0,
    v_reset: float = 0.0,
    reset: str = "hard",
    detach_reset: bool = True,
    surrogate: Surrogate,
    record: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Run a layer of LIF neurons over a whole sequence.

    For every step, in this order of operations::

        u = v_rest + decay * (v - v_rest) + gain * x[t]      charge
        s = 1 if u >= v_th else 0                            fire
        v = u * (1 - s) + v_reset * s                        reset "hard"
            u - v_th * s                                     reset "soft"
            u                                                reset "none"

    Shapes: ``x`` is ``[T, N, ...]``; ``v0`` (default: rest) and the returned last potential are ``[N, ...]``; ``decay``,
    ``gain`` and ``v_th`` are numbers or tensors that broadcast against ``[N, ...]``.
    Returns ``(spikes, v_last, potentials)``: spikes as ``x``, in its dtype; ``potentials`` are the ``u`` of every step
    (before reset) if ``record``, else None. Half-precision input is integrated in float32.
    ``detach_reset`` keeps the reset out of the gradient. Potentials of NaN input stay NaN and never fire.

    Raises ValueError for an unknown ``reset`` or an input without a time and a batch axis.
    Source: Gerstner & Kistler (2002) ch. 4, discretised as in Wu et al. (2018) eq. 1-2.
    """
    if reset not in RESETS:
        raise ValueError(f"reset must be one of {', '.join(RESETS)}, got {reset!r}")
    if x.dim() < 2:
        raise ValueError(f"a neuron takes [T, N, ...], got a {x.dim()}-dimensional input")
    dtype = x.dtype
    if dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    v = v0
    if v is None and v_rest != 0:
        v = torch.full(x.shape[1:], v_rest, dtype=x.dtype, device=x.device)
    spikes, potentials = [], []
    # unbind once: indexing x[t] in the loop would make the backward quadratic in T
    for current in (x if _is_one(gain) else gain * x).unbind(0):
        if v is None:  # rest at zero: the leak term is exactly zero
            u = current
        elif v_rest == 0:
            u = (v if _is_one(decay) else decay * v) + current
        else:
            u = v_rest + decay * (v - v_rest) + current
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
    if v is None:  # T = 0
        v = torch.full(x.shape[1:], v_rest, dtype=x.dtype, device=x.device)
    out = torch.stack(spikes) if spikes else torch.zeros_like(x)
    kept = (torch.stack(potentials) if potentials else torch.zeros_like(x)) if record else None
    return out.to(dtype), v, kept


def _is_one(value: float | Tensor) -> bool:
    return not isinstance(value, Tensor) and value == 1
