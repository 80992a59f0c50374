"""A causal language model in two or three parts that together compute exactly what it computes."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from saccade.split.families import Family, family_of
from saccade.split.text import IGNORED


class Part(nn.Module):
    """Blocks ``first`` to ``last`` (exclusive) of a model, with the embedding before or the head behind them."""

    def __init__(self, family: Family, first: int, last: int, *, embeds: bool, heads: bool) -> None:
        super().__init__()
        self.family, self.first, self.last, self.embeds, self.heads = family, first, last, embeds, heads
        self.blocks = nn.ModuleList(family.blocks[first:last])
        self.around = nn.ModuleList(
            (family.front_modules() if embeds else []) + (family.back_modules() if heads else [])
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Ids ``[N, L]`` or hidden states ``[N, L, D]`` to hidden states, or logits ``[N, L, V]`` of the last part.

        mask: ``[N, L]``, True at real tokens; None where there is no padding.
        """
        positions = self.family.positions(x, mask)
        h = self.family.embed(x, positions) if self.embeds else x
        if self.blocks:
            context = self.family.context(h, mask, positions)
            for block in self.blocks:
                h = self.family.run(block, h, context)
        return self.family.logits(h) if self.heads else h


class Parts(NamedTuple):
    """``front`` and ``back`` of two parts, or ``front``, ``middle``, ``back`` of a U-shape, whose back the client
    keeps."""

    front: Part
    middle: Part | None
    back: Part

    def of_client(self) -> list[Part]:
        return [self.front] if self.middle is None else [self.front, self.back]

    def of_server(self) -> list[Part]:
        return [self.back] if self.middle is None else [self.middle]

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """All parts in turn: the whole model's logits."""
        h = self.front(ids, mask)
        return self.back(h if self.middle is None else self.middle(h, mask), mask)


def split_causal_lm(model: nn.Module, cut: int, tail: int | None = None) -> Parts:
    """The model in parts that share its weights: the client has the embedding and ``cut`` blocks.

    tail: None for two parts (the server has the rest and sees the labels); a number for a U-shape, whose client also has the
    last ``tail`` blocks, the final norm and the head (the labels stay with it).

    Raises ValueError for a cut that leaves the server or the client without a block, or an unknown architecture.
    """
    family = family_of(model)
    depth = len(family.blocks)
    check_cut(cut, depth, tail)
    end = depth - (tail or 0)
    front = Part(family, 0, cut, embeds=True, heads=False)
    if tail is None:
        return Parts(front, None, Part(family, cut, depth, embeds=False, heads=True))
    middle = Part(family, cut, end, embeds=False, heads=False)
    return Parts(front, middle, Part(family, end, depth, embeds=False, heads=True))


def check_cut(cut: int, depth: int, tail: int | None = None) -> None:
    """Raises ValueError unless client and server both have a block of ``depth`` to run."""
    most = depth - (tail or 0) - 1
    if tail is not None and tail < 0:
        raise ValueError(f"a tail has 0 blocks or more, not {tail}")
    if not 1 <= cut <= most:
        behind = f" behind a tail of {tail}" if tail else ""
        raise ValueError(f"a cut of {cut} does not fit a model of {depth} blocks{behind}: it lies between 1 and {most}")


def token_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, int, int]:
    """Mean cross entropy in nats over the labels that count, how many those are, and how many of them come out on
    top."""
    counted = labels != IGNORED
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    with torch.no_grad():
        right = int(((logits.argmax(-1) == labels) & counted).sum())
    return loss, int(counted.sum()), right
