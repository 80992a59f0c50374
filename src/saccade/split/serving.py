"""What ``saccade split serve`` and ``client`` run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.split import runs
from saccade.split.audit_log import AuditLog
from saccade.split.direct import DirectEngine, check_for_strangers
from saccade.split.federation import Federation
from saccade.split.keys import Identity, check_name, read_identity
from saccade.split.link import Link
from saccade.split.live import LivePage
from saccade.split.lora import LoraPlan
from saccade.split.models import load_model, load_tokenizer
from saccade.split.privacy import PrivacyFilter
from saccade.split.recipe import SplitRecipe
from saccade.split.site import Site, take_part
from saccade.split.world import evaluate, held_out, read_training_text

Say = Callable[[str], None]
WALL = "wall clock of the rounds"


@dataclass(frozen=True)
class Options:
    """Of a server: as the command takes them."""

    out: Path
    listen: str
    keys: Path | None
    clients: tuple[str, ...]
    live: str | None = None
    patience_s: float = 30.0
    trusted: bool = False
    superlink: str = "127.0.0.1:9092"


@dataclass(frozen=True)
class ClientOptions:
    """Of a client: as the command takes them."""

    server: str
    name: str
    data: str
    model: str
    keys: Path | None
    alpha: float = 16.0
    targets: tuple[str, ...] = ()
    clip: float | None = None
    noise: float = 0.0
    retry_s: float = 300.0


def identity_of(keys: Path | None) -> Identity | None:
    return None if keys is None else read_identity(keys)


def begin_serving(
    recipe: SplitRecipe, options: Options, identity: Identity | None, say: Say
) -> tuple[Federation, Any, float]:
    """``(federation, held-out text, its loss before)``; goes on from a state that is there."""
    for name in options.clients:
        check_name(name)
    check_for_strangers(recipe, options.trusted)
    text = held_out(recipe)
    federation = Federation(
        recipe, load_model(recipe.model, recipe.seed), options.clients, "plain" if identity is None else identity.run
    )
    runs.begin(options.out, recipe)
    before = evaluate(federation.base, text)["loss"]
    state = options.out / "state.safetensors"
    if state.exists():
        federation.load(state)
        say(f"going on behind round {federation.round}")
    say(f"held-out loss before: {before:.4f} nats a token")
    return federation, text, before


def serve_direct(
    recipe: SplitRecipe, options: Options, say: Say, after: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Serve until the rounds are done. Returns the summary. Raises ValueError, OSError."""
    identity = identity_of(options.keys)
    federation, text, before = begin_serving(recipe, options, identity, say)
    log = AuditLog(options.out / "audit.jsonl")
    engine = DirectEngine(federation, text, identity, log, after, options.patience_s)
    port = engine.start(options.listen)
    say(
        f"listening on {options.listen.rpartition(':')[0]}:{port}, {'mutual TLS' if identity else 'a plain line without tokens'}"
    )
    began = time.monotonic()
    with LivePage(options.live, federation, engine.rounds) as page:
        if page.address:
            say(f"live page: http://{page.address}/")
        engine.run(recipe.rounds, options.out / "state.safetensors")
        engine.rounds.settle(5.0)
    engine.stop()
    more = {"before_loss": before, "wall_seconds": round(time.monotonic() - began, 2), "engine": "direct"}
    return runs.finish(options.out, federation, more, WALL)


def make_site(given: ClientOptions) -> Site:
    """A client's own side. Raises ValueError for text or model that cannot be read."""
    recipe = SplitRecipe(model=given.model)
    encode = load_tokenizer(given.model, None)
    ids = [encode(sample) for sample in read_training_text(recipe, given.data)]
    plan = LoraPlan(alpha=given.alpha, targets=given.targets)
    return Site(check_name(given.name), ids, given.model, plan, PrivacyFilter(given.clip, given.noise))


def join_direct(given: ClientOptions, say: Say) -> int:
    """Take part until the end. Returns the rounds finished. Raises Refused, OSError, ValueError."""
    site = make_site(given)
    with Link(given.server, site.hello(), identity_of(given.keys), given.retry_s, tell=say) as link:
        return take_part(site, link, say)
