"""Flower as the engine: it knows who takes part, carries rounds, plans and adapters, and starts what a site runs;
the activations of a round go over our own stream, which is a thousand times faster than its messages.

The only module that imports ``flwr``. The bundle that it ships is ``flower_app/``; options travel as the path of a
JSON file that each side's own command wrote. Sizes: a round costs Flower some seconds of polling and starting
processes, whatever is in it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from saccade.optional import need
from saccade.split import wire
from saccade.split.keys import Identity, token_fits
from saccade.split.wire import Refused

BUNDLE = Path(__file__).parent / "flower_app"
ROUND, WHO, END = "train.split_round", "query.who", "query.end"
POLL_S = 0.5
SIMULATED = "SACCADE_SPLIT_SIMULATED"  # names the options of simulated clients in their processes
ENVIRONMENT = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_UPDATE_CHECK": "0", "PYTHONUNBUFFERED": "1"}


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
    """Rounds carried by Flower's messages. Names of nodes are believed with their token alone."""

    def __init__(self, grid: Any) -> None:
        self.grid = grid
        self.nodes: dict[str, int] = {}
        self._asked: dict[int, float] = {}  # nodes whose name we want to know
        self._waiting: dict[str, tuple[str, str, int]] = {}  # message id: (what, client, node)

    def _send(self, what: str, node: int, values: Mapping[str, Any], group: str, client: str) -> None:
        app = need("flwr.app", "split")
        content = app.RecordDict({"split": app.ConfigRecord(dict(values))})
        message = app.Message(content=content, message_type=what, dst_node_id=node, group_id=group)
        for found in self.grid.push_messages([message]):
            if found:
                self._waiting[found] = (what, client, node)

    def look_around(self, identity: Identity | None, known: list[str]) -> None:
        """Ask nodes that are new who they are, and take in what came of it."""
        now, here = time.monotonic(), set(self.grid.get_node_ids())
        self.nodes = {name: node for name, node in self.nodes.items() if node in here}
        for node in here - set(self.nodes.values()):
            if now - self._asked.get(node, -1e9) > 60:
                self._asked[node] = now
                self._send(WHO, node, {"x": 0}, "who", "")
        for what, _, node, record in self._answers(WHO):
            name = None if record is None else record.get("client")
            fits = identity is None or token_fits(identity.secret, identity.run, str(name), (record or {}).get("token"))
            if what == WHO and isinstance(name, str) and name in known and fits:
                self.nodes[name] = node

    def _answers(self, *kinds: str) -> Iterator[tuple[str, str, int, Mapping[str, Any] | None]]:
        """``(what, client, node, record)`` of what has come back; None for a record where the client failed."""
        wanted = [key for key, (what, _, _) in self._waiting.items() if what in kinds]
        for message in self.grid.pull_messages(wanted) if wanted else ():
            what, client, node = self._waiting.pop(message.metadata.reply_to_message_id, ("", "", 0))
            if what:
                record = None if message.has_error() else message.content.get("split")
                yield what, client, node, record

    def ask(self, client: str, round_bytes: bytes, round: int, seed: int, index: int, address: str) -> None:
        """Send a client its round."""
        values = {"round": round_bytes, "seed": seed, "index": index, "address": address}
        self._send(ROUND, self.nodes[client], values, str(round), client)

    def updates(self) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
        for _, client, _, record in self._answers(ROUND):
            yield client, record

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


# processes


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _environment(home: Path) -> dict[str, str]:
    own = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {**os.environ, **ENVIRONMENT, "PATH": own, "FLWR_HOME": str(home)}


