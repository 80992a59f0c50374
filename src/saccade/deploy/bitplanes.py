"""Quantized convolutions of spikes by AND and population count, and the LIF neuron after them in integers.

Layout: spikes of a place are words of 64 channels, bit c of word w being channel 64 w + c; a border is words of zeros.
Weights are b planes of such words: with ``m = 2k - s``, s = 2^b - 1, of codes k, the sum of m x is
``2 sum_i 2^i pop(k_i & x) - s pop(x)``. With one plane this is the binary network. The reference for faster engines, in numpy.
Source: the bipolar levels of Wei et al. (2025), QP-SNN; the popcount product of Rastegari et al. (2016), XNOR-Net.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saccade.layers import BatchNorm2d, Conv2d
from saccade.layers.weight_forms import Uniform
from saccade.neurons import LIFConfig

Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]


def pack_channels(spikes: Tensor) -> Words:
    """Spikes ``[N, C, H, W]`` of zeros and ones as words ``[N, H, W, ceil(C / 64)]``. Raises ValueError for other values."""
    if not bool(((spikes == 0) | (spikes == 1)).all()):
        raise ValueError("bit-planes hold spikes of 0 and 1 only")
    bits = spikes.permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8)
    return _words(bits)


def weight_planes(codes: Tensor, bits: int) -> Words:
    """Codes ``[O, C, kh, kw]`` below ``2**bits`` as planes ``[bits, O, kh, kw, ceil(C / 64)]``."""
    whole = codes.permute(0, 2, 3, 1).cpu().numpy().astype(np.uint16)
    return np.stack([_words(((whole >> plane) & 1).astype(np.uint8)) for plane in range(bits)])


def _words(bits: npt.NDArray[np.uint8]) -> Words:
    """Bits along the last axis as words of 64, least significant first."""
    padded = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, -bits.shape[-1] % 64)])
    return np.packbits(padded, axis=-1, bitorder="little").view("<u8").astype(np.uint64)


def bitplane_conv(words: Words, planes: Words, stride: int = 1, padding: int = 0) -> Integers:
    """``sum m x`` of every output: ``[N, O, H', W']``, exact."""
    b, outputs, kh, kw, _ = planes.shape
    words = np.pad(words, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(words, (kh, kw), axis=(1, 2))[:, ::stride, ::stride]
    patches = patches.transpose(0, 1, 2, 4, 5, 3)  # [N, H', W', kh, kw, words]
    ones = np.bitwise_count(patches).sum((3, 4, 5), dtype=np.int64)  # shared by all outputs and planes
    acc = np.zeros((*ones.shape, outputs), dtype=np.int64)
    for o in range(outputs):
        for plane in range(b):
            hits = np.bitwise_count(patches & planes[plane, o]).sum((3, 4, 5), dtype=np.int64)
            acc[..., o] += hits << (plane + 1)
    return (acc - (2**b - 1) * ones[..., None]).transpose(0, 3, 1, 2)


@dataclass(frozen=True)
class IntegerLIF:
    """``V <- (V >> 1) + ((direction acc) << F) + bias; s = V > threshold; V <- 0 where s``: int64, a row a channel ``[O]``."""

    direction: Integers
    bias: Integers
    threshold: Integers
    fraction: int

    def run(self, acc: Integers) -> npt.NDArray[np.uint8]:
        """Sums ``[T, N, O, H, W]`` to spikes of the same shape."""
        row = (-1, 1, 1)
        V = np.zeros(acc.shape[1:], dtype=np.int64)
        spikes = np.empty(acc.shape, dtype=np.uint8)
        for t, a in enumerate(acc):
            V = (V >> 1) + ((self.direction.reshape(row) * a) << self.fraction) + self.bias.reshape(row)
            spikes[t] = self.threshold.reshape(row) < V
            V[spikes[t] > 0] = 0
        return spikes


def lower_layer(conv: Conv2d, norm: BatchNorm2d, neuron: LIFConfig, fraction: int = 20) -> tuple[Words, IntegerLIF]:
    """Planes and integer neuron of a quantized convolution, its norm (eval mode) and a LIF: the scales go into the threshold.

    The potential is divided by the size of each channel's scale, so that adding a spike is adding an integer; ``fraction`` bits
    hold what is left of biases and halvings; the shift rounds down, so with few of them a spike near the threshold may differ
    from float64's. With 20 none does in the tests.
    Raises ValueError for a layer without a uniform weight form, a channel whose scale is zero (prune it), or a neuron other
    than tau = 2 without input decay, resting at and reset to 0.
    """
    form = conv.form
    if not isinstance(form, Uniform):
        raise ValueError("bit-planes need weights of a uniform form (rescaw or vanilla)")
    c = neuron
    if c.tau != 2 or c.decay_input or c.v_rest or c.v_reset or c.reset != "hard" or not isinstance(c.v_th, float | int):
        raise ValueError(
            "the integer neuron halves its potential, adds its input and resets to 0: tau=2, no input decay"
        )
    s = 2**form.bits - 1
    slope, offset = copy.deepcopy(norm).double().scale_and_offset()
    scale = slope * form.scale(conv.weight.detach()).double() / s
    if bool((scale == 0).any()):
        raise ValueError(
            f"channel {int((scale == 0).nonzero()[0])} has a scale of zero and cannot fire by its input: prune it"
        )
    start = torch.zeros_like(scale) if conv.bias is None else conv.bias.detach().double()
    beta = offset + start * slope
    unit = 2.0**fraction / scale.abs()
    below = torch.floor(c.v_th * unit).long()
    exact = below.double() == c.v_th * unit  # fires at >=, so a threshold that is whole lets its own value through
    threshold = (below - exact.long()).numpy()
    lif = IntegerLIF(torch.sign(scale).long().numpy(), torch.round(beta * unit).long().numpy(), threshold, fraction)
    return weight_planes(form.codes(conv.weight.detach()), form.bits), lif
