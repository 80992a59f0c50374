"""The server's knowledge of a federation: global adapters, cuts, scores, the bill. No engine in it.

A round is a function of this state and the round's number. Whatever a client did in a round that it did not finish leaves no
trace, and a client that begins its round again does the same again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saccade.split.aggregate import AGGREGATORS, Share
from saccade.split.checkpoint import read_state, write_state
from saccade.split.client_side import Tally
from saccade.split.cost import CostModel, Profile, shape_of
from saccade.split.cuts import Score
from saccade.split.families import Family, family_of
from saccade.split.ledger import Ledger
from saccade.split.lora import Adapted, Adapters, block_of, fold, fresh_adapters, projection, site_shape
from saccade.split.recipe import SplitRecipe
from saccade.split.terms import Terms


@dataclass
class Update:
    """What a client's round brought: adapters of the blocks that were its own to train (with V1's copy on the
    server, all)."""

    adapters: Adapters
    tally: Tally
    terms: Terms
    ledger: Ledger = field(default_factory=Ledger)
    seconds: float = 0.0


class Federation:
    """State and rules. base: the frozen model; with ``flora`` its weights change.

    clients: their names, in the order in which everything goes through them.
    """

    def __init__(self, recipe: SplitRecipe, base: nn.Module, clients: Sequence[str], run: str = "local") -> None:
        self.recipe, self.base, self.run = recipe, base, run
        self.clients = list(clients)
        self.family = family_of(base)
        self.depth = len(self.family.blocks)
        self.rule = AGGREGATORS[recipe.aggregator]()
        self.profiles: dict[str, Profile] = {name: recipe.profile(i) for i, name in enumerate(self.clients)}
        data = recipe.data
        self.costs = CostModel(
            shape_of(self.family, recipe.lora, data.batch, data.length),
            recipe.lora,
            recipe.codec.activations,
            recipe.codec.gradients,
            data.batch,
            data.length,
            recipe.steps,
            recipe.clients.server,
            recipe.u_tail,
            not data.pack,
            recipe.clients.lanes,
            self.rule.trains_a,
        )
        self.adapters = fresh_adapters(self.family, recipe.lora, recipe.seed)
        self.weights: dict[str, Tensor] = {}  # that `flora` has changed, [out, in]
        whole = recipe.server == "none"
        self.cuts = (
            dict.fromkeys(self.clients, self.depth)
            if whole
            else recipe.cuts.start(self.costs, self.profiles, recipe.seed)
        )
        self.streaks: dict[str, int] = {}
        self.round = self.epoch = 0
        self.clock_s = 0.0
        self.ledger = Ledger()
        self.history: list[dict[str, Any]] = []

    # what a round is

    def members(self) -> list[str]:
        """Who is asked to take part in the coming round."""
        wanted = self.recipe.clients.per_round or len(self.clients)
        if wanted >= len(self.clients):
            return list(self.clients)
        if self.recipe.clients.choice == "in_turn":
            first = self.round * wanted
            chosen = {(first + i) % len(self.clients) for i in range(wanted)}
        else:
            rng = np.random.default_rng((self.recipe.seed, 11, self.round))
            chosen = set(rng.choice(len(self.clients), wanted, replace=False).tolist())
        return [name for i, name in enumerate(self.clients) if i in chosen]

    def order(self, members: Sequence[str]) -> list[str]:
        """The order in which V2's server takes the clients: drawn anew every round."""
        rng = np.random.default_rng((self.recipe.seed, 12, self.round))
        return [members[i] for i in rng.permutation(len(members))]

    def server_ranks(self, members: Sequence[str]) -> tuple[int, ...]:
        """V2: ranks of the adapter that all share: the largest that a member's plan has for a block of the server."""
        tail, plan = self.recipe.u_tail, self.recipe.lora
        plans = [(self.cuts[name], plan.ranks(self.depth, self.cuts[name], tail)) for name in members]
        return tuple(
            max((ranks[block] for cut, ranks in plans if cut <= block), default=plan.r) for block in range(self.depth)
        )

    def terms(self, client: str, members: Sequence[str]) -> Terms:
        recipe, cut = self.recipe, self.cuts[client]
        whole = recipe.server == "none"
        ranks = recipe.lora.ranks(self.depth, None if whole else cut, recipe.u_tail)
        if recipe.server == "v2":
            end = self.depth - (recipe.u_tail or 0)
            ranks = (*ranks[:cut], *self.server_ranks(members)[cut:end], *ranks[end:])
        return Terms(
            self.run,
            client,
            self.round,
            self.epoch,
            cut,
            None if whole else recipe.u_tail,
            ranks,
            recipe.steps,
            recipe.data.batch,
            recipe.data.length,
            self.family.width,
            recipe.data.pack,
            recipe.codec.activations,
            recipe.codec.gradients,
            recipe.codec.feedback,
            recipe.optimizer.lr,
            recipe.optimizer.weight_decay,
            recipe.optimizer.clip,
            self.rule.trains_a,
        )

    def hand_out(self, ranks: Sequence[int], blocks: Sequence[int] | None = None) -> Adapters:
        """The global adapters at these ranks, of some blocks or all."""
        alpha = self.recipe.lora.alpha
        return {
            site: self.rule.hand_out(a, b, ranks[block_of(site)], alpha)
            for site, (a, b) in self.adapters.items()
            if blocks is None or block_of(site) in blocks
        }

    def changed_weights(self, blocks: Sequence[int]) -> dict[str, Tensor]:
        """Frozen weights that are not the model's own any more: a client needs its blocks' once a round."""
        return {site: w for site, w in self.weights.items() if block_of(site) in blocks}

    # the end of a round

    def finish(
        self,
        asked: Sequence[str],
        updates: Mapping[str, Update],
        shared: Adapters | None = None,
        seconds: float = 0.0,
        spent: Ledger | None = None,
    ) -> dict[str, Any]:
        """Average what came, move the cuts, book the bytes, and go on to the next round. Returns the round's row.

        asked: who was to take part. shared: V2's adapters of the server. spent: bytes of the whole round, lost ones included.
        """
        done = {name: updates[name] for name in asked if name in updates and updates[name].tally.tokens > 0}
        tokens = {name: update.tally.tokens for name, update in done.items()}
        total = sum(tokens.values())
        enough = bool(done) and len(done) >= math.ceil(self.recipe.faults.quorum * len(asked) - 1e-9)
        lost = self._average(done, {n: count / total for n, count in tokens.items()}, shared) if enough else 0.0
        scores = {
            name: Score(update.tally.loss_sum / update.tally.tokens, update.tally.right / update.tally.tokens)
            for name, update in done.items()
        }
        ledger = spent or Ledger()
        if spent is None:
            for update in updates.values():
                ledger.include(update.ledger)
        self.ledger.include(ledger)
        self.clock_s += seconds
        row: dict[str, Any] = {
            "round": self.round,
            "train_loss": sum(u.tally.loss_sum for u in done.values()) / total if total else None,
            "train_accuracy": sum(u.tally.right for u in done.values()) / total if total else None,
            "tokens": total,
            "asked": len(asked),
            "finished": len(done),
            "counted": enough,
            "dropped_batches": sum(u.tally.dropped for u in updates.values()),
            "spectrum_lost": lost,
            "seconds": seconds,
            "clock_s": self.clock_s,
            "cuts": {name: self.cuts[name] for name in asked},
            "losses": {name: score.loss for name, score in scores.items()},
            "bytes": ledger.record(),
        }
        self.history.append(row)
        if self.recipe.server != "none":
            moved = self.recipe.cuts.move(
                self.cuts, scores, self.streaks, self.round, self.costs, self.profiles, self.recipe.seed
            )
            if moved != self.cuts:
                self.cuts, self.epoch = moved, self.epoch + 1
        self.round += 1
        return row

    def _average(self, done: Mapping[str, Update], weights: Mapping[str, float], shared: Adapters | None) -> float:
        """New global adapters; returns the largest share of a site's mean that its rank could not hold."""
        lost = 0.0
        for site, old in self.adapters.items():
            shares, of_server = [], 0.0
            for name, update in done.items():
                if shared is None or block_of(site) in update.terms.client_blocks:
                    shares.append(Share(*update.adapters[site], weights[name]))
                else:
                    of_server += weights[name]
            if shared is not None and of_server:
                shares.append(Share(*shared[site], of_server))
            assert abs(sum(share.weight for share in shares) - 1) < 1e-9, site
            merged = self.rule.merge(shares, old, self.recipe.lora.alpha)
            self.adapters[site] = (merged.a, merged.b)
            lost = max(lost, merged.lost)
            if merged.change is not None:
                fold(self.family, site, merged.change)
                self.weights[site] = weight_of(self.family, site)
        return lost

    def adapted(self) -> Adapted:
        """The global model."""
        model = Adapted(self.base, self.recipe.lora, [self.recipe.lora.r] * self.depth)
        model.load(self.adapters)
        return model

    def record(self, clock: str = "on the virtual clock") -> dict[str, Any]:
        """What a page shows."""
        r = self.recipe
        return {
            "title": r.name,
            "subtitle": f"{r.model}, {r.layout}, {r.server}, {r.aggregator}, cuts {r.cuts.kind()}, seed {r.seed}",
            "round": self.round,
            "rounds": r.rounds,
            "cuts": self.cuts,
            "clock_s": self.clock_s,
            "clock": clock,
            "ledger": self.ledger.record(),
            "history": self.history,
        }

    # on disk

    def save(self, path: Path) -> None:
        tensors = {
            f"{site}/{name}": x for site, pair in self.adapters.items() for name, x in zip("AB", pair, strict=True)
        }
        tensors |= {f"{site}/W": w for site, w in self.weights.items()}
        record = {
            "recipe": self.recipe.plain(),
            "run": self.run,
            "round": self.round,
            "epoch": self.epoch,
            "clients": self.clients,
            "cuts": self.cuts,
            "streaks": self.streaks,
            "clock_s": self.clock_s,
            "ledger": self.ledger.record(),
            "history": self.history,
        }
        write_state(path, tensors, record)

    def load(self, path: Path) -> None:
        """Go on from a saved state. Raises ValueError for one of another recipe, other clients, or that is damaged."""
        tensors, record = read_state(path)
        for key, own in (("recipe", self.recipe.plain()), ("clients", self.clients)):
            if record.get(key) != own:
                raise ValueError(
                    f"{path}: belongs to another run (its {key} differ); choose another --out or take it away"
                )
        try:
            self._take(tensors, record)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path}: a damaged state ({type(error).__name__}: {error})") from None

    def _take(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        adapters = {site: (tensors[f"{site}/A"], tensors[f"{site}/B"]) for site in self.adapters}
        for site, pair in adapters.items():
            if [x.shape for x in pair] != [x.shape for x in self.adapters[site]]:
                raise ValueError(f"{site} is of another shape")
        weights = {site: tensors[f"{site}/W"] for site in self.adapters if f"{site}/W" in tensors}
        self.run, self.round, self.epoch = str(record["run"]), int(record["round"]), int(record["epoch"])
        self.cuts = {name: int(record["cuts"][name]) for name in self.clients}
        self.streaks = dict(record["streaks"])
        self.clock_s, self.ledger, self.history = (
            float(record["clock_s"]),
            Ledger(record["ledger"]),
            list(record["history"]),
        )
        self.adapters, self.weights = adapters, weights
        for site, weight in weights.items():
            set_weight(self.family, site, weight)


def weight_of(family: Family, site: str) -> Tensor:
    """A copy of the frozen weight of a site, ``[out, in]``."""
    weight = projection(family, site).weight.detach()
    return (weight.T if family.fan_in_fan_out else weight).clone().contiguous()


def set_weight(family: Family, site: str, value: Tensor) -> None:
    """Put another frozen weight ``[out, in]`` at a site. Raises ValueError for another shape."""
    if tuple(value.shape) != site_shape(family, site):
        raise ValueError(f"{site}: a weight of {list(value.shape)} where {list(site_shape(family, site))} is due")
    with torch.no_grad():
        projection(family, site).weight.copy_(value.T if family.fan_in_fan_out else value)
