"""A trained network as a graph of NIR, read off a run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from saccade.deploy.exchange.conventions import DT, check, tau_of
from saccade.deploy.lowering import SAMPLES, constant
from saccade.graph import Node, Value, trace
from saccade.layers.norms import Norm, norm_of
from saccade.layers.weighted import weighted
from saccade.neurons import LIF
from saccade.neurons.spiking import Spiking
from saccade.optional import need

Sources = tuple[str, ...]  # nodes of NIR whose sum a value is: what several edges bring to a node is added
Rule = Callable[["NirWriter", Node], Sources]
_RULES: dict[type | str, Rule] = {}


def writes_nir(*kinds: type | str) -> Callable[[Rule], Rule]:
    """Register how a call of a module of a type, or an operation by name, is written: it gives the nodes that its output is the
    sum of, or raises ValueError saying what to do."""

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(kinds, rule))
        return rule

    return register


def to_nir(model: nn.Module, x: Tensor, *, convention: str = "euler", dt: float = DT) -> Any:
    """A network in eval mode as a ``nir.NIRGraph``, one step of one sample.

    x: a sample, ``[N, C, H, W]`` or ``[T, N, C, H, W]``. Norms go into the layer before them, an addition is two edges into one
    node, a maximum of spikes is a sum and a threshold. Weights are those that are used (quantized, masked). What NIR has no
    word for is refused by path: OR and AND of branches, gates, neurons other than LIF. ``saccade.deploy.exchange.conventions``
    says what neurons become; firing at ``v >= v_th`` is written as firing above the next smaller number of 32 bits.

    Raises ValueError naming what stands in the way.
    """
    nir = need("nir", "deploy")
    check(convention, dt)
    if model.training:
        raise ValueError("a network is exported as it runs: call model.eval() first")
    sequence = x.dim() == 5
    steps = len(x) if sequence else int(getattr(model, "T", 1))
    samples = next(count for count in SAMPLES if count != steps)
    one = x[:, :1] if sequence else x[:1]
    given = one.repeat_interleave(samples, 1 if sequence else 0)
    call = (lambda m, given: m(given, steps=True)) if getattr(type(model), "gives_steps", False) else None
    graph = trace(model, given, sequence=sequence, call=call)
    if len(graph.outputs) != 1:
        raise ValueError(f"{type(model).__name__} gives {len(graph.outputs)} tensors; NIR takes one answer")
    writer = NirWriter(samples, steps, convention, dt)
    writer.begin(graph.inputs[0])
    for node in graph.nodes:
        writer.visit(node)
    writer.end(graph.outputs[0])
    metadata = {"writer": "saccade", "convention": convention, "dt": dt, "steps": steps}
    return nir.NIRGraph(writer.nodes, writer.edges, metadata=metadata)


def write_nir(graph: Any, path: str | os.PathLike[str]) -> None:
    """Write a graph (aside, then renamed). Raises OSError where that fails; the previous file is then untouched."""
    nir = need("nir", "deploy")
    aside = Path(path).with_name(Path(path).name + ".part")
    try:
        nir.write(aside, graph)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


class NirWriter:
    """A graph in the making: its nodes and edges, and of which nodes each value of the run is the sum."""

    def __init__(self, samples: int, steps: int, convention: str, dt: float) -> None:
        self.nir = need("nir", "deploy")
        self.samples, self.steps, self.convention, self.dt = samples, steps, convention, dt
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.values: dict[Value, Sources] = {}

    def begin(self, value: Value) -> None:
        self.nodes["input"] = self.nir.Input({"input": np.array(self.inner(value))})
        self.values[value] = ("input",)

    def visit(self, node: Node) -> None:
        if not any(value.live for value in node.inputs):
            return
        kinds: tuple[type | str, ...] = (node.op,) if node.module is None else type(node.module).__mro__
        rule = next((_RULES[kind] for kind in kinds if kind in _RULES), None)
        what, where = type(node.module).__name__ if node.module is not None else node.op, node.path or str(node)
        if rule is None:
            raise ValueError(f"{where}: NIR has no word for a {what} here")
        try:
            self.values[node.output] = rule(self, node)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    def end(self, value: Value) -> None:
        self.put("output", self.nir.Output({"output": np.array(self.inner(value))}), self.values[value])

    def inner(self, value: Value) -> tuple[int, ...]:
        """The shape of a step of a sample. Raises ValueError where time or samples lie elsewhere than in front."""
        shape = value.shape
        if len(shape) > 2 and shape[0] in (1, self.steps) and shape[1] == self.samples:
            return tuple(shape[2:])
        if shape and shape[0] in (self.samples, self.steps * self.samples):
            return tuple(shape[1:])
        raise ValueError(f"time and samples are mixed with other axes: {list(shape)}")

    def put(self, name: str, node: Any, sources: Sources) -> Sources:
        """Add a node after others, under a name like its module's path."""
        name = name.replace(".", "_") or "node"
        while name in self.nodes:
            name += "_"
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return (name,)

    def of(self, value: Value) -> Sources:
        if value not in self.values:
            raise ValueError("it reads a constant where NIR takes signals")
        return self.values[value]

    def scaled(self, name: str, value: Value, scale: Any, offset: Any, readers: int = 1) -> Sources:
        """A value times a scale plus an offset, ``[C]`` each or one number: into the layer before, where nothing else reads
        that, else a convolution of single places or a matrix."""
        shape, sources = self.inner(value), self.of(value)
        scale, offset = (np.broadcast_to(np.asarray(a, np.float64).reshape(-1), shape[0]) for a in (scale, offset))
        if np.all(scale == 1) and not offset.any():
            return sources
        before = self.nodes[sources[0]] if len(sources) == 1 else None
        if isinstance(before, self.nir.Conv2d | self.nir.Affine) and len(value.users) == readers:
            rows = scale.reshape(-1, *[1] * (before.weight.ndim - 1))
            before.bias = (before.bias * scale + offset).astype(np.float32)
            before.weight = (before.weight * rows).astype(np.float32)
            return sources
        weight = np.diag(scale).astype(np.float32)
        if len(shape) == 1:
            return self.put(name, self.nir.Affine(weight=weight, bias=offset.astype(np.float32)), sources)
        return self.put(name, self.conv(weight[:, :, None, None], offset, shape), sources)

    def conv(
        self,
        weight: Any,
        bias: Any,
        shape: tuple[int, ...],
        stride: Any = (1, 1),
        padding: Any = (0, 0),
        dilation: Any = (1, 1),
    ) -> Any:
        return self.nir.Conv2d(
            input_shape=tuple(shape[1:]), weight=weight.astype(np.float32), stride=tuple(stride), padding=tuple(padding),
            dilation=tuple(dilation), groups=1, bias=np.asarray(bias, np.float32),
        )  # fmt: skip


