"""Layers with weights: convolutions and matrix products of whole numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from saccade.deploy.engine import Native
from saccade.deploy.lowering import LARGEST, Lowering, lowers
from saccade.deploy.operations.mark import Mark
from saccade.deploy.program import Stateless, Wire
from saccade.deploy.values import Affine, Integers, Reals, Shape, Term, on_axis, shrunk, spread, windows
from saccade.graph import Node
from saccade.layers.weighted import weighted

MOST_LEVELS = 128  # sizes of a weight, 0 among them, that are looked for


@dataclass(frozen=True)
class Synapse(Stateless):
    """A convolution by ``weight [O, I / groups, kh, kw]``, or a matrix product by ``[O, I]`` along the last axis."""

    name = "synapse"
    weight: Integers
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1

    def made(self, *given: Wire) -> Wire:
        lowest, highest = min(given[0].low, 0), max(given[0].high, 0)
        rows = self.weight.reshape(len(self.weight), -1)
        positive, negative = (np.where(rows * sign > 0, rows, 0).sum(1).tolist() for sign in (1, -1))
        pairs = list(zip(positive, negative, strict=True))
        low, high = min(p * lowest + n * highest for p, n in pairs), max(p * highest + n * lowest for p, n in pairs)
        return Wire(self._shape(given[0].shape), low, high)

    def _shape(self, given: Shape) -> Shape:
        weight = self.weight.shape
        if len(weight) == 2 and given and given[-1] == weight[1]:
            if (self.stride, self.padding, self.dilation, self.groups) != ((1, 1), (0, 0), (1, 1), 1):
                raise ValueError("a matrix product has no strides, padding, dilation or groups")
            return (*given[:-1], weight[0])
        fits = len(weight) == 4 and len(given) == 3 and given[0] == weight[1] * self.groups
        if not fits or self.groups < 1 or weight[0] % self.groups:
            raise ValueError(f"weights {list(weight)} in {self.groups} groups do not fit an input {list(given)}")
        return (weight[0], *windows(given, weight[2:], self.stride, self.padding, self.dilation))

    def compute(self, *given: Integers) -> Integers:
        x, total = given[0].astype(np.float64), np.zeros((), np.int64)
        for power, part in _parts(self.weight, x):
            total = total + (np.rint(apply_weights(x, part, self)).astype(np.int64) << power)
        return total

    def native(self) -> Native:
        geometry = (*self.stride, *self.padding, *self.dilation, self.groups)
        return Native("synapse", geometry, (self.weight,))


def _parts(weight: Integers, x: Reals) -> Iterator[tuple[int, Reals]]:
    """Weights as sums of parts times powers of two, so small that float64, which holds whole numbers below 2^53, is exact."""
    most = max(float(np.abs(x).max(initial=0)), 1.0) * weight[0].size
    room = 53 - math.ceil(math.log2(most)) - 1
    power = 0
    while True:
        low = ((weight + (1 << (room - 1))) & ((1 << room) - 1)) - (1 << (room - 1))  # the lowest digits, with a sign
        yield power, low.astype(np.float64)
        weight, power = (weight - low) >> room, power + room
        if not weight.any():
            return


def apply_weights(x: Reals, weight: Reals, geometry: Any) -> Reals:
    """``[T, N, ...]`` through weights of a geometry."""
    if weight.ndim == 2:
        return x @ weight.T
    lead = x.shape[:-3]
    flat = torch.from_numpy(x.reshape(-1, *x.shape[-3:]).copy())
    settings = (geometry.stride, geometry.padding, geometry.dilation, geometry.groups)
    y = F.conv2d(flat, torch.from_numpy(weight), None, *settings).numpy()
    return y.reshape(*lead, *y.shape[1:])


@lowers(nn.Conv2d, nn.Linear)
def synapse(low: Lowering, node: Node) -> Affine:
    assert node.module is not None
    return through(low, low.of(node.inputs[0]), node.module, node.path)


def through(low: Lowering, value: Affine, module: nn.Module, path: str, channels: slice = slice(None)) -> Affine:
    """A value through a layer with weights, or through those of its inputs ``channels`` (and then without its bias)."""
    layer = weighted(module)
    conv = layer.weight.dim() == 4
    if conv and (layer.padding_mode != "zeros" or isinstance(layer.padding, str)):
        raise ValueError("only padding with zeros, given in numbers, can be lowered")
    if conv and (value.lead == 0 or len(value.shape) != 3):
        raise ValueError("its input is no map [T, N, C, H, W]")
    used = layer.used_weight().detach().double().numpy()[:, channels]
    whole_layer = layer.bias is not None and channels == slice(None)
    bias = layer.bias.detach().double().numpy() if whole_layer else 0.0
    geometry: dict[str, Any] = {}
    if conv:
        geometry = {key: tuple(getattr(layer, key)) for key in ("stride", "padding", "dilation")} | {
            "groups": layer.groups
        }
    blank = Synapse((), np.zeros(0, np.int64), **geometry)
    outputs_at = 0 if conv else len(value.shape) - 1

    if len(value.terms) != 1 or (_on_inputs(value.terms[0].scale, outputs_at) is None):
        value = low.whole(value)
    room = LARGEST - 2 - used[0].size.bit_length()  # bits of a weight and of an input together
    if low.bits(value.terms[0].wire) + low.weight_bits > room:
        value = min(value, low.fixed(value), key=lambda found: low.bits(found.terms[0].wire))
    (wire, scale), offset = value.terms[0], value.offset
    by_input = _on_inputs(scale, outputs_at)
    assert by_input is not None
    bits = min(low.weight_bits, room - low.bits(wire))
    if bits < 2:
        raise ValueError("its numbers need more than 62 bits; fewer bits of fraction do")
    whole, by_output, exact = _integers(layer, used, by_input, bits, channels)
    # what the offset of the input becomes is known beforehand: one number a place
    constant = shrunk(apply_weights(np.broadcast_to(offset, value.shape)[None], used, blank)[0])
    if not exact:
        low.notes.append(f"{path}: weights rounded to {bits} bits")
        if constant.size > len(used) and blank.groups == 1 and offset.shape[1:] == (1, 1):
            wire, used = _marked(low, wire, used, by_input, offset)
            whole, by_output = _rounded(used, np.ones(1), bits)
            constant = np.zeros((1, 1, 1))
    made = low.emit(replace(blank, inputs=(wire,), weight=whole))
    shape = low.wires[made].shape
    at = on_axis(by_output, outputs_at, shape)
    total = constant + on_axis(np.broadcast_to(bias, len(whole)), outputs_at, shape)
    return replace(value, terms=(Term(made, at),), offset=spread(total, shape), shape=shape)


def _marked(low: Lowering, wire: int, used: Reals, by_input: Reals, offset: Reals) -> tuple[int, Reals]:
    """The wire with a channel that is the same everywhere inside, and weights ``[O, I + 1, kh, kw]`` by which the offset of the
    other channels becomes a part of the sum. As a constant it would differ from place to place: less counts near borders."""
    number = max(low.wires[wire].high, 1)
    constant = (used * offset.reshape(1, -1, 1, 1)).sum(1, keepdims=True) / number
    weights = np.concatenate([used * by_input.reshape(1, -1, 1, 1), constant], 1)
    return low.emit(Mark((wire,), number)), weights


def _on_inputs(scale: Reals, axis: int) -> Reals | None:
    """A scale as numbers of the input channels ``[C]`` or one ``[1]``; None where it changes along other axes."""
    rest = [size for i, size in enumerate(scale.shape) if i != axis]
    return scale.reshape(-1) if all(size == 1 for size in rest) else None


def _integers(layer: Any, used: Reals, by_input: Reals, bits: int, channels: slice) -> tuple[Integers, Reals, bool]:
    """Whole weights, a scale for each output, and whether their product is the weights times the scale of their inputs."""
    groups = getattr(layer, "groups", 1)
    if by_input.size == 1 or layer.depthwise:
        try:
            whole, scale = layer.integers()
        except ValueError:
            if (levels := _levels(used)) is not None:
                return levels[0], levels[1] * by_input, True
        else:
            numbers, by_output = whole.numpy()[:, channels].astype(np.int64), scale.double().numpy()
            again = numbers * by_output.reshape(-1, *[1] * (used.ndim - 1))
            if not np.allclose(again, used, rtol=1e-9, atol=0):
                raise ValueError(
                    f"a {type(layer).__name__} computes with other weights than its integers say; it has to override both"
                )
            return numbers, by_output * by_input, True
    if by_input.size > 1 and not layer.depthwise:
        per = len(by_input) // groups
        rows = np.repeat(np.arange(groups), len(used) // groups)  # the group of each output
        columns = rows[:, None] * per + np.arange(per)
        used = used * by_input[columns].reshape(len(used), per, *[1] * (used.ndim - 2))
        by_input = np.ones(1)
    return *_rounded(used, by_input, bits), False


def _levels(used: Reals) -> tuple[Integers, Reals] | None:
    """Plain weights that are multiples of a step of their output, -127 to 127 of them, as far as float32 can say: those of
    packed files. None for others."""
    rows = used.reshape(len(used), -1)
    if rows.shape[1] < 3 or any(len(np.unique(np.abs(row))) > MOST_LEVELS for row in rows[:8]):
        return None
    size = np.abs(rows).max(1)
    whole, left = np.zeros(rows.shape, np.int64), size > 0
    for n in range(1, MOST_LEVELS):
        share = rows[left] * (n / size[left, None])
        near = np.rint(share)
        fits = np.abs(share - near).max(1, initial=0) <= n * 2.0**-23
        at = np.flatnonzero(left)[fits]
        whole[at], left[at] = near[fits].astype(np.int64), False
        if not left.any():
            scale = (rows * whole).sum(1) / np.maximum(
                (whole**2).sum(1), 1
            )  # least squares over the rounding of float32
            return whole.reshape(used.shape), np.where(size > 0, scale, 1.0)
    return None


def _rounded(used: Reals, by_input: Reals, bits: int) -> tuple[Integers, Reals]:
    """Weights with a scale for each output, so that the largest of it takes all bits."""
    size = np.abs(used).reshape(len(used), -1).max(1)
    scale = np.where(size > 0, size, 1) / (2 ** (bits - 1) - 1)
    return np.rint(used / scale.reshape(-1, *[1] * (used.ndim - 1))).astype(np.int64), scale * by_input
