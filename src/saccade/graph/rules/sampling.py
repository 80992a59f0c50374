"""Counting rules of resampling at places that the input chooses."""

from __future__ import annotations

from saccade.graph.alphabet import Alphabet
from saccade.graph.call import Call
from saccade.graph.rules.registry import counts

BILINEAR, NEAREST, BICUBIC = 0, 1, 2


@counts("grid_sampler_2d")
def grid_sampler(call: Call) -> Alphabet | None:
    """An output is a weighted sum of 4 values (bilinear; 16 bicubic): as many multiplications, and one addition less,
    whatever the values. "nearest" moves values, and zeros where it looks outside. Weights from the grid are not counted."""
    mode = call.arg(2, "interpolation_mode", BILINEAR)
    if mode == NEAREST:
        alphabet = call.alphabet(call.args[0])
        return alphabet.join(Alphabet.constant(0)) if alphabet else None
    taps = 16 if mode == BICUBIC else 4
    call.count(mults=taps * call.out.numel(), adds=(taps - 1) * call.out.numel())
    return None
