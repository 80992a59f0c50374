"""A graph of NIR as a network of ours, which can be lowered, verified and run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from saccade.deploy.exchange.conventions import DT, check, decay_of
from saccade.files.tensors import BROKEN, in_one_line
from saccade.layers import AvgPool2d, Conv2d, Linear
from saccade.neurons import LIFConfig
from saccade.optional import need

MOST_BYTES = 1 << 31  # that the arrays of a file may take
MOST_NODES = 10_000
_BUILDERS: dict[str, Callable[[Any, Reading], nn.Module]] = {}


@dataclass(frozen=True)
class Reading:
    """What a file does not say: see ``saccade.deploy.exchange.conventions``."""

    convention: str = "euler"
    dt: float = DT


def reads_nir(*names: str) -> Callable[[Callable[[Any, Reading], nn.Module]], Callable[[Any, Reading], nn.Module]]:
    """Register what becomes of a node by the name of its type. It raises ValueError for what no layer of ours does."""

    def register(builder: Callable[[Any, Reading], nn.Module]) -> Callable[[Any, Reading], nn.Module]:
        _BUILDERS.update(dict.fromkeys(names, builder))
        return builder

    return register


class NirNetwork(nn.Module):
    """A graph without loops. ``net(x)``: x is ``[N, C, H, W]``, shown for T steps, or ``[T, N, C, H, W]``; the mean over steps
    of what reaches its output. Vectors of K numbers come as ``[K, 1, 1]``.

    input_shape: ``(C, H, W)``. notes: what was read otherwise than it was written.
    """

    gives_steps = True
    readout = "mean"

    def __init__(self, shape: tuple[int, ...], T: int) -> None:
        super().__init__()
        self.T, self.shape = T, shape
        self.input_shape = shape if len(shape) == 3 else (*shape, 1, 1) if len(shape) == 1 else (1, *shape)
        self.layers = nn.ModuleDict()
        self.sources: dict[str, tuple[str, ...]] = {}
        self.answer: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()

    def forward(self, x: Tensor, steps: bool = False) -> Tensor:
        """Raises ValueError for input of another shape."""
        if x.dim() not in (4, 5) or tuple(x.shape[-3:]) != self.input_shape:
            c, h, w = self.input_shape
            raise ValueError(f"expected [N, {c}, {h}, {w}] or [T, N, {c}, {h}, {w}], got {list(x.shape)}")
        x = x.unsqueeze(0).expand(self.T, *x.shape) if x.dim() == 4 else x
        found = {"": x.reshape(*x.shape[:2], *self.shape) if x.shape[2:] != self.shape else x}
        for name, layer in self.layers.items():
            found[name] = layer(self._sum(found, self.sources[name]))
        y = self._sum(found, self.answer)
        return y if steps else y.mean(0)

    @staticmethod
    def _sum(found: dict[str, Tensor], names: tuple[str, ...]) -> Tensor:
        total = found[names[0]]
        for name in names[1:]:
            total = total + found[name]
        return total


def read_nir(
    path: str | os.PathLike[str], *, T: int = 16, convention: str | None = None, dt: float | None = None
) -> NirNetwork:
    """A ``.nir`` file as a network. T: steps that a still input is shown for. convention, dt: see ``from_nir``.

    Raises ValueError in one line for a file that is none, is damaged, too large or newer, or holds what cannot be read.
    """
    nir, h5py = need("nir", "deploy"), need("h5py", "deploy")
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such NIR file")
    try:
        with h5py.File(path, "r") as file:
            _check_sizes(file)
        graph = nir.read(Path(path), type_check=False)
    except (OSError, AssertionError, *BROKEN) as error:
        raise ValueError(f"{path}: not a readable NIR file ({in_one_line(error)})") from None
    try:
        return from_nir(graph, T=T, convention=convention, dt=dt)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _check_sizes(file: Any) -> None:
    """Raises ValueError for a file of a later format, or arrays that would fill the memory: nothing is read before."""
    known = need("nir", "deploy").version
    version = file["version"][()].decode()
    if int(version.split(".")[0]) > int(known.split(".")[0]):
        raise ValueError(f"written by NIR {version}, and {known} is installed: update the package nir")
    total = nodes = 0

    def look(name: str, item: Any) -> None:
        nonlocal total, nodes
        nodes += 1
        total += int(item.nbytes) if hasattr(item, "nbytes") else 0
        if total > MOST_BYTES or nodes > 20 * MOST_NODES:
            raise ValueError(
                f"its arrays take more than {MOST_BYTES >> 30} GiB, or it has more than {MOST_NODES} nodes"
            )

    file.visititems(look)


def from_nir(graph: Any, *, T: int = 16, convention: str | None = None, dt: float | None = None) -> NirNetwork:
    """A ``nir.NIRGraph`` as a network in eval mode. T: steps that a still input is shown for.

    convention, dt: how its neurons become steps (``saccade.deploy.exchange.conventions``). None: as the graph says, where we
    wrote it, else "euler" with 1e-4 seconds. What reaches a node by several edges is added.

    Raises ValueError naming the node that cannot be read: loops, synaptic currents, delays, neurons of one layer with
    different time constants, one-dimensional convolutions.
    """
    ours = (
        graph.metadata if isinstance(graph.metadata, dict) and _text(graph.metadata.get("writer")) == "saccade" else {}
    )
    reading = Reading(
        convention or _text(ours.get("convention", "euler")), float(dt if dt is not None else ours.get("dt", DT))
    )
    check(reading.convention, reading.dt)
    if not 1 <= T <= 1 << 16:
        raise ValueError(f"T must be 1 to 65536 steps, got {T}")
    nodes, edges = _flat(graph)
    inputs = [name for name, node in nodes.items() if type(node).__name__ == "Input"]
    outputs = [name for name, node in nodes.items() if type(node).__name__ == "Output"]
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"it has {len(inputs)} inputs and {len(outputs)} outputs; one of each can be read")
    net = NirNetwork(_input_shape(nodes[inputs[0]]), T)
    names = {inputs[0]: ""}
    for name in _order(nodes, edges):
        node, kind = nodes[name], type(nodes[name]).__name__
        sources = tuple(names[a] for a, b in edges if b == name)
        if name in inputs:
            continue
        if not sources:
            raise ValueError(f"{name}: nothing leads to it")
        if name in outputs:
            net.answer = sources
            continue
        builder = _BUILDERS.get(kind)
        if builder is None:
            raise ValueError(
                f"{name}: a {kind} cannot be read; convolutions, affine layers, pools and LIF or IF neurons can"
            )
        key = name.replace(".", "_") or "node"
        while key in net.layers:
            key += "_"
        try:
            net.layers[key] = builder(node, reading)
        except (AssertionError, *BROKEN) as error:
            raise ValueError(f"{name}: {in_one_line(error)}") from None
        names[name], net.sources[key] = key, sources
    try:
        with torch.no_grad():
            net.eval()(torch.zeros(1, 1, *net.input_shape))
    except BROKEN as error:
        raise ValueError(f"its layers do not fit together ({in_one_line(error)})") from None
    if reading.convention == "sinabs":
        net.notes = ("neurons of sinabs that pass twice their threshold in a step fire twice there, and once here",)
    return net


def _text(value: Any) -> str:
    value = value.item() if isinstance(value, np.ndarray | np.generic) else value
    return value.decode() if isinstance(value, bytes) else str(value)


def _flat(graph: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Nodes and edges of a graph, those of graphs within it in their place."""
    nodes: dict[str, Any] = {}
    edges = [(str(a), str(b)) for a, b in dict.fromkeys(map(tuple, graph.edges))]
    for name, node in graph.nodes.items():
        if type(node).__name__ != "NIRGraph":
            nodes[str(name)] = node
            continue
        inner, inside = _flat(node)
        ends = {
            kind: [key for key, found in inner.items() if type(found).__name__ == kind] for kind in ("Input", "Output")
        }
        if any(len(found) != 1 for found in ends.values()):
            raise ValueError(f"{name}: a graph within the graph with several inputs or outputs")
        nodes |= {f"{name}.{key}": found for key, found in inner.items()}
        nodes[f"{name}.{ends['Input'][0]}"] = nodes[f"{name}.{ends['Output'][0]}"] = _Pass()
        edges = [
            (f"{name}.{ends['Output'][0]}" if a == name else a, f"{name}.{ends['Input'][0]}" if b == name else b)
            for a, b in edges
        ]
        edges += [(f"{name}.{a}", f"{name}.{b}") for a, b in inside]
    if len(nodes) > MOST_NODES:
        raise ValueError(f"it has more than {MOST_NODES} nodes")
    for a, b in edges:
        for name in (a, b):
            if name not in nodes:
                raise ValueError(f"an edge leads to {name}, which is no node")
    return nodes, edges


