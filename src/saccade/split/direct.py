"""A federation over the network without anybody else's framework: rounds, adapters and activations on one stream a
client."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.split.audit_log import AuditLog
from saccade.split.federation import Federation, Update
from saccade.split.keys import Identity
from saccade.split.ledger import Ledger
from saccade.split.lora import Adapters
from saccade.split.models import model_hash
from saccade.split.recipe import SplitRecipe
from saccade.split.rounds import Rounds
from saccade.split.service import Service
from saccade.split.world import Blocks, evaluate

Row = dict[str, Any]
Collected = tuple[dict[str, Update], Adapters | None, Ledger]  # as Rounds.collect returns it


def check_for_strangers(recipe: SplitRecipe, trusted: bool) -> None:
    """Raises ValueError for codecs whose decoders were not written for hostile input, unless the operator trusts
    every client."""
    for way in ("activations", "gradients"):
        codec = getattr(recipe.codec, way)
        if codec.foreign and not trusted:
            raise ValueError(
                f"codec.{way}: {codec.kind()} is decoded by a library that is not made for hostile input; "
                "choose another, or say --trusted if all clients are yours"
            )


def most_message(federation: Federation) -> int:
    """Bytes of the largest message that a client has reason to send."""
    terms = [federation.terms(name, federation.clients) for name in federation.clients]
    adapters = 4 * sum(a.numel() + b.numel() + 64 for a, b in federation.adapters.values())
    return max(t.most_bytes for t in terms) + adapters + 65536


def open_round(federation: Federation, rounds: Rounds, asked: list[str]) -> None:
    """What the server's half needs for a round of these clients."""
    terms = {name: federation.terms(name, asked) for name in asked}
    by_ranks = {t.ranks: federation.hand_out(t.ranks) for t in terms.values()}  # read and never written: one for many
    handed = {name: by_ranks[t.ranks] for name, t in terms.items()}
    shared: Adapters | None = None
    ranks: tuple[int, ...] = ()
    if federation.recipe.server == "v2":
        ranks = federation.server_ranks(asked)
        shared = federation.hand_out(ranks)
    rounds.open(terms, handed, federation.weights, shared, ranks)


@dataclass
class DirectEngine:
    """Serves a federation round after round. patience_s: how long a client that is away is waited for.

    lead: another way to get from who is asked to what came, by whoever carries rounds and adapters.
    """

    federation: Federation
    held_out: Blocks | None = None
    identity: Identity | None = None
    log: AuditLog | None = None
    after: Callable[[Row], None] = lambda row: None
    patience_s: float = 30.0
    lead: Callable[[list[str]], Collected] | None = None

    def __post_init__(self) -> None:
        recipe = self.federation.recipe
        if recipe.server == "none":
            raise ValueError("server: none splits nothing, so there is nothing to serve; simulate it")
        self.rounds = Rounds(self.federation.base, recipe.lora, recipe.faults.poison)
        self.service = Service(
            self.rounds,
            self.federation.clients,
            model_hash(self.federation.base),
            self.federation.run,
            recipe.seed,
            most_message(self.federation),
            self.identity,
            self.log,
            recipe.faults.steps_per_s,
        )

    def start(self, address: str) -> int:
        return self.service.start(address)

    def run(self, rounds: int, save: Path | None = None) -> list[Row]:
        """Rounds up to number ``rounds``, saving after each; then every client is told that it is over."""
        while self.federation.round < rounds:
            row = self.round()
            every = self.federation.recipe.data.eval_every
            if self.held_out is not None and ((row["round"] + 1) % every == 0 or row["round"] + 1 == rounds):
                scored = evaluate(self.federation.adapted(), self.held_out)
                row |= {"eval_loss": scored["loss"], "eval_accuracy": scored["accuracy"]}
            if save is not None:
                self.federation.save(save)
            self.after(row)
        self.rounds.end()
        return self.federation.history

    def round(self) -> Row:
        """One round: who is away when it begins is waited for, then left out."""
        asked = self.federation.members()
        began = time.monotonic()
        updates, shared, spent = (self.lead or self._lead)(asked)
        return self.federation.finish(asked, updates, shared, time.monotonic() - began, spent)

    def _lead(self, asked: list[str]) -> Collected:
        while len(self.rounds.wait_for(asked, self.patience_s)) < self.fewest(asked):
            pass  # a round without its quorum would change nothing
        open_round(self.federation, self.rounds, asked)
        return self.rounds.collect(self.federation.recipe.faults.deadline_s, self.patience_s)

    def fewest(self, asked: list[str]) -> int:
        """How many of the asked must be there before a round begins."""
        return max(1, math.ceil(self.federation.recipe.faults.quorum * len(asked) - 1e-9))

    def stop(self) -> Ledger:
        """Stop serving, once clients have had time to hear the end."""
        self.service.stop()
        return self.federation.ledger
