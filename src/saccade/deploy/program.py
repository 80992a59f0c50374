"""A memory-free chain network in integers: what is stored of each layer, its arithmetic, and the file it lives in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from saccade.deploy.operations import OPERATIONS, Operation
from saccade.files.tensors import read_metadata, read_tensors, write_tensors

ALWAYS, NEVER = -(2**62), 2**62  # thresholds of channels that do not depend on their input
FORMAT = "saccade-program-1"


@dataclass(frozen=True)
class IntegerLayer(Operation):
    """One layer of one-bit inputs and its neurons: ``fires[t] iff sign * H[t] >= thresholds[t]``, all int64.

    ``H[t] = sum_j 2^(order-1-j) * (weight . s[t-j])`` over the lags j < order: the leaky sum with lambda = 1/2, times
    2^(order-1), so that no bit is lost. path: of its neurons in the model. weight: ``[O, I, kh, kw]`` or ``[O, I]``; sign:
    ``[O]``, of the scale between integers and potentials; thresholds: ``[T, O]``, where norm, biases and theta went.
    pool: side of the windows of its input that are joined by OR first (1: none). stride, padding, dilation, groups: of a
    convolution. inputs, outputs: shapes of a sample, before pooling and after firing.
    Source: the arithmetic of Wei et al. (2025), QP-SNN, with time in the place of weight bits.
    """

    name = "integer_layer"
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
class Program:
    """A lowered network: a float64 front that makes the first spikes, integer layers, a float64 read-out; all records.

    front: from pixels to the first spikes ``[T, N, ...]``, of the neurons at ``first_path``; still: their input is the same
    at every step. readout: from the last spikes to an answer a step; last: whether the network's answer is the last step or
    the mean. The schedules of ``saccade.deploy`` map the first spikes to those of every layer, by path.
    """

    T: int
    front: tuple[Operation, ...]
    first_path: str
    still: bool
    layers: tuple[IntegerLayer, ...]
    readout: tuple[Operation, ...]
    last: bool

    def first(self, x: Tensor) -> Tensor:
        """The first spikes, uint8 ``[T, N, ...]``, of images ``[N, C, H, W]`` or a sequence."""
        return interpret(self.front, x.double() if x.dim() == 5 else x.double().unsqueeze(0)).to(torch.uint8)

    def logits(self, spikes: dict[str, Tensor]) -> Tensor:
        """The answer ``[N, ...]`` from what a schedule returned."""
        steps = interpret(self.readout, spikes[self.layers[-1].path].double())
        return steps[-1] if self.last else steps.mean(0)

    def run(self, x: Tensor) -> Tensor:
        """From images to the answer: the interpreter, which every schedule and engine is held to."""
        spikes = interpret(self.layers, self.first(x))
        return self.logits({self.layers[-1].path: spikes})

    def check(self, spikes: Tensor) -> None:
        """Raises ValueError for anything but the first spikes of this program."""
        expected = self.layers[0].inputs
        if spikes.shape[0] != self.T or tuple(spikes.shape[2:]) != expected:
            raise ValueError(
                f"the program takes spikes [{self.T}, N, {', '.join(map(str, expected))}], got {list(spikes.shape)}"
            )


def interpret(operations: Sequence[Operation], x: Tensor) -> Tensor:
    """Run records one after another."""
    with torch.no_grad():
        for operation in operations:
            x = operation.run(x)
    return x


def save_program(program: Program, path: str | os.PathLike[str]) -> None:
    """Write a program: safetensors with the records as JSON (aside, then renamed)."""
    tensors: dict[str, Tensor] = {}
    parts: dict[str, list[dict[str, Any]]] = {}
    for part in ("front", "layers", "readout"):
        for i, operation in enumerate(getattr(program, part)):
            record = {
                "operation": operation.name,
                "settings": operation.settings(),
                "tensors": list(operation.tensors()),
            }
            parts.setdefault(part, []).append(record)
            tensors |= {f"{part}.{i}.{name}": value.contiguous() for name, value in operation.tensors().items()}
    settings = {name: getattr(program, name) for name in ("T", "first_path", "still", "last")}
    write_tensors(tensors, path, {"format": FORMAT, **settings, "parts": parts})


def load_program(path: str | os.PathLike[str]) -> Program:
    """Read a program. Raises ValueError in one line for anything that is none."""
    metadata = read_metadata(path, (FORMAT,), "program file")
    tensors = read_tensors(path, "program file")
    try:
        parts = {
            part: tuple(
                OPERATIONS[record["operation"]](
                    **{name: _tuples(value) for name, value in record["settings"].items()},
                    **{name: tensors[f"{part}.{i}.{name}"] for name in record["tensors"]},
                )
                for i, record in enumerate(metadata["parts"].get(part, []))
            )
            for part in ("front", "layers", "readout")
        }
        settings = {name: metadata[name] for name in ("T", "first_path", "still", "last")}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: its records are damaged ({type(error).__name__}: {error})") from None
    return Program(**settings, **parts)  # type: ignore[arg-type]


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
