"""The federation over real sockets: the same bits as in one process, whatever happens to the line and to whoever is
on it."""

import contextlib
import json
import random
import socket
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from split_models import tiny
from test_split_wire import mutate

from saccade.split import wire
from saccade.split.audit_log import AuditLog
from saccade.split.direct import DirectEngine, check_for_strangers, open_round
from saccade.split.federation import Federation
from saccade.split.keys import make_keys, public_keys, read_identity, supernode_key
from saccade.split.link import Link, RoundLost
from saccade.split.local import LocalEngine
from saccade.split.lora import Adapted
from saccade.split.messages import read_round, update_message
from saccade.split.models import load_model
from saccade.split.recipe import parse_recipe
from saccade.split.site import Site, take_part
from saccade.split.text import Batches, padded_blocks, stream_blocks
from saccade.split.wire import Kind, Message, Refused

grpc = pytest.importorskip("grpc", reason="the extra `split` is not installed")
NAMES = ("a", "b", "c")
CUTS = {"a": 1, "b": 3, "c": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tiny("llama").save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys"
    make_keys(path, [*NAMES, "d"])
    return path


def recipe(folder, **changes):
    raw = {
        "model": folder, "rounds": 3, "steps": 4, "lora": {"r": 4, "r_cut": 2, "alpha": 8.0}, "clients": {"count": 3},
        "data": {"length": 8, "batch": 2}, "codec": {"activations": "fp32", "gradients": "int8", "feedback": True},
        "optimizer": {"lr": 1e-2},
    }  # fmt: skip
    return parse_recipe(raw | changes, "test")


def ids(name):
    rng = np.random.default_rng(ord(name))
    return [[int(t) for t in rng.integers(3, 64, rng.integers(3, 14))] for _ in range(30)]


def federation(r):
    made = Federation(r, load_model(r.model), NAMES)
    made.cuts = {n: min(c, 3 - r.tail if r.layout == "u-shape" else c) for n, c in CUTS.items()}
    return made


def local(r, absent=None):
    made = federation(r)
    make = stream_blocks if r.data.pack else padded_blocks
    clients = {n: Batches(make(ids(n), 8), 2, (0, i)) for i, n in enumerate(NAMES)}
    LocalEngine(made, clients, absent=absent or {}).run(r.rounds)
    return made


def same(one, two):
    return all(torch.equal(x, y) for s in one.adapters for x, y in zip(one.adapters[s], two.adapters[s], strict=True))


class Killed(BaseException):
    """What happens to a process."""


class Client(threading.Thread):
    """A client in a thread. until: it dies when it has been asked to exchange so many messages."""

    def __init__(self, r, name, port, identity=None, until=None):
        super().__init__(daemon=True)
        self.site = Site(name, ids(name), r.model, r.lora)
        self.link = Link(f"localhost:{port}", self.site.hello(), identity, retry_s=20)
        self.until, self.rounds, self.error = until, None, None
        self.start()

    def run(self):
        sent, exchange = 0, self.link.exchange

        def counted(message):
            nonlocal sent
            sent += 1
            if self.until is not None and sent > self.until:
                raise Killed  # nothing is said to anybody
            return exchange(message)

        self.link.exchange = counted
        try:
            self.rounds = take_part(self.site, self.link)
        except Killed:
            pass
        except Exception as error:
            self.error = error
        finally:
            self.link.close()


def served(r, start, identity=None, log=None, patience_s=20.0, load=None, save=None):
    """Run a server and what ``start(port)`` starts. Returns the federation and the engine."""
    made = federation(r)
    if load is not None:
        made.load(load)
    engine = DirectEngine(made, identity=identity, log=log, patience_s=patience_s)
    port = engine.start("localhost:0")
    clients = start(port)
    engine.run(r.rounds, save)
    for client in clients:
        client.join(20)
        assert not client.is_alive()
    engine.stop()
    return made, engine


@pytest.mark.parametrize(
    "changes", [{}, {"layout": "u-shape"}, {"data": {"length": 8, "batch": 2, "pack": False}}, {"aggregator": "flora"}]
)
def test_the_network_changes_no_bit(folder, keys, changes):
    r = recipe(folder, **changes)
    made, _ = served(
        r, lambda port: [Client(r, n, port, read_identity(keys / n)) for n in NAMES], read_identity(keys / "server")
    )
    want = local(r)
    assert same(made, want)
    assert made.history[-1]["losses"] == want.history[-1]["losses"]
    for kind in ("activations", "gradients", "labels", "adapters"):
        assert made.ledger.total(kind=kind) == want.ledger.total(kind=kind), kind


def test_v2_over_the_network(folder):
    """In whatever order steps come; one client a round is one process's run bit for bit."""
    made, _ = served(r := recipe(folder, server="v2"), lambda port: [Client(r, n, port) for n in NAMES])
    assert [row["finished"] for row in made.history] == [3, 3, 3]
    r = recipe(folder, server="v2", clients={"count": 3, "per_round": 1, "choice": "in_turn"})
    made, _ = served(r, lambda port: [Client(r, n, port) for n in NAMES])
    assert [row["finished"] for row in made.history] == [1, 1, 1]
    assert same(made, local(r))


def test_a_client_that_dies_and_comes_back_does_its_round_again(folder):
    r = recipe(folder)

    def start(port):
        dying = Client(r, "b", port, until=9)  # in its second round
        others = [Client(r, n, port) for n in "ac"]

        def revive():
            dying.join()
            others.append(Client(r, "b", port))

        threading.Thread(target=revive, daemon=True).start()
        return others

    made, _ = served(r, start)
    assert [row["finished"] for row in made.history] == [3, 3, 3]
    assert same(made, local(r))


def test_a_client_that_stays_away_was_never_in_the_round(folder):
    r = recipe(folder)
    made, _ = served(
        r, lambda port: [Client(r, "b", port, until=9), *(Client(r, n, port) for n in "ac")], patience_s=0.5
    )
    assert [row["finished"] for row in made.history] == [3, 2, 2]
    assert same(made, local(r, {1: {"b"}, 2: {"b"}}))


def test_a_server_that_dies_goes_on_where_it_was(folder, tmp_path):
    """Its clients wait, and begin the round again that it had not finished."""
    r, state = recipe(folder), tmp_path / "state.safetensors"
    first = DirectEngine(federation(r), patience_s=20)
    port = first.start("localhost:0")
    clients = [Client(r, n, port) for n in NAMES]
    stop = threading.Event()

    def after(row):
        if row["round"] == 0:
            stop.set()

    first.after = after
    doomed = threading.Thread(target=lambda: first.run(2, state), daemon=True)
    doomed.start()
    assert stop.wait(20)
    first.service.stop(0)
    second = federation(r)
    second.load(state)
    assert second.round >= 1
    engine = DirectEngine(second, patience_s=20)
    for _ in range(50):
        try:
            engine.start(f"localhost:{port}")
            break
        except OSError:
            time.sleep(0.1)
    engine.run(3)
    for client in clients:
        client.join(20)
        assert client.error is None
    engine.stop()
    first.rounds.end()
    assert same(second, local(r))


class Proxy:
    """Passes bytes on and counts them; after ``breaks`` bytes a connection is cut, as often as ``times``."""

    def __init__(self, target, breaks=None, times=0):
        self.target, self.breaks, self.times = target, breaks, times
        self.up = self.down = self.cut = 0
        self.lock = threading.Lock()
        self.listener = socket.create_server(("localhost", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near = self.listener.accept()[0]
            except OSError:
                return
            far = socket.create_connection(("localhost", self.target))
            for a, b, way in ((near, far, "up"), (far, near, "down")):
                threading.Thread(target=self._pass, args=(a, b, way), daemon=True).start()

    def _pass(self, a, b, way):
        moved = 0
        try:
            while data := a.recv(65536):
                with self.lock:
                    setattr(self, way, getattr(self, way) + len(data))
                    moved += len(data)
                    cut = self.breaks is not None and moved > self.breaks and self.cut < self.times
                    self.cut += cut
                if cut:
                    break
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
        a.close()

    def close(self):
        self.listener.close()


def test_a_line_that_breaks_changes_no_bit(folder):
    """Answers get lost on the way: the message is sent again, the answer is the same, and no step is taken twice."""
    r, proxies = recipe(folder), []

    def start(port):
        proxies.append(Proxy(port, breaks=9000, times=4))
        return [Client(r, n, proxies[0].port) for n in NAMES]

    made, _ = served(r, start)
    proxies[0].close()
    assert proxies[0].cut == 4
    assert same(made, local(r))


def test_the_ledger_is_what_a_proxy_counts(folder):
    """Beyond it: framing, less than one part in a hundred."""
    r, proxies = recipe(folder, data={"length": 40, "batch": 16}, rounds=2, steps=10), []

    def start(port):
        proxies.append(Proxy(port))
        return [Client(r, n, proxies[0].port) for n in NAMES]

    made, _ = served(r, start)
    proxies[0].close()
    for way in ("up", "down"):
        counted, booked = getattr(proxies[0], way), made.ledger.total(way)
        assert booked <= counted < 1.01 * booked, way


def test_who_is_turned_away(folder, keys, tmp_path):
    r = recipe(folder)
    log = AuditLog(tmp_path / "audit.jsonl")
    engine = DirectEngine(federation(r), identity=read_identity(keys / "server"), log=log)
    port = engine.start("localhost:0")
    own = read_identity(keys / "a")
    good = {"client": "a", "model": engine.service.model_hash}

    def refused(hello, identity=own, message=Message(Kind.WAIT)):  # noqa: B008
        with Link(f"localhost:{port}", hello, identity, retry_s=0) as link, pytest.raises(Refused) as caught:
            link.exchange(message)
        return caught.value.code

    assert refused(good | {"client": "nobody"}) == "NOT_INVITED"
    assert refused(good | {"client": "d"}, read_identity(keys / "d")) == "NOT_INVITED"
    assert refused(good, replace(own, secret=b"0" * 64)) == "BAD_TOKEN"
    assert refused(good, replace(read_identity(keys / "b"), secret=own.secret)) == "BAD_TOKEN"  # another's certificate
    assert refused(good | {"run": "other"}) == "WRONG_RUN"
    assert refused(good | {"model": "0" * 64}) == "MODEL_MISMATCH"
    with Link(f"localhost:{port}", good | {"round": 0, "epoch": 0}, own, retry_s=0) as link, pytest.raises(RoundLost):
        link.exchange(Message(Kind.WAIT))
    assert refused(good | {"round": "0", "epoch": 0}) == "MALFORMED"
    assert refused(good, message=Message(Kind.STEP, 1)) == "BAD_SEQUENCE"
    for credentials in (None, "other"):  # no certificate, and one of another authority
        identity = None
        if credentials:
            make_keys(tmp_path / "others", ["a"])
            identity = read_identity(tmp_path / "others" / "a")
        with (
            Link(f"localhost:{port}", good, identity, retry_s=0) as link,
            pytest.raises(OSError, match=f"localhost:{port}"),
        ):
            link.exchange(Message(Kind.WAIT))
    engine.rounds.end()
    engine.stop()
    codes = [json.loads(line).get("code") for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert codes.count("BAD_TOKEN") == 2
    assert own.secret.decode() not in (tmp_path / "audit.jsonl").read_text()


def raw(port, *messages):
    """Bytes sent as they are, and what comes back."""
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        answers = channel.stream_stream("/saccade.split/Stream")(iter(messages))
        return [wire.decode(answer, 1 << 20) for answer in answers]


def test_garbage_and_floods_harm_nobody(folder):
    r = recipe(folder)
    engine = DirectEngine(federation(r))
    port = engine.start("localhost:0")
    hello = wire.encode(Message(Kind.HELLO, 0, {"client": "a", "model": engine.service.model_hash}))
    for junk in (b"", b"GET / HTTP/1.1", b"\x80\x04K*.", hello[:25], hello + b"x"):
        assert [m.meta["code"] for m in raw(port, junk)] == ["MALFORMED"]
    assert [m.kind for m in raw(port, hello, b"junk")] == [Kind.ACCEPT, Kind.REJECT]
    with pytest.raises(grpc.RpcError) as caught:
        raw(port, hello, b"\0" * (engine.service.most_bytes + 1))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    for _ in range(20):
        answer = raw(port, b"junk")
    assert answer[0].meta["code"] == "TOO_FAST"
    engine.rounds.end()
    engine.stop()


def test_sessions_follow_the_rules(folder):
    """Without sockets: duplicates, gaps, other shapes and types, old plans, rounds that are over."""
    made = federation(recipe(folder, codec={"activations": "fp32", "gradients": "fp32"}))
    engine = DirectEngine(made)
    rounds = engine.rounds
    open_round(made, rounds, list(NAMES))
    message, session = rounds.next_round("a", 0)
    site = Site("a", ids("a"), made.recipe.model, made.recipe.lora)
    client, batches = site.prepare(*read_round(message, site.shapes), 0, 0)
    held = [next(block.parameters()).device.type for block in site.base.model.layers]
    assert held == ["cpu", "meta", "meta", "meta", "meta"]  # the server's blocks take no memory here
    sent = []

    def exchange(message):
        sent.append(message)
        return rounds.handle("a", session, message)

    client.step(*batches.at(0), exchange)
    before = session.side.adapted.read()
    again = rounds.handle("a", session, sent[0])
    assert again.meta["loss"] == pytest.approx(client.tally.loss_sum / client.tally.tokens)
    assert session.side.steps == 1
    after = session.side.adapted.read()
    assert all(torch.equal(before[s][i], after[s][i]) for s in before for i in (0, 1))

    def code(message, of=session):
        with pytest.raises(Refused) as caught:
            rounds.handle("a", of, message)
        return caught.value.code

    h, labels = sent[0].blobs
    assert code(Message(Kind.STEP, 3, {}, sent[0].blobs)) == "BAD_SEQUENCE"
    assert code(Message(Kind.MIDDLE_GRADIENT, 2, {}, sent[0].blobs)) == "BAD_SEQUENCE"
    assert code(Message(Kind.STEP, 2, {}, [h])) == "BAD_SHAPE"
    assert code(Message(Kind.STEP, 2, {}, [labels, h])) == "BAD_SHAPE"
    assert code(Message(Kind.STEP, 2, {}, [wire.Blob(h.role, (2, 8, 15), h.payload), labels])) == "BAD_SHAPE"
    assert (
        code(Message(Kind.STEP, 2, {}, [wire.Blob(h.role, h.shape, h.payload[: len(h.payload) // 2]), labels]))
        == "BAD_SHAPE"
    )
    lost = wire.Blob(labels.role, labels.shape, np.full(16, 9999, "<i4").tobytes())
    assert "no tokens" in rounds.handle("a", session, Message(Kind.STEP, 2, {}, [h, lost])).meta["dropped"]
    nan = wire.Blob(h.role, h.shape, np.full(256, np.nan, "<f4").tobytes())
    for seq in range(3, 7):
        assert "not finite" in rounds.handle("a", session, Message(Kind.STEP, seq, {}, [nan, labels])).meta["dropped"]
    assert code(Message(Kind.STEP, 7, {}, [nan, labels])) == "EVICTED"
    for wrong, found in (((1, 0), "STALE_ROUND"), ((0, 7), "STALE_CUT")):
        with pytest.raises(Refused) as caught:
            rounds.join("b", *wrong)
        assert caught.value.code == found
    rounds.join("b", 0, 0)
    rounds.collect(0.0, 0.0)
    assert code(Message(Kind.STEP, 8, {}, [h, labels])) == "STALE_ROUND"


def test_a_round_holds_as_many_models_as_train_at_once(folder, monkeypatch):
    """A hundred clients that take turns need one model on the server; what was learnt with it is no other's."""
    plain = {"codec": {"activations": "fp32", "gradients": "fp32"}, "lora": {"r": 4, "r_cut": 4, "alpha": 8.0}}
    made = federation(recipe(folder, **plain))
    made.cuts = dict.fromkeys(NAMES, 2)
    rounds, built = DirectEngine(made).rounds, []
    monkeypatch.setattr("saccade.split.rounds.Adapted", lambda *given: built.append(Adapted(*given)) or built[-1])
    open_round(made, rounds, list(NAMES))
    for i, name in enumerate(NAMES):
        message, session = rounds.next_round(name, 0)
        site = Site(name, ids(name), made.recipe.model, made.recipe.lora)
        terms, adapters, weights = read_round(message, site.shapes)
        client, batches = site.prepare(terms, adapters, weights, 0, i)
        sent = []

        def exchange(message, name=name, session=session, sent=sent):
            sent.append(message)
            return rounds.handle(name, session, message)

        tally = client.run(batches, exchange)
        update = update_message(tally, client.adapted.read(terms.client_blocks), terms.trains_a)
        assert rounds.handle(name, session, update).kind == Kind.DONE
        assert rounds.handle(name, session, update).kind == Kind.DONE  # its answer was lost
        with pytest.raises(Refused, match="after the update") as caught:
            rounds.handle(name, session, sent[-1])
        assert caught.value.code == "BAD_SEQUENCE"
    assert len(built) == 1
    updates, _, _ = rounds.collect(0.0, 0.0)
    want = local(recipe(folder, rounds=1, **plain))
    made.finish(list(NAMES), updates, None, 1.0)
    assert same(made, want)  # whose cuts are others: they change no bit


def test_foreign_codecs_need_trust(folder):
    r = recipe(folder, codec={"activations": "sz3", "gradients": "fp16"})
    with pytest.raises(ValueError, match="codec.activations: sz3 .* --trusted"):
        check_for_strangers(r, False)
    check_for_strangers(r, True)


def test_a_client_has_a_supernode_key_of_its_own_and_the_server_its_public_half(keys):
    from cryptography.hazmat.primitives import serialization

    known = {
        path.stem: serialization.load_ssh_public_key(path.read_bytes()) for path in public_keys(keys / "server", NAMES)
    }
    own = {
        n: serialization.load_ssh_private_key(supernode_key(keys / n).read_bytes(), None).public_key() for n in NAMES
    }
    assert known == own
    assert len({key.public_numbers().x for key in own.values()}) == len(NAMES)
    assert not (keys / "server" / "supernode.key").exists()
    with pytest.raises(ValueError, match=r"e\.pub: no such SuperNode key"):
        public_keys(keys / "server", ["e"])


def test_keys_are_private_and_never_overwritten(keys, tmp_path):
    assert all(file.stat().st_mode & 0o077 == 0 for file in keys.rglob("*") if file.is_file())
    with pytest.raises(ValueError, match="holds keys already"):
        make_keys(keys, ["z"])
    with pytest.raises(ValueError, match="a client's name has"):
        make_keys(tmp_path / "k", ["../up"])
    with pytest.raises(ValueError, match="not a folder of"):
        read_identity(tmp_path)


def hammer(folder, count):
    """Mutated steps, through all that a peer's bytes go through: a typed refusal or an answer, and nothing else."""
    made = federation(recipe(folder, codec={"activations": "int8", "gradients": "fp16"}, faults={"poison": 10**9}))
    rounds = DirectEngine(made).rounds
    open_round(made, rounds, list(NAMES))
    message, session = rounds.next_round("a", 0)
    site = Site("a", ids("a"), made.recipe.model, made.recipe.lora)
    client, batches = site.prepare(*read_round(message, site.shapes), 0, 0)
    sent = []
    client.step(*batches.at(0), lambda message: sent.append(message) or rounds.handle("a", session, message))
    rng, codes, answered = random.Random(0), set(), 0
    for _ in range(count):
        whole = wire.encode(Message(Kind.STEP, session.side.seq + 1, {}, sent[0].blobs))
        try:
            answer = rounds.handle("a", session, wire.decode(mutate(whole, rng), session.terms.most_bytes))
        except Refused as error:
            codes.add(error.code)
        else:
            answered += answer.kind == Kind.GRADIENT
    assert codes == {"MALFORMED", "BAD_SEQUENCE", "BAD_SHAPE"}
    assert answered > count // 10
    assert all(bool(torch.isfinite(x).all()) for pair in session.side.adapted.read().values() for x in pair)


def test_mutated_steps_are_answered_or_refused(folder):
    hammer(folder, 300)


@pytest.mark.slow
def test_many_mutated_steps_are_answered_or_refused(folder):
    hammer(folder, 10_000)
