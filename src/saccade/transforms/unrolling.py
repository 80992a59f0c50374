"""Integer neurons as they run: each level becomes so many binary spikes of virtual steps, exactly."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from saccade.graph import outputs
from saccade.layers.attention.base import Attention
from saccade.layers.attention.ssa_kv import SSA, UnrolledSSA
from saccade.models import SpikingModel
from saccade.neurons import Integer, Spiking, Unrolled
from saccade.transforms.base import TRANSFORMS, Change, Transform, apply, replace_module


@dataclass(frozen=True)
class UnrollConfig(Transform):
    """Make a network of integer neurons of D levels one of binary spikes, D virtual steps a step, for inference.

    Whatever lies between neurons has to be affine; ``unroll`` makes a copy and checks it. Products of spikes of the attentions
    ``ssa_kv``, ``ssa_qk``, ``sdsa3`` and ``qsdsa`` are expanded one operand after the other (see ``UnrolledSSA``). One-way.
    Source: the inference that Qiu et al. (2025), QSD-Transformer, draw; the expansion of the attention is ours.
    """

    def apply(self, model: nn.Module) -> Change:
        """Raises ValueError, with the model untouched, for a model that is not ours, neurons that are no integer ones or of
        several D, or an attention with other products."""
        if not isinstance(model, SpikingModel):
            raise ValueError(f"{type(model).__name__} is no model of saccade, whose steps could be virtual ones")
        neurons = {path: module for path, module in model.named_modules() if isinstance(module, Spiking)}
        highest = {path: _highest(path, neuron) for path, neuron in neurons.items()}
        if not highest:
            raise ValueError(f"{type(model).__name__} has no neurons")
        D = next(iter(highest.values()))
        for path, other in highest.items():
            if other != D:
                raise ValueError(f"{path} has {other} levels and others {D}: virtual steps would not be of one number")
        attentions = {path: module for path, module in model.named_modules() if isinstance(module, Attention)}
        for path, attention in attentions.items():
            if not isinstance(attention, SSA):
                kind = attention.config.kind() if hasattr(attention.config, "kind") else type(attention).__name__
                raise ValueError(f"{path} ({kind}): how its products expand into binary spikes is not known")
        for path, neuron in neurons.items():
            place = {"channels": neuron.channels, "channel_axis": neuron.channel_axis, "role": neuron.role}
            replace_module(model, path, Unrolled(neuron.config, **place))  # type: ignore[arg-type]
        for path, attention in attentions.items():
            replace_module(model, path, UnrolledSSA(attention, D))  # type: ignore[arg-type]
        model._virtual_steps = D
        return Change(self, (*neurons, *attentions))

    def undo(self, model: nn.Module) -> None:
        raise ValueError("unroll is one-way: keep the model that it was applied to")


TRANSFORMS.register("unroll", UnrollConfig())


class UnrolledModel(NamedTuple):
    """A copy in binary spikes.

    D: virtual steps a step. gap: largest difference of the outputs, in float64. flips: neurons that gave another level, in
    float64 and in the model's own numbers, of ``levels`` that were compared.
    """

    model: SpikingModel
    D: int
    gap: float
    flips: int
    flips_in_use: int
    levels: int


def unroll(model: SpikingModel, x: Tensor) -> UnrolledModel:
    """A copy of ``model`` that computes in binary spikes, checked on the sample ``x``, ``[N, C, H, W]`` or ``[T, N, C, H, W]``.

    In float64 every neuron has to give the same level and the outputs have to agree to 1e-9; in the model's own numbers, where
    sums are taken in another order, levels may flip, which is counted.
    Raises ValueError as ``UnrollConfig.apply``, and for a copy that is another function: something between neurons is not
    affine (a maximum of currents, an OR of spikes, a product).
    """
    whole = copy.deepcopy(model).eval()
    unrolled = copy.deepcopy(whole)
    apply(unrolled, "unroll")
    D = unrolled._virtual_steps
    flips_in_use, levels, _ = _compare(whole, unrolled, x)
    flips, _, gap = _compare(copy.deepcopy(whole).double(), copy.deepcopy(unrolled).double(), x.double())
    if flips or not gap <= 1e-9:
        raise ValueError(
            f"the unrolled copy is another function ({flips} of {levels} levels differ, outputs by {gap:.1e}): "
            "something between its neurons is not affine"
        )
    return UnrolledModel(unrolled, D, gap, flips, flips_in_use, levels)


def _compare(whole: SpikingModel, unrolled: SpikingModel, x: Tensor) -> tuple[int, int, float]:
    """Levels that differ, levels, and the largest difference of the outputs over the largest of them (at least 1)."""
    found = []
    for model in (whole, unrolled):
        with torch.no_grad(), outputs(model, lambda path, module: isinstance(module, Spiking)) as spikes:
            found.append((model(x, steps=True), spikes))
    (y, ours), (z, theirs) = found
    flips = levels = 0
    for path, calls in ours.items():
        for mine, other in zip(calls, theirs[path], strict=True):
            steps = mine.expand(len(other) // unrolled._virtual_steps, *mine.shape[1:])
            mean = other.unflatten(0, (len(steps), -1)).mean(1)
            flips += int(((mean - steps).abs() > 1e-3).sum())
            levels += steps.numel()
    return flips, levels, float((y - z).abs().max() / y.abs().max().clamp(min=1))


def _highest(path: str, neuron: Spiking) -> int:
    if type(neuron) is not Integer:
        raise ValueError(f"{path} is a {type(neuron).__name__}, no integer neuron: it has no levels to unroll")
    if neuron.config.dynamic:
        raise ValueError(f"{path}: levels that each sample chooses have no fixed number of virtual steps")
    return neuron.config.D
