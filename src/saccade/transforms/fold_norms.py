"""Fusing for inference: norms folded into the weights before them, or into the thresholds after them."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saccade.graph import outputs
from saccade.layers import norm_of, weighted
from saccade.neurons import LIF, Spiking
from saccade.transforms.base import TRANSFORMS, Change, Transform, apply, noted, replace_module
from saccade.transforms.chains import NormChain, norm_chains

INTO = ("conv", "threshold")


@dataclass(frozen=True)
class FoldNormsConfig(Transform):
    """into: "conv" (the weights of a convolution or linear layer) or "threshold". chains: paths of what follows what: the
    layer, its norm, and for "threshold" the neuron after it. One-way; ``fuse`` finds the chains and checks the result.
    """

    into: str = "conv"
    chains: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.into not in INTO:
            raise ValueError(f"norms fold into {' or '.join(INTO)}, not {self.into!r}")
        length = 2 if self.into == "conv" else 3
        if any(len(chain) != length for chain in self.chains):
            raise ValueError(f"a chain into {self.into} has {length} paths")

    def apply(self, model: nn.Module) -> Change:
        for chain in self.chains:
            layer, norm = weighted(model.get_submodule(chain[0])), norm_of(model.get_submodule(chain[1]))
            if layer is None or norm is None:
                raise ValueError(f"{chain[0]} and {chain[1]} are no layer with weights and its norm")
            scale, offset = norm.scale_and_offset()
            if self.into == "conv":
                fold_into(layer, scale, offset)
            else:
                neuron: Any = model.get_submodule(chain[2])
                scale = _fold_direction_into(layer, scale, offset)
                neuron.set_thresholds(torch.as_tensor(neuron.config.v_th, dtype=scale.dtype).to(scale.device) / scale)
            replace_module(model, chain[1], nn.Identity())
        model.eval()
        return Change(self, tuple(chain[1] for chain in self.chains))


TRANSFORMS.register("fold_norms", FoldNormsConfig())


@dataclass(frozen=True)
class Fused:
    """A fused copy. ``folded``: paths of the norms that went; ``left``: those that stayed, and why.

    ``mismatch``: share of the spikes that differ from the model's in float32, by neuron path and over all of them.
    """

    model: nn.Module
    folded: list[str]
    left: dict[str, str]
    mismatch: dict[str, float]
    total_mismatch: float

    def __str__(self) -> str:
        lines = [f"{len(self.folded)} norms folded, {len(self.left)} left"]
        if self.mismatch:
            worst = max(self.mismatch, key=lambda path: self.mismatch[path])
            share = f"{self.total_mismatch:.2e} of all, at most {self.mismatch[worst]:.2e} in {worst}"
            lines.append(f"spikes that differ: {share}")
        return "\n".join(lines + [f"left: {path} ({why})" for path, why in self.left.items()])


def fuse(model: nn.Module, x: Tensor, into: str = "conv") -> Fused:
    """A copy of ``model`` for inference without its batch norms; the model itself is untouched.

    ``into="conv"``: W' = W g/sigma and a bias, for every norm whose input is a weighted layer's output as it is.
    ``into="threshold"``: the layer keeps its weights (a negative g turns their sign, a zero g makes the channel
    constant), gets the bias, and the neuron after the norm fires at v_th * sigma/|g|: for neurons with v_rest = 0, and a
    hard reset to 0, a soft one or none. ``x``: a sample batch, on which the copy is checked: in float64 it must be the
    same function, and in float32 the share of spikes that differ is measured. Models of others are taken too.

    Raises ValueError for an unknown ``into``, a model in training mode, a threshold with something between norm and
    neuron (an attention gate, an addition) or with other resets, a model without a norm to fold, or a copy that is not the same
    function.
    Source: the folding of Zheng et al. (2021) eq. 12-13; thresholds as in Rueckauer et al. (2017), scaled.
    """
    FoldNormsConfig(into)  # raises for another name
    if model.training:
        raise ValueError("fusing needs model.eval(): the norms' running statistics are folded")
    refuse_folded(model, "fusing again")
    chains = norm_chains(model, x)
    paths = tuple(
        (chain.layer, chain.norm) if into == "conv" else (chain.layer, chain.norm, _neuron_after(model, chain))
        for chain in chains.chains
    )
    fused, fold = copy.deepcopy(model), FoldNormsConfig(into, paths)
    apply(fused, fold)
    _check_same(model, fold, x)
    mismatch, total = _mismatch(model, fused, x)
    return Fused(fused, [chain[1] for chain in paths], chains.left, mismatch, total)


def refuse_folded(model: nn.Module, what: str) -> None:
    """Raises ValueError for a model whose norms were folded: its weights carry the norms' scales."""
    if any(isinstance(one, FoldNormsConfig) for one in noted(model)):
        raise ValueError(
            f"{what} comes before fusing: here the norms are folded into the weights or thresholds already"
        )