@writes_nir(nn.Conv2d, nn.Linear)
def layer(w: NirWriter, node: Node) -> Sources:
    assert node.module is not None
    module, shape = weighted(node.module), w.inner(node.inputs[0])
    weight = module.used_weight().detach().double().cpu().numpy()
    bias = np.zeros(len(weight)) if module.bias is None else module.bias.detach().double().cpu().numpy()
    if weight.ndim == 2:
        if len(shape) != 1:
            raise ValueError(f"a linear layer over tokens {list(shape)}; NIR takes vectors")
        made = w.nir.Affine(weight=weight.astype(np.float32), bias=bias.astype(np.float32))
        return w.put(node.path, made, w.of(node.inputs[0]))
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise ValueError("only padding with zeros, given in numbers, can be written")
    if module.groups > 1:  # whose shapes nir 1.0.8 takes for those of one group
        weight = _without_groups(weight, module.groups)
    made = w.conv(weight, bias, shape, module.stride, module.padding, module.dilation)
    return w.put(node.path, made, w.of(node.inputs[0]))


def _without_groups(weight: npt.NDArray[Any], groups: int) -> npt.NDArray[Any]:
    """The weights of a convolution in groups as those of one over all channels, with zeros between groups."""
    outputs, inputs = len(weight) // groups, weight.shape[1]
    found = np.zeros((len(weight), inputs * groups, *weight.shape[2:]), weight.dtype)
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        found[rows, group * inputs : (group + 1) * inputs] = weight[rows]
    return found


@writes_nir(Norm, nn.modules.batchnorm._BatchNorm)
def norm(w: NirWriter, node: Node) -> Sources:
    assert node.module is not None
    scale, offset = norm_of(node.module).scale_and_offset()
    return w.scaled(node.path, node.inputs[0], scale.detach().cpu().numpy(), offset.detach().cpu().numpy())


