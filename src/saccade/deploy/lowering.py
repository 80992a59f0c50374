"""From a trained memory-free network to integers."""

from __future__ import annotations

import contextlib
import copy
import math
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from saccade.deploy.program import ALWAYS, NEVER, IntegerLayer, Program
from saccade.layers import AvgPool2d, BatchNorm1d, BatchNorm2d, Conv2d, Dropout, Linear, MaxPool2d, ThresholdBatchNorm2d
from saccade.layers.weight_forms import WeightForm
from saccade.neurons import MemoryFree, Spiking

NORMS = (BatchNorm1d, BatchNorm2d, ThresholdBatchNorm2d)
MOST_STEPS = 32


def lower(model: nn.Module, x: Tensor) -> Program:
    """Lower a trained chain of (convolution or linear layer, batch norm, memory-free neurons) to integers.

    ``x`` is a sample input, ``[N, C, H, W]`` or ``[T, N, C, H, W]``; it tells the order of the layers and their sizes. The
    layers between the first neurons and the read-out need quantised weights (``quantize_``) and mixing by powers of two:
    "leak" with lambda = 1/2, or "sliding" with its first taps, both with ``learn=False`` in training. Max pooling becomes an
    OR. The first layer sees pixels and the read-out gives logits: both stay in float64. The integers reproduce the spikes
    of the model in float64; what is left is rounding within 1e-15 of a threshold.

    Raises ValueError naming the layer that stands in the way and what to do about it. The model is left as it is.
    """
    if model.training:
        raise ValueError(
            "a network is lowered as it runs: call model.eval() first (batch statistics cannot be lowered)"
        )
    own = copy.deepcopy(model).double().eval()
    steps = _chain(own, x.double())
    places = [i for i, step in enumerate(steps) if isinstance(step.module, Spiking)]
    if len(places) < 2:
        raise ValueError(f"{type(model).__name__} has {len(places)} layers of neurons in a chain; lowering needs two")
    head = steps[places[-1] + 1 :]
    T = steps[places[0]].output.shape[0]
    if T > MOST_STEPS:
        raise ValueError(f"the input has {T} steps; integers of 64 bits hold the history of {MOST_STEPS}")
    first = steps[places[0]]
    if not isinstance(first.module, MemoryFree):
        raise ValueError(
            f"{first.path} is a {type(first.module).__name__}; memory_free_(model, ...) makes it memory-free"
        )
    layers = [_layer(steps[a + 1 : b + 1], steps[a].output, T) for a, b in pairwise(places)]
    still = first.source.stride(0) == 0  # one picture, shown T times
    last = getattr(model, "readout", "") == "last"
    return Program(T, _Front(own, first.module), first.path, still, tuple(layers), _Readout(head), last)


class _Step(NamedTuple):
    path: str
    module: Any
    source: Tensor
    output: Tensor


def _chain(model: nn.Module, x: Tensor) -> list[_Step]:
    """The layers in the order of the run. Raises ValueError if one is fed by anything but the one before it."""
    steps: list[_Step] = []
    leaves = {
        path: module
        for path, module in model.named_modules()
        if not isinstance(module, WeightForm) and all(isinstance(child, WeightForm) for child in module.children())
    }

    def hook(path: str) -> Any:
        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            before = steps[-1].output if steps else x
            if inputs[0].untyped_storage().data_ptr() != before.untyped_storage().data_ptr():
                other = f"not the output of {steps[-1].path}" if steps else "not the input of the model"
                raise ValueError(f"{path}: its input is {other} as it is: only chains of layers can be lowered")
            if isinstance(module, MemoryFree | nn.Conv2d | nn.Linear) and any(step.path == path for step in steps):
                raise ValueError(f"{path} is called more than once: only chains of layers can be lowered")
            steps.append(_Step(path, module, inputs[0], output))

        return note

    handles = [module.register_forward_hook(hook(path)) for path, module in leaves.items()]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return steps


def _layer(steps: list[_Step], before: Tensor, T: int) -> IntegerLayer:
    """[max pool] - convolution or linear - [norm] - neuron, after the spikes ``before``."""
    path, neuron, _, fired = steps[-1]
    if not isinstance(neuron, MemoryFree):
        raise ValueError(f"{path} is a {type(neuron).__name__}; memory_free_(model, ...) makes it memory-free")
    order = _order(path, neuron, T)
    pool, weighted, norm = 1, None, None
    for where, module, _, _ in steps[:-1]:
        if isinstance(module, MaxPool2d) and weighted is None and pool == 1:
            pool = _pool(where, module)
        elif isinstance(module, Conv2d | Linear) and weighted is None:
            weighted = where, module
        elif isinstance(module, NORMS) and weighted is not None and norm is None:
            norm = module
        elif not isinstance(module, Dropout | nn.Identity):
            raise ValueError(
                f"{where}: a {type(module).__name__} here cannot be lowered; between neurons there may be max pooling, one "
                "convolution or linear layer, and a batch norm"
            )
    if weighted is None:
        raise ValueError(f"{path}: no convolution or linear layer lies between it and the neurons before")
    weight, scale = _integers(*weighted)
    layer = weighted[1]
    bias = torch.zeros(len(weight), dtype=torch.float64) if layer.bias is None else layer.bias.detach()
    if norm is not None:
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError(f"{path}: the norm before it has no running statistics; only such a norm can be lowered")
        slope = (norm.weight * getattr(norm, "scale", 1.0) / torch.sqrt(norm.running_var + norm.eps)).detach()
        scale, bias = scale * slope, norm.bias.detach() + (bias - norm.running_mean) * slope
    largest = int(weight.flatten(1).abs().sum(1).max()) * 2**order
    if largest >= 2**53:
        raise ValueError(f"{path}: a history of {order} steps of {weight[0].numel()} inputs needs more than 53 bits")
    options: dict[str, Any] = {}
    if isinstance(layer, Conv2d):
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise ValueError(f"{weighted[0]}: only padding with zeros, given in numbers, can be lowered")
        options = {key: getattr(layer, key) for key in ("stride", "padding", "dilation", "groups")}
    thresholds = _thresholds(scale, bias, neuron, order, T)
    direction = torch.where(scale < 0, -1, 1)
    inputs, outputs = tuple(before.shape[2:]), tuple(fired.shape[2:])
    return IntegerLayer(path, weight, direction, thresholds, order, pool, options, inputs, outputs)


