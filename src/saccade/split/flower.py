"""Flower as the engine: it knows who takes part, carries rounds, plans and adapters, and starts what a site runs;
the activations of a round go over our own stream, which is a thousand times faster than its messages.

The only module that imports ``flwr``; ``flower_processes`` starts its programs, which load the bundle ``flower_app/``.
Options travel as the path of a JSON file that each side's own command wrote. Sizes: a round costs Flower some seconds
of polling and starting processes, whatever is in it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from saccade.optional import need
from saccade.split import wire
from saccade.split.flower_processes import ENVIRONMENT
from saccade.split.keys import Identity, token_fits
from saccade.split.wire import Refused

ROUND, WHO, END = "train.split_round", "query.who", "query.end"
POLL_S = 0.5
ASK_AGAIN_S = 60.0  # after which a node whose name is not known is asked again
STILL_THERE_S = 120.0  # after which a node that has not answered its round is asked whether it still has it
OF_RAY = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_USAGE_STATS_ENABLED": "0"}  # it tells nobody of its use
SIMULATED = "SACCADE_SPLIT_SIMULATED"  # names the options of simulated clients in their processes


# the client's side: each handler runs in a process of its own, which Flower starts for one message


def _client_options(context: Any) -> dict[str, Any]:
    """What the command of this client wrote; in Flower's simulation, of one of many by its number."""
    number = context.node_config.get("partition-id")
    place = context.node_config.get("options") or os.environ[SIMULATED]
    found: dict[str, Any] = json.loads(Path(str(place)).read_text())
    if number is not None and "options" not in context.node_config:
        name = f"client-{number}"
        found |= {"name": name, "client": found["client"] | {"name": name, "data": f"{found['parts']}/{name}.jsonl"}}
    return found


def _answer(message: Any, values: Mapping[str, Any]) -> Any:
    app = need("flwr.app", "split")
    return app.Message(app.RecordDict({"split": app.ConfigRecord(dict(values))}), reply_to=message)


def say_who(message: Any, context: Any) -> Any:
    """The client's name, and the token that proves it."""
    from saccade.split.serving import identity_of

    options = _client_options(context)
    identity = identity_of(Path(options["keys"]) if options["keys"] else None)
    token = "" if identity is None else identity.secret.decode("ascii", "replace")
    return _answer(message, {"client": options["name"], "token": token})


def train(message: Any, context: Any) -> Any:
    """One round: adapters came with the message, activations go over the stream, adapters go back with the answer."""
    import torch

    from saccade.split.link import Link, RoundLost
    from saccade.split.messages import read_round, update_message
    from saccade.split.serving import ClientOptions, identity_of, make_site

    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS") or 1)))
    options = _client_options(context)
    given = ClientOptions(**options["client"] | {"keys": Path(options["keys"]) if options["keys"] else None})
    record = message.content["split"]
    site = make_site(given)
    terms, adapters, weights = read_round(wire.decode(record["round"], 1 << 30), site.shapes)
    client, batches = site.prepare(terms, adapters, weights, int(record["seed"]), int(record["index"]))
    hello = site.hello() | {"run": terms.run, "round": terms.round, "epoch": terms.epoch}
    with Link(str(record["address"]), hello, identity_of(given.keys), min(given.retry_s, 60.0)) as link:
        try:
            tally = client.run(batches, link.exchange)
        except (RoundLost, Refused, OSError) as error:
            return _answer(message, {"client": given.name, "error": " ".join(str(error).split())[:200] or "round lost"})
    update = wire.encode(update_message(tally, client.adapted.read(terms.client_blocks), terms.trains_a))
    return _answer(message, {"client": given.name, "update": update, "round": terms.round})


def hear_the_end(message: Any, context: Any) -> Any:
    """Tell the command that started the SuperNode that it may stop."""
    options = _client_options(context)
    Path(options["over"]).write_text("over\n")
    return _answer(message, {"client": options["name"]})


# the server's side


def lead(grid: Any, context: Any) -> None:
    """The ServerApp: leads all rounds, serving the stream from this process."""
    import torch

    from saccade.split.serving import Options, lead_flower

    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS") or 1)))
    raw = json.loads(Path(str(context.run_config["options"])).read_text())
    options = raw["options"]
    for key in ("out", "keys"):
        options[key] = Path(options[key]) if options[key] else None
    options["clients"] = tuple(options["clients"])
    lead_flower(raw["recipe"], Options(**options), FlowerRounds(grid))