@writes_nir("add")
def add(w: NirWriter, node: Node) -> Sources:
    first, second = node.args[0], node.args[1]
    if not all(isinstance(value, Value) and value.live for value in (first, second)):
        return _with_constant(w, node, 1, node.kwargs.get("alpha", 1))
    if node.kwargs.get("alpha", 1) != 1 or w.inner(first) != w.inner(second):
        raise ValueError("NIR adds signals of one shape, and nothing else")
    sources = (*w.of(first), *w.of(second))
    if len(set(sources)) < len(sources):
        raise ValueError("it adds a signal to itself, which NIR has no edge for")
    return sources


@writes_nir("sub", "mul", "div")
def _change(w: NirWriter, node: Node) -> Sources:
    live = [value for value in node.args[:2] if isinstance(value, Value) and value.live]
    if len(live) == 2 or (live[0] is not node.args[0] and node.op != "mul"):
        raise ValueError(f"NIR has no word for a {node.op} of signals; connections of the kind add can be written")
    if node.op == "sub":
        return _with_constant(w, node, 1, -1 * node.kwargs.get("alpha", 1))
    value, other = (node.args[0], node.args[1]) if live[0] is node.args[0] else (node.args[1], node.args[0])
    number = _by_channel(w, value, other)
    return w.scaled(node.path, value, 1 / number if node.op == "div" else number, 0.0)


def _with_constant(w: NirWriter, node: Node, scale: float, factor: float) -> Sources:
    first, second = node.args[0], node.args[1]
    value, other = (first, second) if isinstance(first, Value) and first.live else (second, first)
    return w.scaled(node.path, value, scale, _by_channel(w, value, other) * factor)


def _by_channel(w: NirWriter, value: Value, other: Any) -> npt.NDArray[Any]:
    """A constant as numbers of the channels, or one. Raises ValueError for one that changes along other axes."""
    number = constant(other) if isinstance(other, Value) else np.asarray(float(other))
    shape = w.inner(value)
    number = number.reshape(number.shape[-len(shape) :]) if number.ndim > len(shape) else number
    number = number.reshape((1,) * (len(shape) - number.ndim) + number.shape)
    if math.prod(number.shape) != number.shape[0]:
        raise ValueError("a constant that changes from place to place")
    return number.reshape(-1)


@writes_nir("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unsqueeze", "squeeze", "expand",
            "clone", "detach", "alias", "lift_fresh", "_to_copy", "dropout", nn.Identity, nn.Dropout)  # fmt: skip
def same(w: NirWriter, node: Node) -> Sources:
    before, after = w.inner(node.inputs[0]), w.inner(node.output)
    if before == after:
        return w.of(node.inputs[0])
    if len(after) == 1 and math.prod(before) == after[0]:
        made = w.nir.Flatten(input_type={"input": np.array(before)}, start_dim=0, end_dim=-1)
        return w.put(f"{node.path}_flatten".lstrip("_"), made, w.of(node.inputs[0]))
    raise ValueError(f"{list(before)} becomes {list(after)}; NIR has no word for it but flattening")


@writes_nir("avg_pool2d")
def average(w: NirWriter, node: Node) -> Sources:
    kernel = _pair(node.argument(1, "kernel_size"))
    stride, padding = _pair(node.argument(2, "stride") or kernel), _pair(node.argument(3, "padding", 0))
    if (
        node.argument(4, "ceil_mode", False)
        or node.argument(6, "divisor_override")
        or not node.argument(5, "count_include_pad", True)
    ):
        raise ValueError("only averages over whole windows that count their borders can be written")
    if w.convention == "sinabs":  # which has sums alone; the factor goes to whatever reads them
        raise ValueError("sinabs reads no average pooling; sum, or choose the convention euler")
    made = w.nir.AvgPool2d(kernel_size=np.array(kernel), stride=np.array(stride), padding=np.array(padding))
    return w.put(node.path, made, w.of(node.inputs[0]))


