"""Spikes added and taken away in a recording of zeros and ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from saccade.robust.attacks.base import ATTACKS, Attack, Search
from saccade.robust.losses import cross_entropy


@dataclass(frozen=True)
class SDA(Attack):
    """Sparse dynamic attack on binary frames: flip those numbers whose change the gradient promises most, 10 more in each
    round, keep the flips that raise the loss, then undo as many as the answer allows. Source: the SDA of PDSG-SDA (CVPR 2025).

    Its measure is the number of flips; the threat's eps has to be the whole range (1).
    Raises ValueError for frames that hold anything but zeros and ones, and for a smaller eps.
    """

    rounds: Annotated[int, Field(ge=1)] = 500

    def search(self, s: Search) -> None:
        x0 = s.x0
        if bool(((x0 != 0) & (x0 != 1)).any()):
            raise ValueError("flips need frames of zeros and ones")
        if s.threat.eps < 1:
            raise ValueError(f"a flip changes a number by 1, and eps is {s.threat.eps:g}; give 1")
        x = x0.clone()
        for n in range(self.rounds):
            if not len(x):
                break
            logits, losses, g = s.gradient(x)
            keep = s.offer(x, logits)
            x, losses, g = x[keep], losses[keep], g[keep]
            if not len(x):
                break
            promise = (g * (1 - 2 * x)).flatten(1)  # by how much the loss grows, to first order, if a number is flipped
            count = min((n + 1) * 10, promise.shape[1])
            best = promise.topk(count, 1)
            mask = torch.zeros_like(promise).scatter(1, best.indices, (best.values > 0).to(promise.dtype)).view_as(x)
            tried = x + mask * (1 - 2 * x)
            after = cross_entropy(s.victim.logits(tried), s.y)
            x = torch.where((after > losses).view(-1, *[1] * (x.dim() - 1)), tried, x)
        if len(x):
            s.offer(x, s.victim.logits(x))
        self._fewer(s)

    def _fewer(self, s: Search) -> None:
        """Undo flips of broken samples, one half of what may still go at a time."""
        at = s.broken.nonzero()[:, 0]
        for i in at.tolist():
            x0, x, y = s.images[i : i + 1], s.best[i : i + 1].clone(), s.labels[i : i + 1]
            flips = (x != x0).flatten().nonzero()[:, 0]
            piece = len(flips) // 2
            while piece >= 1:
                left = []
                for part in flips.split(piece):
                    tried = x.flatten().clone()
                    tried[part] = x0.flatten()[part]
                    if bool((s.victim.logits(tried.view_as(x)).argmax(1) != y)[0]):
                        x = tried.view_as(x)
                    else:
                        left.append(part)
                flips = torch.cat(left) if left else flips[:0]
                piece //= 2
            s.best[i] = x[0]


ATTACKS.register("sda", SDA())
