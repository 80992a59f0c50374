"""Looking at attacks: accuracy over what they may change and may spend, the loss around an image, the spikes that flip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from saccade.graph.declared import Reset
from saccade.robust.attacks import attack
from saccade.robust.attacks.base import LARGE
from saccade.robust.attacks.pgd import PGD
from saccade.robust.losses import margin
from saccade.robust.statistics import EDGES, flips, flips_by_distance
from saccade.robust.victim import Victim

ATTACKS = ("fgsm", "pgd", "apgd_ce", "square")
SHARES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)  # of eps
BUDGETS = (1, 2, 5, 10, 20, 50, 100)  # steps of PGD


def look(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float = 8 / 255,
    *,
    low: float = 0.0,
    high: float = 1.0,
    seed: int = 0,
    reset: Reset | None = None,
    attacks: Sequence[str] = ATTACKS,
    budgets: Sequence[int] = BUDGETS,
    points: int = 21,
    tell: Callable[[str], object] = lambda words: None,
) -> dict[str, Any]:
    """What a page about a classifier and its images ``[N, ...]`` shows, as plain values and NumPy arrays.

    ``over_eps``: share right by attack for each eps (0 to 4 times ``eps``, as far as 64/255). ``over_budget``: gradients an
    image and share right, for PGD of more and more steps at ``eps``; each is a run of its own. ``surface``: of the first
    image that is right, the margin ``max_j z_j - z_y`` (wrong above 0) over ``offsets`` of eps along the signs of its gradient
    (rows) and random signs (columns). ``shown``: that image, what APGD made of it, and by layer of maps the share of steps and
    channels in which a spike flipped, ``[h, w]``. ``flips``: ``statistics.flips_by_distance`` over all images, with
    its ``edges``.

    Raises ValueError as ``attack`` does, and if the model gets none of the images right.
    """
    settings: dict[str, Any] = {"low": low, "high": high, "seed": seed, "reset": reset}
    epsilons = [eps * share for share in SHARES if eps * share <= max(LARGE * (high - low), eps)]
    over_eps: dict[str, list[float]] = {}
    for name in attacks:
        tell(f"{name} over eps")
        over_eps[name] = [float(attack(model, x, y, name, e, **settings).robust.float().mean()) for e in epsilons]
    over_budget = []
    for steps in budgets:
        tell(f"PGD, {steps} steps")
        step = 1.0 if steps == 1 else max(2.5 / steps, 0.05)
        found = attack(model, x, y, PGD(steps=steps, step=step), eps, **settings)
        over_budget.append((found.gradients / len(x), float(found.robust.float().mean())))
    found = attack(model, x, y, "apgd_ce", eps, **settings)
    if not bool(found.clean.any()):
        raise ValueError("the model gets none of these images right, so there is nothing to attack")
    at = int(found.clean.nonzero()[0, 0])
    one = slice(at, at + 1)
    with Victim(model, reset).open():
        flipped = flips(model, x[one], found.images[one])
        by_distance = flips_by_distance(model, x, found.images)
    maps = {path: changed.float().mean((0, 1, 2)).numpy() for path, changed in flipped.items() if changed.dim() == 5}
    offsets, surface = _surface(model, x[one], y[one], eps, points, low, high, seed, reset)
    return {
        "epsilons": epsilons, "over_eps": over_eps, "over_budget": over_budget,
        "offsets": offsets, "surface": surface, "eps": eps, "samples": len(x),
        "shown": {
            "number": at, "right": int(y[at]), "maps": maps,
            "image": x[at].numpy(), "attacked": found.images[at].numpy(),
        },
        "flips": by_distance, "edges": EDGES,
    }  # fmt: skip


def _surface(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, points: int, low: float, high: float, seed: int, reset: Any
) -> tuple[list[float], Any]:
    """Offsets in units of eps, and the margins ``[points, points]``."""
    victim = Victim(model, reset)
    with victim.open():
        g = victim.gradient(x, y, margin)[2].sign()
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).sign()
        offsets = torch.linspace(-1, 1, points)
        rows = []
        for a in offsets:
            moved = x + eps * (a * g + offsets.view(-1, *[1] * (x.dim() - 1)) * noise)
            rows.append(margin(victim.logits(moved.clamp(low, high)), y.expand(points)))
    return offsets.tolist(), torch.stack(rows).numpy()