def _order(path: str, neuron: MemoryFree, T: int) -> int:
    """How many steps of history the neuron weighs, by 1, 1/2, 1/4, ..."""
    c = neuron.config
    if c.mode == "masked":
        raise ValueError(f"{path}: a masked mixing is no row of powers of two; train with mode 'leak' and learn=False")
    if c.mode == "leak":
        decay = torch.as_tensor(neuron.decay()).detach()
        if not bool((decay == 0.5).all()):
            found = f"{decay.min():.4g} to {decay.max():.4g}" if decay.numel() > 1 else f"{float(decay):.4g}"
            raise ValueError(f"{path}: lambda is {found}; integers need 1/2: train with learn=False, decay=0.5")
        return T
    taps = neuron.mixing(c.order)[-1].flip(0).detach()
    if not torch.equal(taps, 0.5 ** torch.arange(c.order, dtype=taps.dtype)):
        raise ValueError(f"{path}: the taps have moved from 1, 1/2, 1/4, ...; train with learn=False, decay=0.5")
    return min(c.order, T)


def _pool(path: str, pool: MaxPool2d) -> int:
    k, stride = pool.kernel_size, pool.stride
    if isinstance(k, tuple) and len(set(k)) == 1:
        k = k[0]
    if not isinstance(k, int) or stride not in (k, (k, k)) or pool.padding or pool.dilation != 1 or pool.ceil_mode:
        raise ValueError(f"{path}: only max pooling in whole square windows without overlap or padding can be lowered")
    return k


def _integers(path: str, layer: Conv2d | Linear) -> tuple[Tensor, Tensor]:
    """Integers m and a scale for each output, of ``weight in use = scale * m``."""
    form, weight = layer.form, layer.weight.detach()
    if form is None or form.values not in ("odd", "signed"):
        what = "full weights" if form is None else f"weights of the form {type(form).__name__}"
        raise ValueError(f"{path} has {what}; lowering needs quantize_ first, e.g. with rescaw or balanced_binary")
    codes, scale = form.encoded(weight)
    if form.values == "signed":
        return codes.long() - 2 ** (form.bits - 1), scale
    top = 2**form.bits - 1
    return 2 * codes.long() - top, scale / top


def _thresholds(scale: Tensor, bias: Tensor, neuron: MemoryFree, order: int, T: int) -> Tensor:
    """``ceil((theta - bias * rowsum_t) / |scale| * 2^(order-1))``, ``[T, O]``: without a reset, what a bias adds is known."""
    theta = neuron.theta.detach()
    rows = torch.tensor([2 - 2.0 ** (1 - min(t + 1, order)) for t in range(T)], dtype=torch.float64)
    left = theta - bias * rows.unsqueeze(1)
    level = torch.ceil(left / scale.abs() * 2.0 ** (order - 1))
    constant = torch.where(left <= 0, -math.inf, math.inf)  # where the scale is 0
    level = torch.where(scale == 0, constant, level)
    return level.clamp(ALWAYS, NEVER).long()


class _Fired(Exception):
    """The first neurons have fired: nothing after them is needed."""


class _Front:
    """The model up to its first neurons, in float64."""

    def __init__(self, model: nn.Module, neuron: MemoryFree) -> None:
        self.model, self.neuron = model, neuron

    def __call__(self, x: Tensor) -> Tensor:
        """uint8 ``[T, N, ...]``."""
        found: list[Tensor] = []

        def stop(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found.append(output)
            raise _Fired

        handle = self.neuron.register_forward_hook(stop)
        try:
            with torch.no_grad(), contextlib.suppress(_Fired):
                self.model(x.double())
        finally:
            handle.remove()
        return found[0].to(torch.uint8)


class _Readout:
    """What comes after the last neurons, in float64."""

    def __init__(self, steps: list[_Step]) -> None:
        for path, module, _, _ in steps:
            if not isinstance(module, AvgPool2d | MaxPool2d | Linear | Dropout | nn.Identity | nn.Flatten):
                raise ValueError(f"{path}: a {type(module).__name__} after the last neurons cannot be lowered")
        self.modules = [step.module for step in steps]

    def __call__(self, s: Tensor) -> Tensor:
        with torch.no_grad():
            for module in self.modules:
                s = module(s.flatten(2) if isinstance(module, Linear) else s)
        return s
