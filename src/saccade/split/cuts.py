"""Where each client's model is cut, round by round.

A policy begins with a cut for every client and may move cuts between rounds. A move never changes the model: the moved block
goes on with the aggregated adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from saccade.config import Config, Registry
from saccade.split.cost import CostModel, Profile

CUTS: Registry[CutPolicy] = Registry("cut policy")


@dataclass(frozen=True)
class Score:
    """How a client's training went in a round: mean loss in nats a token, and share of next tokens that came out on
    top."""

    loss: float
    accuracy: float


@dataclass(frozen=True)
class CutPolicy(Config):
    registry: ClassVar[Registry[Any]] = CUTS

    def start(self, costs: CostModel, profiles: Mapping[str, Profile], seed: int) -> dict[str, int]:
        """A cut for every client."""
        raise NotImplementedError

    def move(
        self,
        cuts: Mapping[str, int],
        scores: Mapping[str, Score],
        streaks: dict[str, int],
        round: int,
        costs: CostModel,
        profiles: Mapping[str, Profile],
        seed: int,
    ) -> dict[str, int]:
        """The cuts of the next round. streaks: for how many rounds a client has asked for a move, kept from round to
        round."""
        return dict(cuts)


def _within(cut: int, low: int, costs: CostModel, profile: Profile, name: str) -> int:
    """The nearest cut that the client can hold. Raises ValueError if none is."""
    most = costs.most_cut(profile)
    if most < max(low, 1):
        raise ValueError(
            f"{name}: a cut of {max(low, 1)} needs {costs.client_memory(max(low, 1)):,} bytes, "
            f"and it has {profile.memory_bytes:,}"
        )
    return min(max(cut, low, 1), most)


@dataclass(frozen=True)
class FixedCut(CutPolicy):
    """The same cut for all, or each client's largest that fits its memory where that is smaller."""

    cut: int = 2

    def start(self, costs: CostModel, profiles: Mapping[str, Profile], seed: int) -> dict[str, int]:
        depth = costs.shape.depth - (costs.tail or 0)
        if not 1 <= self.cut < depth:
            raise ValueError(f"a cut of {self.cut} does not fit: it lies between 1 and {depth - 1}")
        return {name: _within(self.cut, 1, costs, profile, name) for name, profile in profiles.items()}


@dataclass(frozen=True)
class RandomCut(CutPolicy):
    """A cut for every client and round, drawn evenly from those that fit."""

    def start(self, costs: CostModel, profiles: Mapping[str, Profile], seed: int) -> dict[str, int]:
        return self._draw(costs, profiles, seed, -1)

    def move(self, cuts, scores, streaks, round, costs, profiles, seed):  # type: ignore[no-untyped-def]
        return self._draw(costs, profiles, seed, round)

    def _draw(self, costs: CostModel, profiles: Mapping[str, Profile], seed: int, round: int) -> dict[str, int]:
        rng = np.random.default_rng((seed, 77, round + 1))
        most = costs.shape.depth - (costs.tail or 0) - 1
        return {
            name: _within(int(rng.integers(1, most + 1)), 1, costs, profile, name) for name, profile in profiles.items()
        }


@dataclass(frozen=True)
class ResourceCut(CutPolicy):
    """The largest cut that fits a client's memory and leaves its round within the slowest client's at the floor.

    Bytes do not depend on the cut, so a client that is slower than the server is fastest at the smallest one: the floor
    ``at_least`` is a wish of the operator (who owns the blocks), and what clients can take beyond it without making a round
    longer frees the server.
    """

    at_least: int = 1

    def start(self, costs: CostModel, profiles: Mapping[str, Profile], seed: int) -> dict[str, int]:
        low = {name: _within(self.at_least, self.at_least, costs, p, name) for name, p in profiles.items()}
        blocks = costs.server_blocks(low.values())
        target = max(costs.round_seconds(low[name], p, blocks) for name, p in profiles.items())
        cuts = {}
        for name, profile in profiles.items():
            fitting = range(low[name], costs.most_cut(profile) + 1)
            cuts[name] = max(c for c in fitting if c == low[name] or costs.round_seconds(c, profile, blocks) <= target)
        return cuts


@dataclass(frozen=True)
class AdaptiveCut(ResourceCut):
    """Begins as ``resource``. Every ``every`` rounds a client whose loss has been more than ``gamma`` above the
    clients' mean for ``patience`` rounds gives a block to the server; one as far below takes one, if its round stays
    within the slowest's.

    direction: -1 turns the rule round.
    """

    gamma: float = 0.05
    every: int = 1
    patience: int = 2
    direction: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.direction not in (1, -1) or self.every < 1 or self.patience < 1 or self.gamma < 0:
            raise ValueError("direction is 1 or -1, every and patience are at least 1, gamma is not negative")

    def move(self, cuts, scores, streaks, round, costs, profiles, seed):  # type: ignore[no-untyped-def]
        new = dict(cuts)
        if not scores:
            return new
        mean = sum(score.loss for score in scores.values()) / len(scores)
        blocks = costs.server_blocks(self.at_least for _ in profiles)
        target = max(costs.round_seconds(self.at_least, p, blocks) for p in profiles.values())
        for name, score in scores.items():
            gap = (score.loss - mean) / mean if mean else 0.0
            wish = 0 if abs(gap) <= self.gamma else -self.direction if gap > 0 else self.direction
            held = streaks.get(name, 0)
            streaks[name] = 0 if not wish else wish if held * wish <= 0 else held + wish
            if abs(streaks[name]) < self.patience or (round + 1) % self.every:
                continue
            cut = new[name] + wish
            fits = self.at_least <= cut <= costs.most_cut(profiles[name])
            if fits and (wish < 0 or costs.round_seconds(cut, profiles[name], blocks) <= target):
                new[name] = cut
            streaks[name] = 0
        return new


@dataclass(frozen=True)
class PaperCut(CutPolicy):
    """Accuracy above the clients' mean takes layers, below gives them, with weight ``gamma`` (Shan et al. 2026):
    ``gamma * depth * (accuracy / mean - 1)`` blocks a round, to the nearest whole. The formula is ours; the words
    are theirs. ``cut``: of the first round.
    """

    cut: int = 2
    gamma: float = 1.0

    def start(self, costs: CostModel, profiles: Mapping[str, Profile], seed: int) -> dict[str, int]:
        return FixedCut(self.cut).start(costs, profiles, seed)

    def move(self, cuts, scores, streaks, round, costs, profiles, seed):  # type: ignore[no-untyped-def]
        new = dict(cuts)
        mean = sum(score.accuracy for score in scores.values()) / len(scores) if scores else 0.0
        for name, score in scores.items():
            if mean > 0:
                wish = round_half(self.gamma * costs.shape.depth * (score.accuracy / mean - 1))
                new[name] = _within(new[name] + wish, 1, costs, profiles[name], name)
        return new


def round_half(value: float) -> int:
    return int(np.floor(abs(value) + 0.5)) * (1 if value >= 0 else -1)


for _name, _policy in {
    "fixed": FixedCut(),
    "random": RandomCut(),
    "resource": ResourceCut(),
    "adaptive": AdaptiveCut(),
    "paper": PaperCut(),
}.items():
    CUTS.register(_name, _policy)
