"""Fusing for inference: norms folded into the convolutions before them, or into the thresholds after them."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from saccade.layers.fold import Conv2d, fold_norm
from saccade.neurons import LIF, Spiking

INTO = ("conv", "threshold")


@dataclass(frozen=True)
class Fused:
    """A fused copy. ``folded``: paths of the norms that went; ``left``: those that stayed, and why.

    ``mismatch``: share of the spikes that differ from the model's in float32, by neuron path and over all of them.
    """

    model: Any
    folded: list[str]
    left: dict[str, str]
    mismatch: dict[str, float]
    total_mismatch: float

    def __str__(self) -> str:
        worst = max(self.mismatch, key=lambda path: self.mismatch[path])
        lines = [
            f"{len(self.folded)} norms folded, {len(self.left)} left",
            f"spikes that differ: {self.total_mismatch:.2e} of all, at most {self.mismatch[worst]:.2e} in {worst}",
        ]
        return "\n".join(lines + [f"left: {path} ({why})" for path, why in self.left.items()])


def fuse(model: nn.Module, x: Tensor, into: str = "conv") -> Fused:
    """A copy of ``model`` for inference without its batch norms; the model itself is untouched.

    ``into="conv"``: W' = W g/sigma and a bias, for every norm whose input is a convolution's output as it is.
    ``into="threshold"``: the convolution keeps its weights (a negative g turns their sign, a zero g makes the channel
    constant), gets the bias, and the neuron after the norm fires at v_th * sigma/|g|: for neurons with v_rest = 0, and a
    hard reset to 0, a soft one or none. ``x``: a sample batch, on which the copy is checked: in float64 it must be the
    same function, and in float32 the share of spikes that differ is measured.

    Raises ValueError for an unknown ``into``, a model in training mode, a threshold with something between norm and
    neuron (an attention gate, an addition) or with other resets, or a copy that is not the same function.
    Source: the folding of Zheng et al. (2021) eq. 12-13; thresholds as in Rueckauer et al. (2017), scaled.
    """
    if into not in INTO:
        raise ValueError(f"norms fold into {' or '.join(INTO)}, not {into!r}")
    if model.training:
        raise ValueError("fusing needs model.eval(): the norms' running statistics are folded")
    chains, left = _chains(model, x, into)
    config: dict[str, Any] = {"into": into, "chains": chains}
    fused = copy.deepcopy(model)
    fold_norms(fused, config)
    transforms: Any = getattr(fused, "transforms", None)
    if transforms is not None:
        transforms.append({"name": "fold_norms", "config": config})
    _check_same(model, fused, x)
    mismatch, total = _mismatch(model, fused, x)
    return Fused(fused, [chain[1] for chain in chains], left, mismatch, total)


def fold_norms(model: nn.Module, config: dict[str, Any]) -> None:
    """Replace convolutions, norms and thresholds at the paths in ``config["chains"]``: conv, norm (and neuron)."""
    for chain in config["chains"]:
        conv: Any = model.get_submodule(chain[0])
        norm: Any = model.get_submodule(chain[1])
        if config["into"] == "conv":
            merged = fold_norm(conv, norm)
        else:
            merged, scale = _fold_scale_away(conv, norm)
            neuron: Any = model.get_submodule(chain[2])
            v_th = torch.as_tensor(neuron.config.v_th) / scale
            _replace(model, chain[2], LIF(replace(neuron.config, v_th=tuple(v_th.tolist())), role=neuron.role))
        _replace(model, chain[0], merged)
        _replace(model, chain[1], nn.Identity())
    model.eval()


def _fold_scale_away(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Conv2d, Tensor]:
    """The convolution such that norm(conv(x)) = scale * merged(x) with scale > 0 per channel."""
    merged = fold_norm(conv, norm)
    assert norm.running_var is not None
    assert merged.bias is not None
    g = norm.weight.detach() * getattr(norm, "scale", 1.0) / torch.sqrt(norm.running_var + norm.eps)
    scale = torch.where(g == 0, torch.ones_like(g), g.abs())
    with torch.no_grad():
        weight = conv.used_weight() if isinstance(conv, Conv2d) else conv.weight
        merged.weight.copy_(weight * torch.sign(g).view(-1, 1, 1, 1))
        merged.bias.div_(scale)
    return merged, scale


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _chains(model: nn.Module, x: Tensor, into: str) -> tuple[list[list[str]], dict[str, str]]:
    """Paths of convolution, norm (and neuron) that follow each other directly, and the norms that do not, with the reason."""
    made: list[
        tuple[Tensor, str, nn.Module]
    ] = []  # outputs in order of the run, kept alive: their identity is the evidence
    fed: dict[str, Tensor] = {}
    calls: dict[str, int] = {}
    paths = {module: path for path, module in model.named_modules()}

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        path = paths[module]
        calls[path] = calls.get(path, 0) + 1
        if isinstance(output, Tensor):
            made.append((output, path, module))
        fed[path] = inputs[0]

    kinds = (nn.Conv2d, nn.BatchNorm2d, Spiking)
    hooks = [module.register_forward_hook(note) for module in paths if isinstance(module, kinds)]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()

    def maker(path: str, kind: type) -> str | None:
        """Whose output the module at ``path`` was fed, as it is or shown for T steps."""
        source = fed[path]
        for output, other, module in made:
            same = (
                output is source
                or source._base is output
                or (source._base is not None and source._base is output._base)
            )
            if isinstance(module, kind) and same and output.data_ptr() == source.data_ptr():
                return other
        return None

    chains: list[list[str]] = []
    left: dict[str, str] = {}
    fires = {
        maker(path, nn.BatchNorm2d): path for path, m in model.named_modules() if isinstance(m, Spiking) and path in fed
    }
    for path, norm in model.named_modules():
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        conv = maker(path, nn.Conv2d) if path in fed else None
        if path not in fed:
            left[path] = "not reached by the sample"
        elif conv is None:
            left[path] = "its input is no convolution's output as it is"
        elif calls[path] > 1 or calls[conv] > 1:
            left[path] = "called more than once"
        elif norm.running_mean is None:
            left[path] = "it has no running statistics"
        elif into == "conv":
            chains.append([conv, path])
        else:
            chains.append([conv, path, _neuron_after(model, path, fires)])
    return chains, left


def conv_norm_chains(model: nn.Module, x: Tensor) -> list[tuple[str, str]]:
    """Paths of every convolution and the norm that takes its output as it is, found on a sample batch."""
    return [(chain[0], chain[1]) for chain in _chains(model, x, "conv")[0]]


def _neuron_after(model: nn.Module, norm: str, fires: dict[str | None, str]) -> str:
    if norm not in fires:
        raise ValueError(
            f"{norm}: something lies between the norm and a neuron (a gate, a sum), so no threshold can hold it"
        )
    neuron = model.get_submodule(fires[norm])
    if type(neuron) is not LIF:
        raise ValueError(f"{fires[norm]}: no threshold of a {type(neuron).__name__} can hold a norm; fold into 'conv'")
    config: Any = neuron.config
    if config.v_rest != 0 or (config.reset == "hard" and config.v_reset != 0):
        raise ValueError(f"{fires[norm]}: a threshold can hold a norm only where the potential rests and resets at 0")
    return fires[norm]


def _outputs(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """What a model gives, and the spikes of each of its neurons."""
    spikes: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda m, i, y, path=path: spikes.update({path: y}))
        for path, module in model.named_modules()
        if isinstance(module, Spiking)
    ]
    try:
        with torch.no_grad():
            return model(x), spikes
    finally:
        for hook in hooks:
            hook.remove()


def _check_same(model: nn.Module, fused: nn.Module, x: Tensor) -> None:
    """In float64 the two differ by rounding alone; if not, an output was used in a way that the hooks do not see."""
    before, _ = _outputs(copy.deepcopy(model).double(), x.double())
    after, _ = _outputs(copy.deepcopy(fused).double(), x.double())
    scale = max(float(before.abs().max()), 1e-30)
    gap = float((before - after).abs().max()) / scale
    if not gap < 1e-4 or math.isnan(gap):
        raise ValueError(
            f"the fused copy is another function (outputs differ by {gap:.1e} of their size): "
            "the input of one of its norms is also used elsewhere"
        )


def _mismatch(model: nn.Module, fused: nn.Module, x: Tensor) -> tuple[dict[str, float], float]:
    _, before = _outputs(model, x)
    _, after = _outputs(fused, x)
    differing = {path: int((before[path] != after[path]).sum()) for path in before}
    rates = {path: differing[path] / max(before[path].numel(), 1) for path in before}
    return rates, sum(differing.values()) / max(sum(s.numel() for s in before.values()), 1)
