"""What all attacks share: the threat, the search for one misclassified image near each sample, and the call around it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from saccade.config import Config, Registry
from saccade.graph.declared import Reset
from saccade.robust.losses import cross_entropy, margin
from saccade.robust.victim import Loss, Victim

ATTACKS: Registry[Attack] = Registry("attack", "`saccade attacks`")
LARGE = 64 / 255  # an epsilon above it is most likely given in another unit
DRAWS_TO_SCORE = 10  # of a model with noise: calls that a final answer is the mean of


@dataclass(frozen=True)
class Threat:
    """What an attacker may do: change every number by at most ``eps``, within ``low .. high``."""

    eps: float
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.eps) or self.eps < 0:
            raise ValueError(f"eps is finite and at least 0, got {self.eps}")
        if not self.low < self.high:
            raise ValueError(f"inputs lie between low and high, got {self.low} and {self.high}")
        if self.eps > LARGE * (self.high - self.low):
            warnings.warn(
                f"eps = {self.eps:g} is more than 64/255 of the range {self.low:g} .. {self.high:g}: eps is a part of the "
                "range of the inputs (8/255), not a number of grey levels",
                stacklevel=3,
            )

    def project(self, x: Tensor, x0: Tensor) -> Tensor:
        """Into the ball around ``x0`` and the range."""
        return torch.minimum(torch.maximum(x, x0 - self.eps), x0 + self.eps).clamp(self.low, self.high)


class Search:
    """One attack on the samples of a batch that were classified rightly: what is still active, and the best found so far.

    ``offer`` keeps, for each sample, any image that is misclassified, else the one of the highest margin; misclassified samples
    leave ``active``, whose images ``x0``, labels ``y`` and everything aligned with them shrink together.
    """

    def __init__(self, victim: Victim, x: Tensor, y: Tensor, threat: Threat, generator: torch.Generator) -> None:
        self.victim, self.threat, self.generator = victim, threat, generator
        self.images, self.labels = x, y
        self.active = torch.arange(len(x), device=x.device)
        self.best, self.broken = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.drop = True  # whether broken samples leave; not where something follows the samples from call to call
        self._score = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)

    @property
    def x0(self) -> Tensor:
        return self.images[self.active]

    @property
    def y(self) -> Tensor:
        return self.labels[self.active]

    def noise(self, like: Tensor, normal: bool = False) -> Tensor:
        """Uniform in -1 .. 1 (or normal), drawn on the CPU so that every device draws the same."""
        draw = torch.randn if normal else torch.rand
        values = draw(like.shape, generator=self.generator, dtype=torch.float32)
        return (values if normal else values * 2 - 1).to(like.device, like.dtype)

    def start(self, random: bool = True) -> Tensor:
        """The images, or random ones in the ball around them."""
        x0 = self.x0
        return self.project(x0 + self.threat.eps * self.noise(x0)) if random else x0.clone()

    def project(self, x: Tensor) -> Tensor:
        return self.threat.project(x, self.x0)

    def gradient(self, x: Tensor, loss: Loss = cross_entropy) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, losses and gradients of the active samples."""
        return self.victim.gradient(x, self.y, loss)

    def offer(self, x: Tensor, logits: Tensor) -> Tensor:
        """Take candidates of the active samples; which of them stay active, bool ``[m]``."""
        wrong = logits.argmax(1) != self.y
        score = torch.where(wrong, torch.inf, margin(logits, self.y).double())
        better = score > self._score[self.active]
        at = self.active[better]
        self.best[at], self._score[at] = x.detach()[better], score[better]
        if self.victim.stochastic:  # a draw that goes wrong once proves nothing
            return torch.ones_like(wrong)
        self.broken[self.active[wrong]] = True
        if not self.drop:
            return torch.ones_like(wrong)
        self.active = self.active[~wrong]
        return ~wrong

    def again(self) -> None:
        """All samples that are not broken are active: for another start."""
        self.active = torch.arange(len(self.images), device=self.images.device)[~self.broken]


@dataclass(frozen=True)
class Attack(Config):
    """Base of the attacks, frozen settings with a name. A subclass searches images that are misclassified."""

    registry: ClassVar[Registry[Attack]] = ATTACKS
    gradient_free: ClassVar[bool] = False

    def search(self, s: Search) -> None:
        raise NotImplementedError


class Attacked(NamedTuple):
    """images: ``[N, ...]``. clean, robust: bool ``[N]``, whether the answer was right before and is right after. forwards,
    gradients: samples that the model computed for it."""

    images: Tensor
    clean: Tensor
    robust: Tensor
    forwards: int
    gradients: int


def attack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    how: Attack | str,
    eps: float = 8 / 255,
    *,
    low: float = 0.0,
    high: float = 1.0,
    seed: int = 0,
    draws: int = 1,
    reset: Reset | None = None,
    tell: Callable[[int], Any] | None = None,
) -> Attacked:
    """Search, within ``eps`` of each of the images ``[N, ...]``, one that the model misclassifies.

    model: logits ``[N, K]`` of images between ``low`` and ``high``, in eval mode, its normalisation inside. how: an attack or
    its name. draws: gradients are means of so many calls (expectation over transformation), for models with noise; such are
    scored by the mean of 10 calls. The model, the images and torch's generator are left as they are; the same seed finds the
    same.

    Raises ValueError for a model in training mode or without one row of logits an image, images outside the range or not
    finite, and labels that the model does not have.
    """
    how = Attack.parse(how)
    threat = Threat(eps, low, high)
    victim = Victim(model, reset)
    _check(x, y, threat)
    with victim.open():
        torch.manual_seed(seed)
        victim.check_noise(x[:1])
        clean_logits = _scored(victim, x)
        if len(y) and not 0 <= int(y.min()) <= int(y.max()) < clean_logits.shape[1]:
            raise ValueError(
                f"labels from {int(y.min())} to {int(y.max())}, and the model has {clean_logits.shape[1]} classes"
            )
        right = clean_logits.argmax(1) == y
        images = x.clone()
        at = right.nonzero()[:, 0]
        victim.draws = draws
        if len(at) and eps > 0:
            generator = torch.Generator().manual_seed(seed)
            search = Search(victim, x[at], y[at], threat, generator)
            how.search(search)
            images[at] = threat.project(search.best, x[at])
        victim.draws = 1
        robust = right.clone()
        robust[at] = _scored(victim, images[at]).argmax(1) == y[at] if len(at) else right[at]
    return Attacked(images, right, robust, victim.forwards, victim.gradients)


def _scored(victim: Victim, x: Tensor) -> Tensor:
    """Final answers: the mean of several calls where there is noise."""
    before, victim.draws = victim.draws, DRAWS_TO_SCORE if victim.stochastic else 1
    try:
        return victim.logits(x)
    finally:
        victim.draws = before


def _check(x: Tensor, y: Tensor, threat: Threat) -> None:
    if not x.is_floating_point() or x.dim() < 2:
        raise ValueError(f"attacks change images [N, ...] of real numbers, got {x.dtype} {list(x.shape)}")
    if len(x) != len(y) or y.dim() != 1 or y.is_floating_point():
        raise ValueError(f"labels are whole numbers, one an image: got {y.dtype} {list(y.shape)} for {len(x)} images")
    if not bool(torch.isfinite(x).all()):
        raise ValueError("images hold values that are not finite")
    if len(x) and (float(x.min()) < threat.low or float(x.max()) > threat.high):
        raise ValueError(
            f"images lie between {float(x.min()):g} and {float(x.max()):g}, outside {threat.low:g} .. {threat.high:g}: "
            "normalisation belongs inside the model"
        )
