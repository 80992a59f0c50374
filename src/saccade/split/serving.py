"""What ``saccade split serve`` and ``client`` run."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saccade.optional import need
from saccade.report import write_text
from saccade.split import flower, flower_processes, runs, wire
from saccade.split.audit_log import AuditLog
from saccade.split.direct import DirectEngine, check_for_strangers, open_round
from saccade.split.federation import Federation
from saccade.split.keys import Identity, check_name, public_keys, read_identity, supernode_key
from saccade.split.link import Link
from saccade.split.live import LivePage
from saccade.split.lora import LoraPlan
from saccade.split.models import load_model, load_tokenizer
from saccade.split.privacy import PrivacyFilter
from saccade.split.recipe import SplitRecipe, parse_recipe
from saccade.split.rounds import Rounds
from saccade.split.site import Site, take_part
from saccade.split.text import find
from saccade.split.wire import Refused
from saccade.split.world import client_name, evaluate, held_out, read_training_text, share_text, write_parts

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


def check_lines(options: Options) -> None:
    """Raises ValueError for an address that cannot be, or a line without keys that leaves this machine."""
    for name, address in (("--listen", options.listen), ("--superlink", options.superlink)):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"{name} is HOST:PORT, e.g. 127.0.0.1:9443, not {address!r}")
        if options.keys is None and host not in ("localhost", "127.0.0.1", "[::1]"):
            raise ValueError(
                f"{name} {address}: others can reach it, so it needs --keys (`saccade split keys` makes them)"
            )


def begin_serving(
    recipe: SplitRecipe, options: Options, identity: Identity | None, say: Say
) -> tuple[Federation, Any, float]:
    """``(federation, held-out text, its loss before)``; goes on from a state that is there."""
    for name in options.clients:
        check_name(name)
    check_for_strangers(recipe, options.trusted)
    check_lines(options)
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
        f"listening on {options.listen.rpartition(':')[0]}:{port}, "
        f"{'mutual TLS' if identity else 'a plain line without tokens'}"
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


def lead_flower(
    plain: dict[str, Any],
    options: Options,
    carrier: Any,
    after: Callable[[dict[str, Any]], None] = lambda row: None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> None:
    """The rounds of a federation whose members, plans and adapters Flower carries. Runs in the ServerApp.

    Each round's row is a line of ``progress.jsonl``, ``error.txt`` says what went wrong, and ``summary.json`` that
    it is done. after, progress: for whoever is in the same process; how many of how many clients are done.
    """
    try:
        _lead_flower(plain, options, carrier, after, progress)
    except Exception as error:
        write_text(options.out / "error.txt", f"{type(error).__name__}: {error}\n")
        raise


def _lead_flower(
    plain: dict[str, Any],
    options: Options,
    carrier: Any,
    after: Callable[[dict[str, Any]], None],
    progress: Callable[[int, int], None],
) -> None:
    recipe = parse_recipe(plain, "options")
    identity = identity_of(options.keys)

    def note(value: Any) -> None:
        with (options.out / "progress.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")

    def done(row: dict[str, Any]) -> None:
        note(row)
        after(row)

    federation, text, before = begin_serving(recipe, options, identity, note)
    log = AuditLog(options.out / "audit.jsonl")
    engine = DirectEngine(federation, text, identity, log, done, options.patience_s)
    port = engine.start(options.listen)
    address = f"{options.listen.rpartition(':')[0]}:{port}"
    note(f"stream on {address}, {'mutual TLS' if identity else 'a plain line without tokens'}")
    began = time.monotonic()
    engine.lead = lambda asked: _flower_round(engine, carrier, asked, address, progress)
    with LivePage(options.live, federation, engine.rounds) as page:
        if page.address:
            note(f"live page: http://{page.address}/")
        engine.run(recipe.rounds, options.out / "state.safetensors")
    carrier.end()
    engine.stop()
    more = {"before_loss": before, "wall_seconds": round(time.monotonic() - began, 2), "engine": "flower"}
    runs.finish(options.out, federation, more, WALL)


def _flower_round(
    engine: DirectEngine, carrier: Any, asked: list[str], address: str, progress: Callable[[int, int], None]
) -> Any:
    """One round: who comes, comes back or comes late is sent it, until all are done or nobody is left to wait for."""
    federation, rounds, identity = engine.federation, engine.rounds, engine.identity
    until = time.monotonic() + engine.patience_s
    while True:
        carrier.look_around(identity, federation.clients)
        here = sum(name in carrier.nodes for name in asked)
        if here == len(asked) or (here >= engine.fewest(asked) and time.monotonic() > until):
            break
        time.sleep(0.5)
    open_round(federation, rounds, asked)
    handed: dict[str, int] = {}
    began = gone = time.monotonic()
    deadline = federation.recipe.faults.deadline_s
    while True:
        carrier.look_around(identity, federation.clients)
        for name in asked:
            if name in carrier.nodes and name not in handed and name not in rounds.updates:
                message = rounds.begin_for(name)
                rounds.book("down", message, wire.size(message))
                index = federation.clients.index(name)
                carrier.ask(name, wire.encode(message), federation.round, federation.recipe.seed, index, address)
                handed[name] = carrier.nodes[name]
        for name, record in carrier.updates():
            if not _take_update(rounds, name, record):
                handed.pop(name, None)  # it is asked again
        for name, node in list(handed.items()):
            if carrier.nodes.get(name) != node:
                handed.pop(name)
        missing = [name for name in asked if name not in rounds.updates]
        progress(len(asked) - len(missing), len(asked))
        now = time.monotonic()
        gone = now if any(name in handed for name in missing) else gone
        if not missing or (deadline is not None and now - began > deadline) or now - gone > engine.patience_s:
            break
        time.sleep(0.5)
    carrier.forget_round()
    return rounds.collect(0.0, 0.0)


def _take_update(rounds: Rounds, client: str, record: Any) -> bool:
    """Whether an answer was an update. One that fails or is wrong leaves no trace."""
    session = rounds.sessions.get(client)
    if (
        record is None
        or record.get("client") != client
        or not isinstance(record.get("update"), bytes)
        or session is None
    ):
        return False
    try:
        message = wire.decode(record["update"], 1 << 30)
        rounds.handle(client, session, message)
    except Refused:
        return False
    rounds.book("up", message, len(record["update"]))
    return True


def serve_flower(
    recipe: SplitRecipe, options: Options, say: Say, after: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Start a SuperLink and a run on it, and tell of its rounds until they are done. Returns the summary."""
    check_for_strangers(recipe, options.trusted)
    check_lines(options)
    if options.keys is not None:
        read_identity(options.keys)
        public_keys(options.keys, options.clients)
    runs.begin(options.out, recipe)
    summary, trouble, progress = (options.out / name for name in ("summary.json", "error.txt", "progress.jsonl"))
    for file in (summary, trouble, progress):
        file.unlink(missing_ok=True)
    told = 0

    def alive() -> bool:
        nonlocal told
        lines = progress.read_text(encoding="utf-8").splitlines() if progress.exists() else []
        for line in lines[told:]:
            value = json.loads(line)
            say(value) if isinstance(value, str) else after(value)
        told = len(lines)
        if trouble.exists():
            raise ValueError(trouble.read_text().strip())
        return not summary.exists()

    flower_processes.run_superlink(options, recipe.plain(), say, alive)
    found: dict[str, Any] = json.loads(summary.read_text())
    return found


