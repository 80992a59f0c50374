"""A client that takes part over the network: its text, its blocks, its line to the server."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from saccade.split.client_side import ClientSide, Tally
from saccade.split.families import family_of
from saccade.split.federation import set_weight
from saccade.split.link import Link, RoundLost
from saccade.split.lora import Adapted, Adapters, LoraPlan, site_shape, sites_of
from saccade.split.messages import read_round, update_message
from saccade.split.models import load_model, model_hash
from saccade.split.privacy import PrivacyFilter
from saccade.split.terms import Terms
from saccade.split.text import Batches, padded_blocks, stream_blocks
from saccade.split.wire import Kind, Message

NO_FILTER = PrivacyFilter()


class Site:
    """A client's own side: model and text. Between rounds it keeps the blocks that the last round gave it and no others.

    ids: token ids of its samples. model: as ``load_model`` takes it. plan: alpha and targets of the adapters (the
    ranks come with every round).
    """

    def __init__(
        self,
        name: str,
        ids: Sequence[Sequence[int]],
        model: str,
        plan: LoraPlan,
        privacy: PrivacyFilter = NO_FILTER,
        seed: int = 0,
    ) -> None:
        self.name, self.ids, self.model, self.plan, self.privacy, self.seed = name, ids, model, plan, privacy, seed
        self.base: nn.Module = load_model(model, seed)
        self.hash = model_hash(self.base)
        family = family_of(self.base)
        self.depth = len(family.blocks)
        self.shapes = {site: site_shape(family, site) for site in sites_of(family, plan)}
        self._held = set(range(self.depth))
        self._batches: Batches | None = None
        self._noise = torch.Generator().manual_seed(secrets.randbits(62))  # of its own: the server must not know it

    def prepare(
        self, terms: Terms, adapters: Adapters, weights: dict[str, Any], seed: int, index: int
    ) -> tuple[ClientSide, Batches]:
        """The client's half of a round, holding none of the server's blocks."""
        if not set(terms.client_blocks) <= self._held:
            self.base, self._held = load_model(self.model, self.seed), set(range(self.depth))
        family = family_of(self.base)
        for block in set(self._held) - set(terms.client_blocks):
            family.blocks[block].to("meta")
        self._held &= set(terms.client_blocks)
        for site, weight in weights.items():
            set_weight(family, site, weight)
        adapted = Adapted(self.base, self.plan, terms.ranks)
        adapted.load(adapters)
        if self._batches is None:
            make = stream_blocks if terms.pack else padded_blocks
            try:
                self._batches = Batches(make(self.ids, terms.length), terms.batch, (seed, index))
            except ValueError as error:
                raise ValueError(f"{self.name}: {error}") from None
        return ClientSide(adapted, terms, self.privacy, self._noise), self._batches

    def hello(self) -> dict[str, Any]:
        return {"client": self.name, "model": self.hash}


def take_part(site: Site, link: Link, tell: Callable[[str], None] = lambda words: None) -> int:
    """Rounds until the server says that there are no more. Returns how many were finished.

    A round whose server is lost begins anew: it is a function of what the server hands out. Raises Refused, OSError.
    """
    finished = 0
    while True:
        try:
            done = _round(site, link, tell)
        except RoundLost:
            tell("the server has begun the round anew, or ended it")
            continue
        if done is None:
            return finished
        finished += done


def _round(site: Site, link: Link, tell: Callable[[str], None]) -> int | None:
    message = link.exchange(Message(Kind.WAIT))
    if message.kind == Kind.END:
        return None
    if message.kind != Kind.ROUND:
        return 0
    terms, adapters, weights = read_round(message, site.shapes)
    client, batches = site.prepare(terms, adapters, weights, int(link.accepted["seed"]), int(link.accepted["index"]))
    tally = client.run(batches, link.exchange)
    own = client.adapted.read(terms.client_blocks)
    link.exchange(update_message(tally, own, terms.trains_a))
    link.session = None
    tell(f"round {terms.round + 1}: cut {terms.cut}, {tally.steps} steps, loss {mean_loss(tally):.4f}")
    return 1


def mean_loss(tally: Tally) -> float:
    return tally.loss_sum / tally.tokens if tally.tokens else float("nan")
