"""Gradient ascent that halves its step by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from saccade.robust.attacks.base import ATTACKS, Attack, Search
from saccade.robust.losses import TargetedDLR, cross_entropy, dlr


@dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD: momentum, and a step that is halved, going back to the best point, where progress stalls.

    loss: "ce", "dlr", or "targeted" (DLR towards each of the ``targets`` most likely other classes in turn).
    Croce and Hein (2020), algorithm 1: checkpoints p_j, rho 0.75, step 2 eps at the start, momentum 0.75.
    """

    steps: Annotated[int, Field(ge=2)] = 100
    loss: Literal["ce", "dlr", "targeted"] = "ce"
    targets: Annotated[int, Field(ge=1)] = 9
    restarts: Annotated[int, Field(ge=1)] = 1

    def search(self, s: Search) -> None:
        for _ in range(self.restarts):
            if self.loss != "targeted":
                s.again()
                self._ascend(s, cross_entropy if self.loss == "ce" else dlr, None)
                continue
            clean = s.victim.logits(s.images)
            order = clean.scatter(1, s.labels[:, None], -math.inf).argsort(1, descending=True)
            for rank in range(min(self.targets, clean.shape[1] - 1)):
                s.again()
                self._ascend(s, None, order[s.active, rank])

    def _ascend(self, s: Search, loss: Any, target: Tensor | None) -> None:
        if not len(s.active):
            return
        x = s.start()
        state: dict[str, Tensor] = {}

        def evaluated(x: Tensor) -> tuple[Tensor, Tensor]:
            """Losses and gradients at x, after which the broken samples are gone from all that is aligned."""
            nonlocal target
            logits, losses, g = s.gradient(x, TargetedDLR(target) if target is not None else loss)
            keep = s.offer(x, logits)
            for name in state:
                state[name] = state[name][keep]
            target = None if target is None else target[keep]
            state["x"] = x[keep]
            return losses[keep], g[keep]

        losses, g = evaluated(x)
        m, shape = len(state["x"]), (-1, *[1] * (x.dim() - 1))
        state |= {
            "before": state["x"],
            "best": state["x"],
            "best_loss": losses,
            "best_g": g,
            "last_loss": losses,
            "g": g,
            "size": torch.full((m,), 2 * s.threat.eps, dtype=x.dtype, device=x.device),
            "rises": torch.zeros(m, device=x.device),
            "halved": torch.ones(m, dtype=torch.bool, device=x.device),
            "loss_at_check": losses,
        }
        period, last_check = max(int(0.22 * self.steps), 1), 0
        least, shrink = max(int(0.06 * self.steps), 1), max(int(0.03 * self.steps), 1)
        for k in range(1, self.steps):
            if not len(state["x"]):
                return
            now, size = state["x"], state["size"].view(shape)
            plain = s.project(now + size * state["g"].sign())
            a = 0.75 if k > 1 else 1.0
            moved = s.project(now + a * (plain - now) + (1 - a) * (now - state["before"]))
            state["before"] = now
            losses, g = evaluated(moved)
            if not len(state["x"]):
                return
            state["g"] = g
            state["rises"] = state["rises"] + (losses > state["last_loss"])
            state["last_loss"] = losses
            better = losses > state["best_loss"]
            wide = better.view(shape)
            state["best"] = torch.where(wide, state["x"], state["best"])
            state["best_g"] = torch.where(wide, g, state["best_g"])
            state["best_loss"] = torch.where(better, losses, state["best_loss"])
            if k - last_check == period:
                few = state["rises"] <= 0.75 * period
                still = ~state["halved"] & (state["best_loss"] <= state["loss_at_check"])
                halve = few | still
                state["halved"], state["loss_at_check"] = halve, state["best_loss"]
                state["size"] = torch.where(halve, state["size"] / 2, state["size"])
                back = halve.view(shape)
                state["x"] = torch.where(back, state["best"], state["x"])
                state["g"] = torch.where(back, state["best_g"], state["g"])
                state["rises"] = torch.zeros_like(state["rises"])
                last_check, period = k, max(period - shrink, least)


ATTACKS.register("apgd_ce", APGD())
ATTACKS.register("apgd_dlr", APGD(loss="dlr"))
ATTACKS.register("apgd_targeted", APGD(loss="targeted"))
