"""The stream measured: a step's round trip beside a bare gRPC echo, clients at once, and how long recovery takes.

python benchmarks/split_network.py latency results/split
python benchmarks/split_network.py clients results/split
python benchmarks/split_network.py recovery results/split
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import torch

from saccade.split.keys import Identity, make_keys, read_identity
from saccade.split.link import Link
from saccade.split.rounds import Rounds
from saccade.split.service import METHOD, Service
from saccade.split.wire import Blob, Kind, Message, Role

SIZE, TIMES, WARM = 2 << 20, 60, 8


class Echo(Rounds):
    """Answers a step with what came; everything else of the service is as it is."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Identity(), None)  # type: ignore[arg-type]

    def next_round(self, client: str, seconds: float) -> tuple[Message, Any]:
        return Message(Kind.ROUND), self

    nonce = "echo"

    def handle(self, client: str, session: Any, message: Message) -> Message:
        return Message(Kind.GRADIENT, message.seq, {"loss": 1.0, "tokens": 1, "right": 0}, message.blobs)


def serve(kind: str, keys: Path) -> None:
    """A process of its own: prints its port and serves until it is ended."""
    identity = read_identity(keys / "server")
    if kind == "ours":
        service = Service(Echo(), ["a"], "model", "run", 0, 2 * SIZE, identity, steps_per_s=1e9)
        print(service.start("localhost:0"), flush=True)
    else:
        server = bare_server(identity)
        print(server[1], flush=True)
    time.sleep(600)


