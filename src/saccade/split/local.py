"""The whole federation in one process: deterministic, on a virtual clock. Messages are made and counted, and not
sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saccade.split import wire
from saccade.split.client_side import ClientSide, Tally, whole_round
from saccade.split.federation import Federation, Update
from saccade.split.ledger import Ledger
from saccade.split.lora import Adapted, Adapters
from saccade.split.messages import round_message, update_message
from saccade.split.recipe import SplitRecipe
from saccade.split.server_side import ServerSide
from saccade.split.terms import Terms, Trainer
from saccade.split.text import Batches
from saccade.split.wire import Kind, Message, Refused
from saccade.split.world import Blocks, World, evaluate

Row = dict[str, Any]
MOST_MODELS = 32  # kept with adapters of different ranks


@dataclass
class LocalEngine:
    """Runs rounds of a federation over ``clients``' batches.

    absent: who sits a round out, by the round's number (tests; dropout draws its own). after: called with each round's row.
    progress: called before each client with how many of how many are done.
    """

    federation: Federation
    clients: Mapping[str, Batches]
    held_out: Blocks | None = None
    absent: Mapping[int, set[str]] = field(default_factory=dict)
    after: Callable[[Row], None] = lambda row: None
    progress: Callable[[int, int], None] = lambda done, of: None

    def __post_init__(self) -> None:
        self._pool: dict[tuple[int, ...], Adapted] = {}

    def run(self, rounds: int, save: Path | None = None) -> list[Row]:
        """Rounds up to number ``rounds``, saving after each. Returns the federation's history."""
        while self.federation.round < rounds:
            row = self.round()
            every = self.federation.recipe.data.eval_every
            if self.held_out is not None and ((row["round"] + 1) % every == 0 or row["round"] + 1 == rounds):
                scored = evaluate(self._global(), self.held_out)
                row |= {"eval_loss": scored["loss"], "eval_accuracy": scored["accuracy"]}
            if save is not None:
                self.federation.save(save)
            self.after(row)
        return self.federation.history

    def _global(self) -> Adapted:
        federation = self.federation
        model = self._adapted((federation.recipe.lora.r,) * federation.depth)
        model.load(federation.adapters)
        return model

    def _adapted(self, ranks: tuple[int, ...]) -> Adapted:
        """A model with adapters of these ranks; whoever takes one loads all of its values."""
        if len(self._pool) > MOST_MODELS:  # random cuts and a shared server make many
            self._pool.clear()
        if ranks not in self._pool:
            self._pool[ranks] = Adapted(self.federation.base, self.federation.recipe.lora, ranks)
        return self._pool[ranks]

    def round(self) -> Row:
        federation, recipe = self.federation, self.federation.recipe
        asked = federation.members()
        out = self.absent.get(federation.round, set()) | self._dropped(asked)
        here = [name for name in asked if name not in out]
        shared: Adapted | None = None
        trainer: Trainer | None = None
        if recipe.server == "v2" and here:
            ranks = federation.server_ranks(asked)
            shared = Adapted(federation.base, recipe.lora, ranks)  # of its own: a client's may have the same ranks
            shared.load(federation.hand_out(ranks))
            trainer = Trainer(shared, range(federation.depth), federation.terms(here[0], asked))
        updates: dict[str, Update] = {}
        spent, slow = Ledger(), 0.0
        for place, name in enumerate(federation.order(here) if shared is not None else here):
            self.progress(place, len(here))
            terms = federation.terms(name, asked)
            steps, late = self._steps_in_time(terms, asked)
            update = self._client(terms, steps, shared, trainer)
            update.seconds = self._seconds(update, asked)
            spent.include(update.ledger)
            slow = max(slow, recipe.faults.deadline_s or 0.0) if late else slow
            if not late or steps:
                updates[name] = update
        times = [update.seconds for update in updates.values()]
        one_by_one = shared is not None
        seconds = max([slow, sum(times) if one_by_one else max(times, default=0.0)])
        of_server = None if shared is None else shared.read()
        row = federation.finish(asked, updates, of_server, seconds, spent)
        row["joules"] = self._joules(updates, asked, row["cuts"])
        row["absent"] = sorted(out & set(asked))
        return row

    def _dropped(self, asked: list[str]) -> set[str]:
        share = self.federation.recipe.faults.dropout
        if not share:
            return set()
        rng = np.random.default_rng((self.federation.recipe.seed, 13, self.federation.round))
        draws = dict(zip(self.federation.clients, rng.random(len(self.federation.clients)), strict=True))
        return {name for name in asked if draws[name] < share}

    def _blocks(self, asked: list[str]) -> int:
        return self.federation.costs.server_blocks(self.federation.cuts[name] for name in asked)

    def _steps_in_time(self, terms: Terms, asked: list[str]) -> tuple[int, bool]:
        """How many steps a client makes before the deadline, and whether that cuts it short."""
        deadline = self.federation.recipe.faults.deadline_s
        if deadline is None:
            return terms.steps, False
        costs, profile, blocks = self.federation.costs, self.federation.profiles[terms.client], self._blocks(asked)
        fitting = [s for s in range(terms.steps + 1) if costs.round_seconds(terms.cut, profile, blocks, s) <= deadline]
        steps = max(fitting, default=0)
        return steps, steps < terms.steps

    def _client(self, terms: Terms, steps: int, shared: Adapted | None, trainer: Trainer | None) -> Update:
        federation, recipe = self.federation, self.federation.recipe
        adapted = self._adapted(terms.ranks)
        handed = federation.hand_out(terms.ranks)
        adapted.load(handed)
        own: Adapters = {
            site: pair for site, pair in handed.items() if int(site.partition(".")[0]) in terms.client_blocks
        }
        ledger = Ledger()
        _book(ledger, "down", round_message(terms, own, federation.changed_weights(terms.client_blocks)))
        batches = self.clients[terms.client]
        if recipe.server == "none":
            tally = whole_round(adapted, terms, batches, steps)
        else:
            server = adapted if shared is None else shared
            trainer = trainer or Trainer(adapted, terms.server_blocks, terms)
            tally = self._split(adapted, ServerSide(server, terms, trainer, recipe.faults.poison), terms, steps, ledger)
        trained = adapted.read()
        kept = {site: trained[site] for site in own}
        _book(ledger, "up", update_message(tally, kept, terms.trains_a))
        _book(ledger, "down", Message(Kind.DONE))
        return Update(trained, tally, terms, ledger)

    def _split(self, adapted: Adapted, server: ServerSide, terms: Terms, steps: int, ledger: Ledger) -> Tally:
        seed = [self.federation.recipe.seed, 14, terms.round, self.federation.clients.index(terms.client)]
        noise = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(1 << 62)))
        client = ClientSide(adapted, terms, self.federation.recipe.privacy, noise)

        def exchange(message: Message) -> Message:
            _book(ledger, "up", message)
            reply = server.handle(message)
            _book(ledger, "down", reply)
            return reply

        try:
            return client.run(self.clients[terms.client], exchange, steps)
        except Refused as error:
            if error.code != "EVICTED":
                raise
            return Tally(dropped=client.tally.dropped)  # nothing of it counts

    def _seconds(self, update: Update, asked: list[str]) -> float:
        """Of a client's round on its machine and line, with the bytes that it really sent."""
        costs, terms = self.federation.costs, update.terms
        profile = self.federation.profiles[terms.client]
        compute = sum(costs.compute_seconds(terms.cut, profile, self._blocks(asked)))
        return (
            (update.tally.steps + update.tally.dropped) * compute
            + update.ledger.total("up") / profile.up_bytes_per_s
            + update.ledger.total("down") / profile.down_bytes_per_s
        )

    def _joules(self, updates: Mapping[str, Update], asked: list[str], cuts: Mapping[str, int]) -> float | None:
        """Of the clients' computing, where their profiles say what it draws."""
        total = 0.0
        for name, update in updates.items():
            profile = self.federation.profiles[name]
            if profile.watts is None:
                return None
            busy = self.federation.costs.compute_seconds(cuts[name], profile, self._blocks(asked))[0]
            total += profile.watts * busy * update.tally.steps
        return total


def _book(ledger: Ledger, way: str, message: Message) -> None:
    ledger.add(way, message, wire.size(message))


def simulate(
    recipe: SplitRecipe,
    world: World,
    out: Path | None = None,
    after: Callable[[Row], None] = lambda row: None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Federation:
    """A whole run; where ``out`` holds the state of an earlier one that was cut off, it goes on from there."""
    federation = Federation(recipe, world.base, list(world.clients))
    state = None if out is None else out / "state.safetensors"
    if state is not None and state.exists():
        federation.load(state)
    LocalEngine(federation, world.clients, world.held_out, after=after, progress=progress).run(recipe.rounds, state)
    return federation