def fold_into(layer: Any, scale: Tensor, offset: Tensor) -> None:
    """Let a weighted layer do what it and then ``scale * y + offset`` (``[O]`` each) do, in place."""
    with torch.no_grad():
        weight = layer.used_weight()
        bias = offset if layer.bias is None else offset + layer.bias * scale
        layer.set_plain(weight * scale.view(-1, *[1] * (weight.dim() - 1)), bias)


def _fold_direction_into(layer: Any, scale: Tensor, offset: Tensor) -> Tensor:
    """Fold such that the old result is the new one times a factor > 0 for each channel, which is returned."""
    factor = torch.where(scale == 0, torch.ones_like(scale), scale.abs())
    with torch.no_grad():
        weight = layer.used_weight()
        bias = offset if layer.bias is None else offset + layer.bias * scale
        layer.set_plain(weight * torch.sign(scale).view(-1, *[1] * (weight.dim() - 1)), bias / factor)
    return factor


def _neuron_after(model: nn.Module, chain: NormChain) -> str:
    if not chain.neuron:
        raise ValueError(
            f"{chain.norm}: something lies between the norm and a neuron ({chain.between}), so no threshold can hold it"
        )
    neuron = model.get_submodule(chain.neuron)
    if type(neuron) is not LIF:
        raise ValueError(f"{chain.neuron}: no threshold of a {type(neuron).__name__} can hold a norm; fold into 'conv'")
    config = neuron.config
    if config.v_rest != 0 or (config.reset == "hard" and config.v_reset != 0):
        raise ValueError(f"{chain.neuron}: a threshold can hold a norm only where the potential rests and resets at 0")
    return chain.neuron


def _run(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, list[Tensor]]]:
    """What a model gives, and the spikes of each of its neurons."""
    with torch.no_grad(), outputs(model, lambda path, module: isinstance(module, Spiking)) as spikes:
        return model(x), spikes


def _check_same(model: nn.Module, fold: FoldNormsConfig, x: Tensor) -> None:
    """In float64, and folded there (weights rounded to float32 may turn a level of a deep network), the two differ by rounding
    alone; if not, the graph has been read wrongly."""
    exact = copy.deepcopy(model).double()
    before, _ = _run(exact, x.double())
    apply(exact, fold)
    after, _ = _run(exact, x.double())
    scale = max(float(before.abs().max()), 1e-30)
    gap = float((before - after).abs().max()) / scale
    if not gap < 1e-4 or math.isnan(gap):
        raise ValueError(
            f"the fused copy is another function (outputs differ by {gap:.1e} of their size): please report this"
        )


def _mismatch(model: nn.Module, fused: nn.Module, x: Tensor) -> tuple[dict[str, float], float]:
    _, before = _run(model, x)
    _, after = _run(fused, x)
    pairs = {path: (torch.stack(before[path]), torch.stack(after[path])) for path in before if before[path]}
    differing = {path: int((a != b).sum()) for path, (a, b) in pairs.items()}
    rates = {path: differing[path] / max(a.numel(), 1) for path, (a, _) in pairs.items()}
    return rates, sum(differing.values()) / max(sum(a.numel() for a, _ in pairs.values()), 1)