def bare_server(identity: Identity) -> tuple[Any, int]:
    from concurrent.futures import ThreadPoolExecutor

    def echo(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield from requests

    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    handler = grpc.method_handlers_generic_handler(
        "saccade.split", {"Stream": grpc.stream_stream_rpc_method_handler(echo)}
    )
    server.add_generic_rpc_handlers((handler,))
    credentials = grpc.ssl_server_credentials(((identity.key, identity.certificate),), identity.authority, True)
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    return server, port


def started(kind: str, keys: Path) -> tuple[subprocess.Popen[str], int]:
    words = [sys.executable, __file__, "serve", str(keys), "--kind", kind]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    return child, int(child.stdout.readline())


def time_ours(port: int, identity: Identity) -> Iterator[float]:
    payload = os.urandom(SIZE)
    with Link(f"localhost:{port}", {"client": "a", "model": "model"}, identity) as link:
        link.exchange(Message(Kind.WAIT))
        for seq in range(1, TIMES + WARM + 1):
            began = time.perf_counter()
            link.exchange(Message(Kind.STEP, seq, {}, [Blob(Role.ACTIVATIONS, (SIZE // 4,), payload)]))
            yield (time.perf_counter() - began) * 1e3


def time_bare(port: int, identity: Identity) -> Iterator[float]:
    import queue

    outgoing: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    credentials = grpc.ssl_channel_credentials(identity.authority, identity.key, identity.certificate)
    with grpc.secure_channel(f"localhost:{port}", credentials, [("grpc.max_receive_message_length", -1)]) as channel:
        call = channel.stream_stream(METHOD)(iter(outgoing.get, None))
        payload = os.urandom(SIZE)
        for _ in range(TIMES + WARM):
            began = time.perf_counter()
            outgoing.put(payload)
            next(call)
            yield (time.perf_counter() - began) * 1e3
        call.cancel()


def latency(folder: Path) -> None:
    """Both servers are up, and the two take turns: what else the machine does hits both."""
    with tempfile.TemporaryDirectory() as name:
        keys = Path(name) / "keys"
        make_keys(keys, ["a"])
        own = read_identity(keys / "a")
        children = {kind: started(kind, keys) for kind in ("ours", "bare")}
        try:
            runs = {"ours": time_ours(children["ours"][1], own), "bare": time_bare(children["bare"][1], own)}
            times: dict[str, list[float]] = {kind: [] for kind in runs}
            for _ in range(TIMES + WARM):
                for kind, run in runs.items():
                    times[kind].append(next(run))
            for run in runs.values():
                run.close()  # type: ignore[attr-defined]
        finally:
            for child, _ in children.values():
                child.terminate()
                child.wait()
    kept = {kind: sorted(values[WARM:]) for kind, values in times.items()}
    ratio = median(kept["ours"]) / median(kept["bare"])
    rows = [
        {
            "what": f"2 MB up and down, mutual TLS, {kind}",
            "median_ms": median(values),
            "tenth_ms": values[len(values) // 10],
            "ninetieth_ms": values[-len(values) // 10],
            "ratio": ratio if kind == "ours" else 1.0,
        }
        for kind, values in kept.items()
    ]
    save(folder / "latency.json", rows)


def save(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(row, flush=True)


QUICK = ["steps=10", "data.eval_rows=8", "data.length=128", "data.eval_every=100", "clients.alpha=inf"]


def federation(folder: Path, count: int, rounds: int) -> tuple[list[str], list[list[str]]]:
    """Commands of a server and its clients, with keys and texts of theirs in ``folder``."""
    from saccade.split.recipe import load_recipe
    from saccade.split.world import share_text, write_parts

    changes = [*QUICK, f"rounds={rounds}", f"clients.count={count}"]
    samples, _, parts = share_text(load_recipe("small", changes))
    write_parts(samples, parts, folder / "parts")
    make_keys(folder / "keys", [f"client-{i}" for i in range(count)])
    sets = [word for change in changes for word in ("--set", change)]
    port = free_port()
    base = [sys.executable, "-m", "saccade", "split"]
    server = [
        *base,
        "serve",
        "small",
        "--out",
        f"{folder}/run",
        "--listen",
        f"localhost:{port}",
        "--keys",
        f"{folder}/keys/server",
    ]
    clients = []
    for name in (f"client-{i}" for i in range(count)):
        own = ["--data", f"{folder}/parts/{name}.jsonl", "--keys", f"{folder}/keys/{name}"]
        clients.append([*base, "client", f"localhost:{port}", "--name", name, *own])
    return [*server, "--patience", "60", *sets], clients


def free_port() -> int:
    import socket

    with socket.create_server(("localhost", 0)) as found:
        return int(found.getsockname()[1])


def spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out)


def end(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        if child.poll() is None:
            child.kill()
        child.wait()


def clients(folder: Path) -> None:
    """Steps a second of all clients together, each a process, over mutual TLS."""
    rows = []
    for count in (1, 2, 4, 8):
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            server, others = federation(place, count, 3)
            children = [spawn(server, place / "server.log"), *(spawn(c, place / "clients.log") for c in others)]
            try:
                children[0].wait(280)
            finally:
                end(children)
            with open(place / "run" / "rounds.csv") as file:
                head, *lines = (line.strip().split(",") for line in file)
            seconds = [float(line[head.index("seconds")]) for line in lines][
                1:
            ]  # the first waits for processes to start
        rows.append(
            {
                "clients": count,
                "steps_per_s": 10 * count * len(seconds) / sum(seconds),
                "seconds_a_round": median(seconds),
            }
        )
        print(rows[-1], flush=True)
    save(folder / "clients.json", rows)


def events(place: Path) -> list[dict[str, Any]]:
    log = place / "run" / "audit.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def recovery(folder: Path) -> None:
    """kill -9 of a client and of the server in the second round, both started again at once: seconds until the next
    update."""
    rows = []
    for what in ("client", "server"):
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            server, others = federation(place, 2, 4)
            lead = spawn(server, place / "server.log")
            members = [spawn(c, place / "clients.log") for c in others]
            try:
                until = time.monotonic() + 120
                while sum(e["event"] == "update" for e in events(place)) < 2 and time.monotonic() < until:
                    time.sleep(0.05)
                time.sleep(0.2)
                victim = members[1] if what == "client" else lead
                seen = len(events(place))
                os.kill(victim.pid, signal.SIGKILL)
                victim.wait()
                began = time.monotonic()
                again = spawn(others[1] if what == "client" else server, place / "again.log")
                members.append(again)
                who = "client-1"
                while not any(e["event"] == "update" and e["client"] == who for e in events(place)[seen:]):
                    time.sleep(0.02)
                    assert time.monotonic() - began < 120
                seconds = time.monotonic() - began
                (lead if what == "client" else again).wait(120)
                summary = json.loads((place / "run" / "summary.json").read_text())
            finally:
                end([lead, *members])
        rows.append({"killed": what, "seconds_to_next_update": seconds, "rounds_done": summary["rounds"]})
    save(folder / "recovery.json", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["latency", "clients", "recovery", "serve"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", default="ours")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "serve":
        serve(given.kind, given.folder)
    else:
        {"latency": latency, "clients": clients, "recovery": recovery}[given.what](given.folder)