def join_flower(given: ClientOptions, say: Say) -> None:
    """Run a SuperNode until the server says that it is over. Raises ValueError where text or keys are wrong, before
    it starts."""
    if given.keys is not None:
        read_identity(given.keys)
        supernode_key(given.keys)
    check_name(given.name)
    read_training_text(SplitRecipe(model=given.model), given.data)
    place = replace(given, data=str(find(given.data).resolve()))
    flower_processes.run_supernode(place, say)


def simulate_flower(
    recipe: SplitRecipe,
    out: Path,
    cpus: float,
    after: Callable[[dict[str, Any]], None],
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """The rounds in Flower's simulation, clients as actors of Ray. Returns the summary. Raises ValueError.

    after: called with each round's row. progress: with how many of how many clients are done, while a round runs.
    """
    need("ray", "split-simulation")
    runs.begin(out, recipe)
    samples, _, shares = share_text(recipe)
    names = tuple(client_name(i) for i in range(recipe.clients.count))
    for file in ("summary.json", "error.txt", "progress.jsonl"):
        (out / file).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="saccade-flower-") as folder:
        write_parts(samples, shares, Path(folder) / "parts")
        options = Options(out, "127.0.0.1:0", None, names, patience_s=600.0, trusted=True)
        lora = recipe.lora
        flower.simulate(
            out, Path(folder) / "parts", len(names), recipe.model, lora.alpha, list(lora.targets), cpus,
            lambda carrier: lead_flower(recipe.plain(), options, carrier, after, progress),
        )  # fmt: skip
    if not (out / "summary.json").exists():
        trouble = out / "error.txt"
        raise ValueError(trouble.read_text().strip() if trouble.exists() else f"{out}: Flower ended without a result")
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return found