class _Pass:
    """Where a graph within the graph begins or ends."""


def _order(nodes: dict[str, Any], edges: list[tuple[str, str]]) -> list[str]:
    """Nodes, each behind those that lead to it. Raises ValueError for loops."""
    waiting = {name: {a for a, b in edges if b == name} for name in nodes}
    order: list[str] = []
    while waiting:
        ready = [name for name, before in waiting.items() if not before]
        if not ready:
            raise ValueError(f"{min(waiting)}: lies on a loop, and recurrent connections cannot be read")
        order += ready
        for name in ready:
            del waiting[name]
        for before in waiting.values():
            before.difference_update(ready)
    return order


def _input_shape(node: Any) -> tuple[int, ...]:
    shape = tuple(int(size) for size in np.asarray(node.input_type["input"]).reshape(-1))
    shape = shape[1:] if len(shape) in (2, 4) and shape[0] == 1 else shape  # a sample's axis that was written along
    if len(shape) not in (1, 2, 3) or min(shape) < 1 or math.prod(shape) > 1 << 24:
        raise ValueError(f"an input of shape {list(shape)} cannot be read; [K] or [C, H, W] can")
    return shape


def _array(values: Any, what: str) -> npt.NDArray[np.float64]:
    found = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"its {what} holds numbers that are not finite")
    return found