@contextmanager
def process(arguments: list[str], home: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program of Flower's, in a session of its own, that ends with the block, its children too."""
    program = Path(sys.executable).parent / arguments[0]
    if not program.exists():
        raise ModuleNotFoundError(f"{arguments[0]} is not there: pip install 'saccade-snn[split]'")
    with log.open("ab") as out:
        child = subprocess.Popen(
            [str(program), *arguments[1:]], env=_environment(home), stdout=out, stderr=out, start_new_session=True
        )
        try:
            yield child
        finally:
            stop(child)


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    import signal

    for kind, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(child.pid, kind)
        except ProcessLookupError:
            break
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    child.wait(5)


def tls_of_server(keys: Path | None) -> list[str]:
    if keys is None:
        return ["--insecure"]
    names = {"--ssl-certfile": "certificate.pem", "--ssl-keyfile": "key.pem", "--ssl-ca-certfile": "ca.pem"}
    return [word for option, file in names.items() for word in (option, str(keys / file))]


def write_config(home: Path, superlink: str, keys: Path | None) -> None:
    """The connection of the ``flwr`` command to our SuperLink."""
    lines = ["[superlink]", 'default = "own"', "", "[superlink.own]", f"address = {json.dumps(superlink)}"]
    lines.append(
        "insecure = true" if keys is None else f"root-certificates = {json.dumps(str((keys / 'ca.pem').resolve()))}"
    )
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text("\n".join(lines) + "\n")


def wait_for_port(address: str, seconds: float, child: subprocess.Popen[bytes], log: Path) -> None:
    """Raises OSError if nobody listens there in time, or the process ends."""
    host, _, port = address.rpartition(":")
    until = time.monotonic() + seconds
    while time.monotonic() < until and child.poll() is None:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise OSError(f"{address}: the SuperLink did not come up ({_last_line(log)})")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


def run_superlink(
    options: Any, plain_recipe: Mapping[str, Any], say: Callable[[str], None], alive: Callable[[], bool]
) -> None:
    """Start a SuperLink, submit the run, and wait while ``alive()``. Raises OSError if either ends before its time."""
    with tempfile.TemporaryDirectory(prefix="saccade-flower-") as name:
        home, log = Path(name), options.out / "superlink.log"
        write_config(home, options.superlink, options.keys)
        file = home / "options.json"
        kept = asdict(options) | {
            "out": str(options.out.resolve()),
            "keys": options.keys and str(options.keys.resolve()),
        }
        file.write_text(json.dumps({"recipe": plain_recipe, "options": kept}))
        host, _, port = options.superlink.rpartition(":")
        words = ["flower-superlink", *tls_of_server(options.keys), "--host", host, "--port", port]
        with process([*words, "--disable-runtime-dependency-installation"], home, log) as child:
            wait_for_port(options.superlink, 120, child, log)
            say(f"SuperLink on {options.superlink}")
            submit = subprocess.run(
                [str(Path(sys.executable).parent / "flwr"), "run", str(BUNDLE), "own", "--run-config", f'options="{file}"'],
                env=_environment(home), capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            if submit.returncode:
                raise OSError(f"flwr run failed: {' '.join((submit.stdout + submit.stderr).split())[-300:]}")
            while alive():
                if child.poll() is not None:
                    raise OSError(f"the SuperLink ended ({_last_line(log)})")
                time.sleep(POLL_S)


def run_supernode(given: Any, say: Callable[[str], None]) -> None:
    """Keep a SuperNode for this client until the server has said that it is over; one that ends is started again for
    ``retry_s``."""
    with tempfile.TemporaryDirectory(prefix="saccade-flower-") as name:
        home = Path(name)
        over, file, log = home / "over", home / "options.json", home / "supernode.log"
        keys = given.keys and str(given.keys.resolve())
        kept = asdict(given) | {"keys": keys}
        file.write_text(json.dumps({"name": given.name, "keys": keys, "over": str(over), "client": kept}))
        tls = ["--insecure"] if given.keys is None else ["--root-certificates", str(given.keys / "ca.pem")]
        words = ["flower-supernode", *tls, "--superlink", given.server, "--port", str(free_port())]
        words += ["--node-config", f'options="{file}"']
        lost = None
        while not over.exists():
            with process(words, home, log) as child:
                say(f"{given.name}: SuperNode of {given.server}")
                began = time.monotonic()
                while not over.exists() and child.poll() is None:
                    time.sleep(POLL_S)
                if child.poll() is None:
                    time.sleep(2 * POLL_S)  # its answer goes out
                    continue
            lost = began if lost is None or time.monotonic() - began > 60 else lost
            if time.monotonic() - lost > given.retry_s:
                raise OSError(f"{given.server}: the SuperNode ended ({_last_line(log)})")
            time.sleep(2.0)  # a SuperLink that was killed takes SuperNodes with it; it may come back
    say(f"{given.name}: over")


def simulate(
    options: Any,
    plain_recipe: Mapping[str, Any],
    parts: Path,
    model: str,
    alpha: float,
    targets: list[str],
    cpus: float,
) -> None:
    """The same rounds with clients as actors of Ray in Flower's simulation, on this machine's cores. ``cpus``: cores
    a client.

    options: of the server; its stream is a plain line on this machine. parts: folder with the clients' texts.
    """
    clientapp, serverapp = need("flwr.clientapp", "split"), need("flwr.serverapp", "split")
    simulation = need("flwr.simulation", "split")
    need("ray", "split")
    place = options.out / "clients.json"
    client = {"server": "", "name": "", "data": "", "model": model, "keys": None, "alpha": alpha, "targets": targets}
    over = str((options.out / "over").resolve())
    place.write_text(json.dumps({"keys": None, "over": over, "parts": str(parts.resolve()), "client": client}))
    os.environ.update({SIMULATED: str(place.resolve()), **ENVIRONMENT})
    app, server = clientapp.ClientApp(), serverapp.ServerApp()
    app.query("who")(say_who)
    app.train("split_round")(train)
    app.query("end")(hear_the_end)

    @server.main()
    def main(grid: Any, context: Any) -> None:
        from saccade.split.serving import lead_flower

        lead_flower(dict(plain_recipe), options, FlowerRounds(grid))

    simulation.run_simulation(
        server, app, len(options.clients), backend_config={"client_resources": {"num_cpus": cpus, "num_gpus": 0.0}}
    )
