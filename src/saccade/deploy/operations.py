"""The operations of a program: frozen records of numbers and tensors, each with its arithmetic. ``@lowers`` says what becomes
one.

Inputs and outputs are ``[T or 1, N, ...]``. What lies before the first spikes and after the last is in float64; what lies
between is in integers (``saccade.deploy.program``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.config import Registry
from saccade.graph import Node, Value
from saccade.layers import Norm, Weighted
from saccade.models.rows_mlp import RowScan
from saccade.neurons import Mixing, Spiking

OPERATIONS: Registry[type[Operation]] = Registry("operation of a program")
Rule = Callable[[Node], "Operation | None"]
_RULES: dict[type | str, Rule] = {}


@dataclass(frozen=True)
class Operation:
    """Base of the records. Tensors among the fields go into a file as they are, the rest as JSON."""

    name: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        if "name" in vars(cls):
            OPERATIONS.register(cls.name, cls)

    def run(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}

    def settings(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if not isinstance(getattr(self, f.name), Tensor)}


def lowers(*kinds: type | str) -> Callable[[Rule], Rule]:
    """Register a rule: from a node of the graph, a call of a module of a type or an operation by name, to a record.

    A rule gives None for what does nothing in eval mode, and raises ValueError, saying what to do, for what it cannot lower.
    """

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def rule_for(node: Node) -> Rule | None:
    """The rule of a node: of its module's type or nearest base type, or of its operation."""
    kinds: tuple[type | str, ...] = (node.op,) if node.module is None else type(node.module).__mro__
    return next((_RULES[kind] for kind in kinds if kind in _RULES), None)


@dataclass(frozen=True)
class Affine(Operation):
    """``x * scale + offset``, both broadcast against a sample's step."""

    name = "affine"
    scale: Tensor
    offset: Tensor

    def run(self, x: Tensor) -> Tensor:
        return x * self.scale + self.offset


@dataclass(frozen=True)
class Convolution(Operation):
    """A convolution of maps ``[T, N, C, H, W]`` in float64."""

    name = "convolution"
    weight: Tensor
    bias: Tensor
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def run(self, x: Tensor) -> Tensor:
        y = F.conv2d(x.flatten(0, 1), self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return y.unflatten(0, x.shape[:2])


@dataclass(frozen=True)
class MatrixProduct(Operation):
    """``weight x + bias`` on the last axis; what has more is flattened to as many inputs as there are."""

    name = "matrix_product"
    weight: Tensor
    bias: Tensor

    def run(self, x: Tensor) -> Tensor:
        return F.linear(x if x.shape[-1] == self.weight.shape[1] else x.flatten(2), self.weight, self.bias)


@dataclass(frozen=True)
class Mean(Operation):
    """Mean over axes counted from the end."""

    name = "mean"
    axes: tuple[int, ...]

    def run(self, x: Tensor) -> Tensor:
        return x.mean(self.axes)


@dataclass(frozen=True)
class Pool(Operation):
    """Maxima or means of windows of maps."""

    name = "pool"
    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def run(self, x: Tensor) -> Tensor:
        pool = F.max_pool2d if self.kind == "max" else F.avg_pool2d
        return pool(x.flatten(0, 1), self.kernel, self.stride, self.padding).unflatten(0, x.shape[:2])


@dataclass(frozen=True)
class Rows(Operation):
    """Row ``t mod H`` of frame t: ``[T, N, C, H, W] -> [T, N, C * W]``; what has T = 1 is shown for ``steps``."""

    name = "rows"
    steps: int

    def run(self, x: Tensor) -> Tensor:
        return RowScan().step(x.expand(self.steps, *x.shape[1:]))[0]


@dataclass(frozen=True)
class FirstSpikes(Operation):
    """Memory-free neurons on currents: ``mixing [T, T]`` or ``[C, T, T]``, ``theta`` one or one a step; what has T = 1 is
    shown.
    """

    name = "first_spikes"
    mixing: Tensor
    theta: Tensor
    channel_axis: int

    def run(self, x: Tensor) -> Tensor:
        T = self.mixing.shape[-1]
        x = x.expand(T, *x.shape[1:])
        if self.mixing.dim() == 2:
            mixed = torch.tensordot(self.mixing, x, dims=1)
        else:
            axis = self.channel_axis % x.dim()
            moved = x.movedim(axis, 0).flatten(2)  # [C, T, ...]
            mixed = (self.mixing @ moved).unflatten(2, [s for i, s in enumerate(x.shape) if i not in (0, axis)])
            mixed = mixed.movedim(0, axis)
        return (mixed >= self.theta.view(-1, *[1] * (x.dim() - 1))).to(x.dtype)


def _pair(value: Any, default: tuple[int, int]) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value or default)
    return (values[0], values[-1])