@writes_nir("max_pool2d_with_indices", "max_pool2d")
def maximum(w: NirWriter, node: Node) -> Sources:
    alphabet = node.inputs[0].alphabet
    if alphabet is None or (alphabet.unit, alphabet.low, alphabet.high) != (1, 0, 1):
        raise ValueError("NIR has no maximum; of spikes of 0 and 1 one can be written, of other numbers not")
    kernel = _pair(node.argument(1, "kernel_size"))
    stride, padding = _pair(node.argument(2, "stride") or kernel), _pair(node.argument(3, "padding", 0))
    if _pair(node.argument(4, "dilation", 1)) != (1, 1) or node.argument(5, "ceil_mode", False):
        raise ValueError("only maxima of whole windows without dilation can be written")
    pool = w.nir.SumPool2d(kernel_size=np.array(kernel), stride=np.array(stride), padding=np.array(padding))
    summed = w.put(node.path, pool, w.of(node.inputs[0]))
    any_spike = w.nir.Threshold(np.full(w.inner(node.output), 0.5, np.float32))
    return w.put(f"{node.path}_any", any_spike, summed)


@writes_nir("mean")
def mean(w: NirWriter, node: Node) -> Sources:
    shape, dims = w.inner(node.inputs[0]), len(node.inputs[0].shape)
    axes = node.argument(1, "dim")
    axes = {axis % dims for axis in (axes if isinstance(axes, list | tuple) else [axes])}
    if len(shape) != 3 or axes != {dims - 2, dims - 1}:
        raise ValueError("a mean over anything but all places of a map cannot be written")
    size = np.array(shape[1:])
    pooled = w.put(
        f"{node.path}_mean".lstrip("_"),
        w.nir.AvgPool2d(kernel_size=size, stride=size, padding=np.zeros(2, int)),
        w.of(node.inputs[0]),
    )
    if node.argument(2, "keepdim", False):
        return pooled
    return w.put(
        "flatten", w.nir.Flatten(input_type={"input": np.array([shape[0], 1, 1])}, start_dim=0, end_dim=-1), pooled
    )


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


@writes_nir(LIF)
def lif(w: NirWriter, node: Node) -> Sources:
    neuron: Any = node.module
    if type(neuron) is not LIF:
        return other(w, node)
    c, shape, rate = neuron._config, w.inner(node.inputs[0]), 1 / neuron.tau()
    decay, gain = 1 - rate, rate if c.decay_input else 1.0
    buffer = neuron._buffers.get("v_th")
    v_th = np.asarray(c.v_th if buffer is None else buffer.double().cpu().numpy())
    v_th = np.broadcast_to(v_th.reshape(-1, *[1] * (len(shape) - 1)) if v_th.ndim else v_th, shape)
    below = np.nextafter(v_th.astype(np.float32), np.float32(-np.inf))

    def full(number: float) -> npt.NDArray[np.float64]:
        return np.full(shape, number)

    if w.convention == "sinabs":
        if c.reset != "soft" or c.v_rest != 0:
            raise ValueError("sinabs subtracts the threshold and rests at 0; its neurons have another reset or rest")
        sources = w.scaled(node.path + "_gain", node.inputs[0], gain, 0.0)
        if decay == 1:
            return w.put(
                node.path, w.nir.IF(r=full(1.0), v_threshold=v_th.astype(np.float32), v_reset=full(0.0)), sources
            )
        taus = full(tau_of(decay, w.convention, w.dt))
        made = w.nir.LIF(
            tau=taus, r=full(1.0), v_leak=full(0.0), v_threshold=v_th.astype(np.float32), v_reset=full(0.0)
        )
        return w.put(node.path, made, sources)
    if c.reset != "hard":
        raise ValueError(
            f"NIR's neurons are set to a potential after a spike, and these have reset={c.reset!r}"
            + (": the convention sinabs subtracts the threshold" if c.reset == "soft" else "")
        )
    v_reset = full(c.v_reset)
    if decay == 1:
        return w.put(node.path, w.nir.IF(r=full(gain), v_threshold=below, v_reset=v_reset), w.of(node.inputs[0]))
    tau = tau_of(decay, w.convention, w.dt)
    made = w.nir.LIF(
        tau=full(tau), r=full(gain * tau / w.dt), v_leak=full(c.v_rest), v_threshold=below, v_reset=v_reset
    )
    return w.put(node.path, made, w.of(node.inputs[0]))


@writes_nir(Spiking)
def other(w: NirWriter, node: Node) -> Sources:
    raise ValueError(f"NIR has no word for neurons of the kind {type(node.module).__name__}; LIF can be written")
