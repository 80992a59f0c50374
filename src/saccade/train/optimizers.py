"""Optimizers by name, and which parameters get what."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from saccade.layers.weight_forms import WeightForm
from saccade.train.settings import TrainSettings


class Lamb(Optimizer):
    """Adam whose step is as long as the weights of each tensor, times the learning rate (You et al. 2020, algorithm 2).

    ``trust_clip``: that ratio is at most 1. Groups without weight decay (biases, norms, scales) take plain steps of Adam.
    Raises ValueError for settings that cannot be.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        trust_clip: bool = True,
    ) -> None:
        if lr < 0 or eps < 0 or weight_decay < 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(
                f"lr, eps and weight_decay are 0 or more and betas below 1, got {lr, eps, weight_decay, betas}"
            )
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "clip": trust_clip}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step; ``closure`` as torch has it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, group)
        return loss

    def _update(self, p: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state |= {"step": torch.zeros(()), "mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
        state["step"] += 1
        (b1, b2), steps = group["betas"], float(state["step"])
        state["mean"].lerp_(p.grad, 1 - b1)
        state["square"].mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
        step = state["mean"] / (1 - b1**steps) / ((state["square"] / (1 - b2**steps)).sqrt() + group["eps"])
        ratio = torch.ones((), device=p.device, dtype=p.dtype)
        if group["weight_decay"]:
            step = step + group["weight_decay"] * p
            length, own = step.norm(), p.norm()
            ratio = torch.where((length > 0) & (own > 0), own / length, ratio)
            ratio = ratio.clamp(max=1.0) if group["clip"] else ratio
        p.sub_(step * ratio * group["lr"])


def build_optimizer(model: nn.Module, settings: TrainSettings) -> Optimizer:
    """The optimizer that the settings name. Weight decay acts on weights of two or more axes only: not on norms, biases, taus,
    steps and codebooks.

    Adam's steps are as long as the learning rate whatever the gradient, so of parameters that are sizes of weights (a form's
    ``sizes``) they are made relative: the rate is multiplied by the mean size at the start, to the nearest power of two.

    ``layer_decay`` below 1 gives each parameter that share of the learning rate of the part behind it (Clark et al. 2020):
    parts are the entries of ``model.blocks``, or the model's children where it has none. A group's share is its ``scale``.
    """
    groups: dict[tuple[bool, float], dict[str, Any]] = {}
    shares = layer_shares(model, settings.layer_decay)
    if settings.optimizer != "sgd":
        for name, size in weight_sizes(model).items():
            shares[name] *= size
    for name, p in model.named_parameters():
        decays = p.dim() > 1 and ".form." not in name
        entry = groups.setdefault((not decays, shares[name]), {"params": [], "scale": shares[name]})
        entry["params"].append(p)
        entry["weight_decay"] = settings.weight_decay if decays else 0.0
    ordered: Any = [groups[key] for key in sorted(groups, key=lambda key: (key[0], -key[1]))]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(ordered, settings.lr, momentum=settings.momentum)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "lamb": Lamb}[settings.optimizer](
        ordered, settings.lr
    )


def weight_sizes(model: nn.Module) -> dict[str, float]:
    """By name, of the parameters that are sizes of weights: their mean, to the nearest power of two."""
    found = {
        f"{path}.{name}": float(getattr(form, name).detach().abs().mean())
        for path, form in model.named_modules()
        if isinstance(form, WeightForm)
        for name in form.sizes
    }
    return {name: 2.0 ** round(math.log2(max(size, 1e-8))) for name, size in found.items()}


def layer_shares(model: nn.Module, decay: float) -> dict[str, float]:
    """By name of each parameter its share of the learning rate: 1 at the end of the model, ``decay`` of it a part before."""
    blocks = "blocks" if isinstance(getattr(model, "blocks", None), nn.ModuleList | nn.Sequential) else ""
    children = [name for name, _ in model.named_children()]
    parts: dict[str, None] = {}
    for child in children:
        inner = (
            [f"{child}.{name}" for name, _ in model.get_submodule(child).named_children()]
            if child == blocks
            else [child]
        )
        parts |= dict.fromkeys(inner)
    order = [part for part in parts if any(True for _ in model.get_submodule(part).parameters())]

    def share(name: str) -> float:
        at = max((i for i, part in enumerate(order) if name == part or name.startswith(f"{part}.")), default=0)
        return decay ** (len(order) - 1 - at) if decay < 1 else 1.0

    return {name: share(name) for name, _ in model.named_parameters()}