def _bias(module: Any, outputs: int) -> Tensor:
    return torch.zeros(outputs, dtype=torch.float64) if module.bias is None else module.bias.detach().double()


@lowers(nn.Conv2d)
def convolution(node: Node) -> Operation:
    layer: Any = node.module
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ValueError(f"{node.path}: only padding with zeros, given in numbers, can be lowered")
    weight = (layer.used_weight() if isinstance(layer, Weighted) else layer.weight).detach().double()
    geometry = (tuple(layer.stride), tuple(layer.padding), tuple(layer.dilation), layer.groups)
    return Convolution(weight, _bias(layer, len(weight)), *geometry)


@lowers(nn.Linear)
def matrix_product(node: Node) -> Operation:
    layer: Any = node.module
    weight = (layer.used_weight() if isinstance(layer, Weighted) else layer.weight).detach().double()
    return MatrixProduct(weight, _bias(layer, len(weight)))


@lowers(Norm)
def affine(node: Node) -> Operation:
    norm: Any = node.module
    try:
        scale, offset = norm.scale_and_offset()
    except ValueError as error:
        raise ValueError(f"{node.path}: {error}; only a norm that is a scale and an offset can be lowered") from None
    dims = len(node.inputs[0].shape)
    shape = [-1] + [1] * (dims - 1 - norm.channel_axis % dims)
    return Affine(scale.double().view(shape), offset.double().view(shape))


@lowers("sub", "add", "mul", "div")
def arithmetic(node: Node) -> Operation:
    """With a constant: pixel normalisation."""
    value = node.args[1]
    if isinstance(value, Value):
        if value.live or value.tensor is None or node.kwargs.get("alpha", 1) != 1:
            raise ValueError(f"{node}: two branches meet here: only chains of layers can be lowered")
        value = value.tensor
    constant = torch.as_tensor(value, dtype=torch.float64)
    one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    if node.op in ("sub", "add"):
        return Affine(one, constant if node.op == "add" else -constant)
    return Affine(constant if node.op == "mul" else 1 / constant, zero)


@lowers("mean")
def mean(node: Node) -> Operation:
    dims = len(node.inputs[0].shape)
    axes = node.argument(1, "dim")
    if not axes or node.argument(2, "keepdim", False) or any(axis % dims < 2 for axis in axes):
        raise ValueError(f"{node}: only a mean over places or channels, which go, can be lowered")
    return Mean(tuple(axis % dims - dims for axis in axes))


@lowers("avg_pool2d", "max_pool2d_with_indices", "max_pool2d")
def pool(node: Node) -> Operation:
    kernel = _pair(node.argument(1, "kernel_size"), (1, 1))
    stride, padding = _pair(node.argument(2, "stride"), kernel), _pair(node.argument(3, "padding", 0), (0, 0))
    if node.op == "avg_pool2d":
        odd = node.argument(4, "ceil_mode", False) or node.argument(6, "divisor_override") or padding != (0, 0)
    else:
        dilation = _pair(node.argument(4, "dilation", 1), (1, 1))
        odd = dilation != (1, 1) or node.argument(5, "ceil_mode", False)
    if odd:
        raise ValueError(f"{node}: only pooling in whole windows without dilation can be lowered")
    return Pool("mean" if node.op == "avg_pool2d" else "max", kernel, stride, padding)


@lowers(RowScan)
def rows(node: Node) -> Operation:
    return Rows(node.output.shape[0])


@lowers(Mixing)
def first_spikes(node: Node) -> Operation:
    neuron: Any = node.module
    mixing = neuron.mixing(node.output.shape[0]).detach().double()
    return FirstSpikes(mixing, neuron.theta.detach().double(), neuron.channel_axis)


@lowers(Spiking)
def other_neurons(node: Node) -> Operation:
    name = type(node.module).__name__
    raise ValueError(f"{node.path} is a {name}; apply(model, 'memory_free') makes it memory-free")