def _one(values: Any, what: str) -> float:
    """The number that all of an array are."""
    found = _array(values, what)
    if not found.size or np.ptp(found) > 1e-6 * max(abs(float(found.flat[0])), 1e-30):
        raise ValueError(f"its {what} differs from neuron to neuron, and those of a layer here share it")
    return float(found.flat[0])


def _counts(values: Any, what: str, least: int) -> tuple[int, int]:
    found = np.asarray(values).reshape(-1)
    if (
        found.size not in (1, 2)
        or not np.array_equal(found, found.astype(np.int64))
        or found.min() < least
        or found.max() > 1 << 16
    ):
        raise ValueError(f"its {what} is {found.tolist()}; one or two whole numbers from {least} are expected")
    return int(found[0]), int(found[-1])


@reads_nir("_Pass")
def passing(node: Any, reading: Reading) -> nn.Module:
    return nn.Identity()


@reads_nir("Affine", "Linear")
def affine(node: Any, reading: Reading) -> nn.Module:
    weight = _array(node.weight, "weight")
    if weight.ndim != 2:
        raise ValueError(f"a weight of shape {list(weight.shape)}; a matrix can be read")
    bias = _array(node.bias, "bias") if type(node).__name__ == "Affine" else None
    made = Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return _loaded(made, weight, bias)


def _loaded(layer: Any, weight: Any, bias: Any) -> nn.Module:
    state = {"weight": torch.from_numpy(weight).float()} | (
        {} if bias is None else {"bias": torch.from_numpy(bias).float()}
    )
    layer.load_state_dict(state)
    found: nn.Module = layer
    return found