class FlowerRounds:
    """Rounds carried by Flower's messages. Names of nodes are believed with their token alone.

    in_order: a node answers its messages one after the other, as a SuperNode does and a simulated one does not.
    """

    def __init__(self, grid: Any, in_order: bool = True) -> None:
        self.grid, self.in_order = grid, in_order
        self.nodes: dict[str, int] = {}
        self._asked: dict[int, float] = {}  # nodes whose name we want to know
        self._waiting: dict[str, tuple[str, str, int]] = {}  # message id: (what, client, node), as they were sent
        self._overtaken: set[str] = set()  # rounds that a node has left unanswered and answered a later message

    def _send(self, what: str, node: int, values: Mapping[str, Any], group: str, client: str) -> None:
        app = need("flwr.app", "split")
        content = app.RecordDict({"split": app.ConfigRecord(dict(values))})
        message = app.Message(content=content, message_type=what, dst_node_id=node, group_id=group)
        for found in self.grid.push_messages([message]):
            if found:
                self._waiting[found] = (what, client, node)

    def look_around(self, identity: Identity | None, known: list[str]) -> None:
        """Ask nodes that are new who they are, and take in what came of it.

        A node is its key's: a SuperNode that was killed comes back as the same node, and what its process had taken
        along is lost without a sign. So nodes that take long are asked too.
        """
        now, here = time.monotonic(), set(self.grid.get_node_ids())
        self.nodes = {name: node for name, node in self.nodes.items() if node in here}
        self._asked = {node: at for node, at in self._asked.items() if node in here}
        after = dict.fromkeys(here - set(self.nodes.values()), ASK_AGAIN_S)
        if self.in_order:
            after |= {
                node: self._patience(node) for what, _, node in self._waiting.values() if what == ROUND and node in here
            }
        for node, seconds in after.items():
            if now - self._asked.get(node, -1e9) > seconds:
                self._asked[node] = now
                self._send(WHO, node, {"x": 0}, "who", "")
        for what, _, node, record in self._answers(WHO):
            name = None if record is None else record.get("client")
            fits = identity is None or token_fits(identity.secret, identity.run, str(name), (record or {}).get("token"))
            if what == WHO and isinstance(name, str) and name in known and fits:
                self.nodes[name] = node

    def _patience(self, node: int) -> float:
        """Twice as long after each question that waits there: each costs the node a process once it is free."""
        return STILL_THERE_S * 2 ** sum(what == WHO and of == node for what, _, of in self._waiting.values())

    def _answers(self, *kinds: str) -> Iterator[tuple[str, str, int, Mapping[str, Any] | None]]:
        """``(what, client, node, record)`` of what has come back; None for a record where the client failed."""
        wanted = [key for key, (what, _, _) in self._waiting.items() if what in kinds]
        for message in self.grid.pull_messages(wanted) if wanted else ():
            answered = message.metadata.reply_to_message_id
            if answered not in self._waiting:
                continue
            record = None if message.has_error() else message.content.get("split")
            what, client, node = self._waiting[answered]
            if what == WHO and record is not None and self.in_order:
                self._overtaken.update(self._rounds_before(answered, node))
            del self._waiting[answered]
            yield what, client, node, record

    def _rounds_before(self, later: str, node: int) -> Iterator[str]:
        for key, (what, _, of) in self._waiting.items():
            if key == later:
                return
            if what == ROUND and of == node:
                yield key

    def ask(self, client: str, round_bytes: bytes, round: int, seed: int, index: int, address: str) -> None:
        """Send a client its round."""
        values = {"round": round_bytes, "seed": seed, "index": index, "address": address}
        self._asked[self.nodes[client]] = time.monotonic()
        self._send(ROUND, self.nodes[client], values, str(round), client)

    def updates(self) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
        """What came of rounds, by client; None where it failed or was lost."""
        for _, client, _, record in self._answers(ROUND):
            yield client, record
        for key in self._overtaken & set(self._waiting):  # an answer would have come before the later one's
            yield self._waiting.pop(key)[1], None
        self._overtaken.clear()

    def forget_round(self) -> None:
        self._waiting = {key: value for key, value in self._waiting.items() if value[0] != ROUND}

    def end(self, seconds: float = 20.0) -> None:
        """Tell every node that it is over, and give it time to hear."""
        for name, node in self.nodes.items():
            self._send(END, node, {"x": 0}, "end", name)
        until = time.monotonic() + seconds
        while any(what == END for what, _, _ in self._waiting.values()) and time.monotonic() < until:
            list(self._answers(END))
            time.sleep(POLL_S)


# Flower's simulation


def simulate(
    out: Path,
    parts: Path,
    count: int,
    model: str,
    alpha: float,
    targets: list[str],
    cpus: float,
    lead: Callable[[FlowerRounds], None],
) -> None:
    """The same rounds with clients as actors of Ray in Flower's simulation, on this machine's cores.

    parts: folder with the clients' texts. cpus: cores a client; as many as fit train at once. lead: leads all rounds,
    in a thread of this process; its stream is a plain line on this machine.
    """
    clientapp, serverapp = need("flwr.clientapp", "split"), need("flwr.serverapp", "split")
    simulation = need("flwr.simulation", "split")
    need("ray", "split")
    place = out / "clients.json"
    client = {"server": "", "name": "", "data": "", "model": model, "keys": None, "alpha": alpha, "targets": targets}
    over = str((out / "over").resolve())
    place.write_text(json.dumps({"keys": None, "over": over, "parts": str(parts.resolve()), "client": client}))
    os.environ.update({SIMULATED: str(place.resolve()), **ENVIRONMENT, **OF_RAY})
    app, server = clientapp.ClientApp(), serverapp.ServerApp()
    app.query("who")(say_who)
    app.train("split_round")(train)
    app.query("end")(hear_the_end)

    @server.main()
    def main(grid: Any, context: Any) -> None:
        lead(FlowerRounds(grid, in_order=False))

    simulation.run_simulation(
        server, app, count, backend_config={"client_resources": {"num_cpus": cpus, "num_gpus": 0.0}}
    )
