"""Whether a robustness figure can be trusted: what gradients that say nothing would show.

Athalye et al. (2018) and Carlini et al. (2019) on gradients that are masked; spiking networks mask theirs by construction, as
every attack passes a surrogate. Each check says what it saw and whether that is an alarm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.graph.declared import Reset
from saccade.neurons.spiking import recording
from saccade.robust.attacks import attack
from saccade.robust.attacks.pgd import PGD
from saccade.robust.attacks.random_signs import RandomSigns
from saccade.robust.losses import cross_entropy, margin
from saccade.robust.statistics import BAND, distances
from saccade.robust.victim import Victim

STEPS = (1, 10, 20, 40, 100)
TOLERANCE = 0.05  # share of the samples by which an order may be broken before it is an alarm


@dataclass(frozen=True)
class Check:
    """name: of the check. value: what it measured, as JSON holds it. alarm: whether it speaks against the figure."""

    name: str
    value: Any
    alarm: bool
    words: str

    def record(self) -> dict[str, Any]:
        return asdict(self)


def masking_report(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    low: float = 0.0,
    high: float = 1.0,
    broken: Mapping[str, Tensor] | None = None,
    gradient_free: frozenset[str] = frozenset(),
    reset: Reset | None = None,
    seed: int = 0,
) -> list[Check]:
    """The checks on images ``[N, ...]``. broken: of attacks that were run already, which samples they broke, bool ``[N]``;
    ``gradient_free`` names those that used no gradients of this model."""
    settings: dict[str, Any] = {"low": low, "high": high, "seed": seed, "reset": reset}
    checks = [_same_twice(model, x, reset, seed)]
    checks += _gradients(model, x, y, reset, seed)
    noisy = checks[0].value == "noise"
    checks.append(_steps(model, x, y, eps, settings))
    checks.append(_large(model, x, y, low, high, settings))
    signs = attack(model, x, y, RandomSigns(1), eps, **settings)
    share = _share(signs.clean & ~signs.robust, signs.clean)
    checks.append(Check("random_signs", share, False, f"random signs of size eps break {share:.1%} of what was right"))
    if broken:
        checks += _orders(broken, gradient_free)
    if noisy:
        checks.append(_noise(model, x, y, eps, settings))
    return checks


def _same_twice(model: nn.Module, x: Tensor, reset: Reset | None, seed: int) -> Check:
    """Two calls that differ with the same random numbers have kept state; with others, there is noise."""
    victim = Victim(model, reset)
    found = []
    with victim.open():
        for s in (seed, seed, seed + 1):
            torch.manual_seed(s)
            found.append(victim.logits(x))
    if not torch.equal(found[0], found[1]):
        return Check(
            "same_twice",
            "state",
            True,
            "two calls give different answers: state stays behind, which every attack meets",
        )
    if not torch.equal(found[0], found[2]):
        words = (
            "answers are drawn at random: gradients have to be means of many draws, and one wrong draw proves nothing"
        )
        return Check("same_twice", "noise", False, words)
    return Check("same_twice", "same", False, "the same images give the same answers")


def _gradients(model: nn.Module, x: Tensor, y: Tensor, reset: Reset | None, seed: int) -> list[Check]:
    victim = Victim(model, reset)
    with victim.open():
        torch.manual_seed(seed)
        _, _, g = victim.gradient(x, y, cross_entropy)
        _, _, by_margin = victim.gradient(x, y, margin)
        _, _, single = victim.gradient(x, y, lambda z, t: F.cross_entropy(z.float(), t, reduction="none"))
        with recording(model) as potentials, torch.no_grad():
            victim.logits(x)
    flat = g.flatten(1)
    zero = float((by_margin.flatten(1) == 0).all(1).float().mean())
    lost = float(((single.flatten(1) == 0).all(1) & (by_margin.flatten(1) != 0).any(1)).float().mean())
    plain = distances(model, potentials).items()
    near = {path: float((d.abs() < BAND).float().mean()) for path, d in plain}
    share = f"{sum(near.values()) / len(near):.1%}" if near else "no LIF neurons, no share"
    words = f"{share} of potentials within {BAND:g} of their thresholds, mean over layers"
    return [
        Check(
            "zero_gradients",
            {"share": zero, "mean_l1": float(flat.abs().sum(1).mean()), "mean_l2": float(flat.norm(dim=1).mean())},
            zero > TOLERANCE,
            f"{zero:.1%} of the samples have a gradient of exactly zero",
        ),
        Check(
            "logits_too_large",
            lost,
            lost > TOLERANCE,
            f"for {lost:.1%} the cross-entropy is so sure in float32 that its gradient is zero, though the logits have one",
        ),
        Check("near_threshold", near, False, words),
    ]


def _steps(model: nn.Module, x: Tensor, y: Tensor, eps: float, settings: dict[str, Any]) -> Check:
    rates = {}
    for steps in STEPS:
        found = attack(
            model, x, y, PGD(steps=steps, step=1.0 if steps == 1 else max(2.5 / steps, 0.05)), eps, **settings
        )
        rates[str(steps)] = _share(found.robust, torch.ones_like(found.robust))
    values = list(rates.values())
    rises = any(b > a + TOLERANCE for a, b in pairwise(values))
    unfinished = values[-2] - values[-1] > TOLERANCE
    words = ", ".join(f"{steps}: {rate:.1%}" for steps, rate in rates.items())
    more = "; more steps still break more, so the last figure is too high" if unfinished else ""
    return Check("steps", rates, rises, f"right after so many steps of PGD: {words}{more}")


def _large(model: nn.Module, x: Tensor, y: Tensor, low: float, high: float, settings: dict[str, Any]) -> Check:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # eps is large on purpose
        found = attack(model, x, y, PGD(steps=40), high - low, **settings)
    left = _share(found.robust, torch.ones_like(found.robust))
    words = f"{left:.1%} are right although every number may be anything"
    return Check("unbounded", left, left > TOLERANCE, words)


def _orders(broken: Mapping[str, Tensor], gradient_free: frozenset[str]) -> list[Check]:
    """What attacks without gradients break and none with them does; how far one surrogate is from all attacks together."""
    white = [mask for name, mask in broken.items() if name not in gradient_free]
    checks = []
    if white:
        seen = torch.stack(white).any(0)
        for name in sorted(gradient_free & broken.keys()):
            alone = float((broken[name] & ~seen).float().mean())
            words = f"{alone:.1%} of the samples are broken by {name}, which sees no gradient, and by nothing that does"
            checks.append(Check(f"{name}_alone", alone, alone > TOLERANCE, words))
        if "pgd" in broken:
            more = float((seen & ~broken["pgd"]).float().mean())
            words = f"{more:.1%} more are broken by other gradients, losses and steps than by PGD through the trained surrogate"
            checks.append(Check("beyond_pgd", more, False, words))
    return checks


def _noise(model: nn.Module, x: Tensor, y: Tensor, eps: float, settings: dict[str, Any]) -> Check:
    """How the figure depends on draws a gradient is the mean of."""
    rates = {}
    for draws in (1, 5, 20):
        found = attack(model, x, y, PGD(steps=10), eps, draws=draws, **settings)
        rates[str(draws)] = _share(found.robust, torch.ones_like(found.robust))
    hides = rates["1"] - rates["20"] > TOLERANCE
    words = ", ".join(f"{draws}: {rate:.1%}" for draws, rate in rates.items())
    return Check("noise", rates, hides, f"right after PGD-10 whose gradients are means of so many draws: {words}")


def _share(part: Tensor, of: Tensor) -> float:
    return float(part.sum()) / max(int(of.sum()), 1)