@reads_nir("Conv2d")
def conv(node: Any, reading: Reading) -> nn.Module:
    weight, bias = _array(node.weight, "weight"), _array(node.bias, "bias")
    if weight.ndim != 4:
        raise ValueError(f"a weight of shape {list(weight.shape)}; [outputs, inputs, height, width] can be read")
    stride, dilation = _counts(node.stride, "stride", 1), _counts(node.dilation, "dilation", 1)
    (groups, _), (kh, kw) = _counts(node.groups, "groups", 1), weight.shape[2:]
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if isinstance(padding, str):
        if padding == "same" and (stride != (1, 1) or not kh % 2 or not kw % 2):
            raise ValueError("padding 'same' can be read with stride 1 and odd kernels")
        around = (dilation[0] * (kh - 1) // 2, dilation[1] * (kw - 1) // 2) if padding == "same" else (0, 0)
    else:
        around = _counts(padding, "padding", 0)
    made = Conv2d(weight.shape[1] * groups, weight.shape[0], (kh, kw), stride, around, dilation, groups)
    return _loaded(made, weight, bias)


class SumPool2d(AvgPool2d):
    """Sums over windows of ``[T, N, C, H, W]``."""

    def forward(self, input: Tensor) -> Tensor:
        kernel = self.kernel_size
        return super().forward(input) * (kernel * kernel if isinstance(kernel, int) else kernel[0] * kernel[1])


@reads_nir("SumPool2d", "AvgPool2d")
def pool(node: Any, reading: Reading) -> nn.Module:
    kind = SumPool2d if type(node).__name__ == "SumPool2d" else AvgPool2d
    return kind(
        _counts(node.kernel_size, "kernel_size", 1),
        _counts(node.stride, "stride", 1),
        _counts(node.padding, "padding", 0),
    )


@reads_nir("Flatten")
def flatten(node: Any, reading: Reading) -> nn.Module:
    start, end = int(node.start_dim), int(node.end_dim)
    return nn.Flatten(start + 2 if start >= 0 else start, end + 2 if end >= 0 else end)


class Scaled(nn.Module):
    """A signal times one number a place, ``[...]``."""

    def __init__(self, scale: npt.NDArray[np.float64]) -> None:
        super().__init__()
        self.register_buffer("scale", torch.from_numpy(np.array(scale)).float())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.get_buffer("scale")


@reads_nir("Scale")
def scale(node: Any, reading: Reading) -> nn.Module:
    return Scaled(_array(node.scale, "scale"))


@reads_nir("Threshold")
def threshold(node: Any, reading: Reading) -> nn.Module:
    return _neuron(node.threshold, 0.0, "soft", above=True)


@reads_nir("LIF")
def lif(node: Any, reading: Reading) -> nn.Module:
    return _leaky(node, node.tau, _array(node.r, "resistance"), reading)


@reads_nir("CubaLIF")
def cuba(node: Any, reading: Reading) -> nn.Module:
    """Current-based neurons, where the current lasts no longer than a step."""
    if decay_of(_one(node.tau_syn, "synaptic time constant"), reading.convention, reading.dt) > 1e-6:
        raise ValueError(
            "its synaptic current outlasts a step, and no neuron here keeps one: train it with LIF neurons, or tau_syn = dt"
        )
    return _leaky(node, node.tau_mem, _array(node.r, "resistance") * _array(node.w_in, "w_in"), reading)


def _leaky(node: Any, tau: Any, r: npt.NDArray[np.float64], reading: Reading) -> nn.Module:
    decay = decay_of(_one(tau, "time constant"), reading.convention, reading.dt)
    rest = _one(node.v_leak, "v_leak")
    if reading.convention == "sinabs":
        if rest:
            raise ValueError("neurons of sinabs rest at 0")
        return _neuron(node.v_threshold, decay, "soft", above=False)
    return _neuron(node.v_threshold, decay, "hard", True, r * (1 - decay), rest, _one(node.v_reset, "v_reset"))


@reads_nir("IF")
def integrate(node: Any, reading: Reading) -> nn.Module:
    if reading.convention == "sinabs":
        return _neuron(node.v_threshold, 1.0, "soft", above=False)
    return _neuron(
        node.v_threshold, 1.0, "hard", True, _array(node.r, "resistance"), 0.0, _one(node.v_reset, "v_reset")
    )


def _neuron(
    v_th: Any, decay: float, reset: str, above: bool, gain: Any = 1.0, rest: float = 0.0, v_reset: float = 0.0
) -> nn.Module:
    """LIF neurons; above: they fire above the threshold, else at it too."""
    thresholds = _array(v_th, "threshold").astype(np.float32)
    thresholds = np.nextafter(thresholds, np.float32(np.inf)) if above else thresholds
    by_channel = thresholds.reshape(len(thresholds), -1) if thresholds.ndim else thresholds.reshape(1, 1)
    if np.ptp(by_channel, axis=1).any():
        raise ValueError("its threshold differs from place to place, and here neurons of a channel share it")
    first = by_channel[:, 0]
    shared = float(first[0]) if not np.ptp(first) else tuple(map(float, first))
    tau = 1 / (1 - decay) if decay < 1 else math.inf
    config = LIFConfig(tau=tau, decay_input=False, v_th=shared, v_rest=rest, v_reset=v_reset, reset=reset)
    neuron = config.build(channels=len(first) if isinstance(shared, tuple) else None)
    gain = np.asarray(gain, np.float64)
    gain = np.where(np.abs(gain - 1) < 1e-6, 1.0, gain)
    return neuron if np.all(gain == 1) else nn.Sequential(Scaled(gain), neuron)
