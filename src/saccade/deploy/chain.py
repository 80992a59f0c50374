"""A program of memory-free neurons as a chain of layers with one-bit inputs: what its schedules are written for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from saccade.deploy.operations.hold import Hold
from saccade.deploy.operations.mixing import Mix
from saccade.deploy.operations.movement import Expand, Reshape
from saccade.deploy.operations.pooling import Window
from saccade.deploy.operations.synapse import Synapse
from saccade.deploy.program import Operation, Program
from saccade.deploy.values import Integers


@dataclass(frozen=True)
class IntegerLayer:
    """One layer of one-bit inputs and its neurons: ``fires[t] iff sign * H[t] >= thresholds[t]``, all int64.

    ``H[t] = sum_j 2^(order-1-j) * (weight . s[t-j])`` over the lags j < order: the leaky sum with lambda = 1/2, times
    2^(order-1), so that no bit is lost. path: of its neurons in the model. weight: ``[O, I, kh, kw]`` or ``[O, I]``; sign:
    ``[O]``, of the scale between integers and potentials; thresholds: ``[T, O]``, where norm, biases and theta went.
    pool: side of the windows of its input that are joined by OR first (1: none). stride, padding, dilation, groups: of a
    convolution. inputs, outputs: shapes of a sample, before pooling and after firing.
    Source: the arithmetic of Wei et al. (2025), QP-SNN, with time in the place of weight bits.
    """

    path: str
    weight: Tensor
    sign: Tensor
    thresholds: Tensor
    order: int
    pool: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1

    def run(self, x: Tensor) -> Tensor:
        """Spikes ``[T, N, ...]`` of all steps at once, as in training: one product with the weights, one over time."""
        T = len(x)
        x = self.pooled(x)
        acc = self.accumulate(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        lags = torch.arange(T).unsqueeze(1) - torch.arange(T)
        inside = (lags >= 0) & (lags < self.order)
        mixing = torch.where(inside, 2 ** (self.order - 1 - lags.clamp(0, self.order - 1)), 0)
        mixed = torch.tensordot(mixing, acc, dims=1)
        return torch.stack([self.fire(t, h) for t, h in enumerate(mixed)])

    def pooled(self, spikes: Tensor) -> Tensor:
        """``[..., C, H, W]`` with each window an OR; incomplete ones at the border are left out, as in training."""
        if self.pool == 1:
            return spikes
        k = self.pool
        h, w = spikes.shape[-2] // k * k, spikes.shape[-1] // k * k
        return spikes[..., :h, :w].unflatten(-1, (-1, k)).amax(-1).unflatten(-2, (-1, k)).amax(-2)

    def accumulate(self, x: Tensor) -> Tensor:
        """``weight . x`` of integers ``[N, ...]``, exactly: float64 holds integers below 2^53, which lowering has checked."""
        weight, values = self.weight.double(), x.double()
        if weight.dim() == 2:
            return F.linear(values.flatten(1), weight).long()
        return F.conv2d(values, weight, None, self.stride, self.padding, self.dilation, self.groups).long()

    def add_events(self, acc: Tensor, events: Tensor) -> None:
        """Add the weights of single input spikes ``[E, 1 + dims]`` (sample, channel, ...) to ``acc [N, O, ...]``."""
        if self.weight.dim() == 2:
            acc.index_put_((events[:, 0],), self.weight.t()[events[:, 1]], accumulate=True)
            return
        n, c, y, x = events.unbind(1)
        (sy, sx), (py, px), (dy, dx) = self.stride, self.padding, self.dilation
        size, (height, width) = self.weight.shape[1], acc.shape[-2:]
        per_group = len(self.weight) // self.groups
        kernels = self.weight.unflatten(0, (-1, per_group))  # [groups, O / groups, I / groups, kh, kw]
        for i in range(self.weight.shape[2]):
            for j in range(self.weight.shape[3]):
                oy, ox = y + py - i * dy, x + px - j * dx
                here = (oy >= 0) & (ox >= 0) & (oy % sy == 0) & (ox % sx == 0)
                oy, ox = oy // sy, ox // sx
                here &= (oy < height) & (ox < width)
                group = c[here] // size
                columns = kernels[group, :, c[here] % size, i, j]  # [E', O / groups]
                outputs = group.unsqueeze(1) * per_group + torch.arange(per_group)
                at = (n[here].unsqueeze(1), outputs, oy[here].unsqueeze(1), ox[here].unsqueeze(1))
                acc.index_put_(at, columns, accumulate=True)

    def fire(self, t: int, mixed: Tensor) -> Tensor:
        """Spikes ``[N, O, ...]`` of step t, uint8, from ``H[t]``."""
        shape = [-1, *[1] * (mixed.dim() - 2)]
        return (self.sign.view(shape) * mixed >= self.thresholds[t].view(shape)).to(torch.uint8)


@dataclass(frozen=True)
class Chain:
    """A program whose neurons are memory-free and follow one another: ``first`` neurons, then ``layers``.

    still: the drive of the first neurons is the same in all steps. All schedules (``saccade.deploy.schedules``) take one.
    """

    program: Program
    first_wire: int
    still: bool
    layers: tuple[IntegerLayer, ...]

    @property
    def T(self) -> int:
        return self.program.T

    @property
    def first_path(self) -> str:
        return self.program.wires[self.first_wire].path

    def first(self, x: Any) -> Tensor:
        """The first spikes, uint8 ``[T, N, ...]``, of whole numbers ``[N, C, H, W]`` or ``[T, N, C, H, W]``."""
        return torch.from_numpy(self.program.spikes(np.asarray(x))[self.first_path].astype(np.uint8).copy())

    def logits(self, spikes: dict[str, Tensor]) -> Tensor:
        """The answer ``[N, ...]`` from what a schedule returned."""
        last = next(i for i, wire in enumerate(self.program.wires) if wire.path == self.layers[-1].path)
        found = self.program.trace_from(last, spikes[self.layers[-1].path].numpy().astype(np.int64))
        return torch.from_numpy(self.program.answer(found))

    def check(self, spikes: Tensor) -> None:
        """Raises ValueError for anything but the first spikes of this program."""
        expected = self.layers[0].inputs
        if spikes.shape[0] != self.T or tuple(spikes.shape[2:]) != expected:
            raise ValueError(
                f"the program takes spikes [{self.T}, N, {', '.join(map(str, expected))}], got {list(spikes.shape)}"
            )


def chain_of(program: Program) -> Chain:
    """The program as a chain. Raises ValueError naming what is none."""
    made = [None, *program.operations]  # by the number of its wire
    neurons = [i for i, wire in enumerate(program.wires) if wire.path]
    for i in neurons:
        if not isinstance(made[i], Mix):
            raise ValueError(
                f"{program.wires[i].path} is not memory-free; apply(model, 'memory_free') makes a network of LIF neurons so"
            )
    if len(neurons) < 2:
        raise ValueError(f"the program has {len(neurons)} layers of neurons in a chain; a schedule needs two")
    layers = tuple(_layer(program, made, a, b) for a, b in pairwise(neurons))
    return Chain(program, neurons[0], not program.timed()[_drive(made, neurons[0])], layers)


def _drive(made: list[Operation | None], neuron: int) -> int:
    operation = made[neuron]
    assert operation is not None
    before = made[operation.inputs[0]]
    return before.inputs[0] if isinstance(before, Hold) else operation.inputs[0]


def _layer(program: Program, made: list[Operation | None], before: int, neuron: int) -> IntegerLayer:
    """[max pool] - convolution or linear - neuron, after the spikes of ``before``."""
    mix, path = made[neuron], program.wires[neuron].path
    assert isinstance(mix, Mix)
    between: list[Operation] = []
    at = mix.inputs[0]
    while at != before:
        operation = made[at]
        if operation is None or len(operation.inputs) != 1 or program.wires[at].path:
            raise ValueError(f"{path}: it is not fed by {program.wires[before].path} alone; only chains have schedules")
        between.append(operation)
        at = operation.inputs[0]
    pools = [op for op in between if isinstance(op, Window)]
    products = [op for op in between if isinstance(op, Synapse)]
    if len(products) != 1 or len(pools) > 1 or len(products) + len(pools) + _moves(between) != len(between):
        raise ValueError(f"{path}: between neurons of a chain there are max pooling and one layer with weights")
    pool = _side(pools[0], path) if pools else 1
    order = int(mix.taps[-1, -1]).bit_length()
    if int(mix.taps[-1, -1]) != 1 << (order - 1) or not _halving(mix.taps, order):
        raise ValueError(f"{path}: its mixing is no row of powers of two; train it with learn=False")
    synapse = products[0]
    T, outputs = len(mix.taps), len(synapse.weight)
    sign = np.broadcast_to(mix.sign.reshape(-1), outputs)
    theta = np.broadcast_to(mix.thresholds.reshape(T, -1), (T, outputs))
    geometry: dict[str, Any] = {}
    if synapse.weight.ndim == 4:
        geometry = {key: getattr(synapse, key) for key in ("stride", "padding", "dilation", "groups")}
    return IntegerLayer(
        path=path,
        weight=torch.from_numpy(synapse.weight),
        sign=torch.from_numpy(sign.copy()),
        thresholds=torch.from_numpy(theta.copy()),
        order=order,
        pool=pool,
        inputs=program.wires[before].shape,
        outputs=program.wires[neuron].shape,
        **geometry,
    )


def _moves(between: list[Operation]) -> int:
    return sum(isinstance(operation, Reshape | Expand) for operation in between)


def _side(window: Window, path: str) -> int:
    if (
        window.kind != "max"
        or window.kernel[0] != window.kernel[1]
        or window.stride != window.kernel
        or any(window.padding)
    ):
        raise ValueError(
            f"{path}: only max pooling in whole square windows without overlap or padding is part of a chain"
        )
    return window.kernel[0]


def _halving(taps: Integers, order: int) -> bool:
    lags = np.arange(len(taps))[:, None] - np.arange(len(taps))
    inside = (lags >= 0) & (lags < order)
    return np.array_equal(taps, np.where(inside, 1 << (order - 1 - np.clip(lags, 0, order - 1)), 0))
