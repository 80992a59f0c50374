"""Flower leads the rounds, in processes of its own, over TLS: the bits of one process, with a client killed on the
way too."""

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import split_models  # noqa: F401  (skips without the extra)
import torch

from saccade.cli.main import run
from saccade.split import runs
from saccade.split.keys import make_keys
from saccade.split.local import simulate
from saccade.split.recipe import load_recipe
from saccade.split.world import make_world

pytest.importorskip("flwr", reason="the extra `split` is not installed")
CHANGES = ["rounds=2", "steps=6", "clients.count=2", "clients.alpha=1", "data.eval_rows=16", "data.length=64"]
QUICK = [f"--set={change}" for change in CHANGES]


def test_the_bundle_is_small_and_loads_no_torch():
    from saccade.split.flower_processes import BUNDLE

    files = [file for file in BUNDLE.rglob("*") if file.is_file() and file.suffix in (".py", ".toml")]
    assert len(files) == 4
    assert sum(file.stat().st_size for file in files) < 10_000
    code = "import sys, saccade_split_app.client_app, saccade_split_app.server_app; sys.exit('torch' in sys.modules)"
    path = os.pathsep.join([str(BUNDLE), *sys.path])
    assert (
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=False).returncode
        == 0
    )


@pytest.mark.skipif(sys.platform != "linux", reason="a signal at the parent's death is Linux's")
def test_what_a_command_started_ends_when_it_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from saccade.split.flower_processes import process\n"
        "words = [Path(sys.executable).name, '-c', 'import time; time.sleep(100)']\n"
        "with process(words, Path('.'), Path('log')) as child: print(child.pid, flush=True); time.sleep(100)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=env)
    child = int(command.stdout.readline())
    assert Path(f"/proc/{child}/stat").read_text().split()[2] != "Z"
    command.kill()
    command.communicate()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":  # dead, and nobody has asked how
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child outlived its command")


def start(tmp_path, *words, stderr=None):
    log = (tmp_path / f"{words[0]}-{len(list(tmp_path.glob('*.log')))}.log").open("wb")  # numbered as they start
    return subprocess.Popen(
        [sys.executable, "-m", "saccade", "split", *words], stdout=log, stderr=stderr or log, cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip


def process_of(client, program):
    """A process of Flower's that runs for this client just now."""
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
                options = Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue
            if (
                any(word.endswith(program.encode()) for word in words)
                and f"SACCADE_TEST_CLIENT={client}".encode() in options
            ):
                return int(entry)
    return None


def federation(tmp_path, monkeypatch, text_data):
    """Keys and texts of two clients. Returns the SuperLink's address and the server's process."""
    from saccade.split.flower_processes import free_port

    monkeypatch.setenv("SACCADE_DATA", str(text_data.parent))
    assert run(["split", "keys", str(tmp_path / "keys"), "--count", "2"]) == 0
    assert run(["split", "partition", "small", "--out", str(tmp_path / "parts"), *QUICK]) == 0
    link, stream = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    server = start(
        tmp_path, "serve", "small", "--engine", "flower", "--out", "run", "--superlink", link, "--listen", stream,
        "--keys", "keys/server", *QUICK,
    )  # fmt: skip
    return link, server


def join(tmp_path, link, name, *words, keys=None):
    own = ["--name", name, "--data", f"parts/{name}.jsonl", "--keys", keys or f"keys/{name}"]
    return start(tmp_path, "client", link, "--engine", "flower", *own, *words)


def end(processes):
    for process in processes:
        if process.poll() is None:
            process.terminate()
            process.wait(20)


def check_bits(folder):
    made, recipe = runs.open_run(folder), load_recipe("small", CHANGES)
    assert [row["finished"] for row in made.history] == [2, 2]
    want = simulate(recipe, make_world(recipe))
    assert all(
        torch.equal(x, y) for s in want.adapters for x, y in zip(want.adapters[s], made.adapters[s], strict=True)
    )


@pytest.mark.parametrize(
    "kill",
    [
        None,
        pytest.param("flwr-clientapp", marks=pytest.mark.slow),
        pytest.param("flower-supernode", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_two_clients_over_flower(kill, text_data, tmp_path, monkeypatch):
    link, server = federation(tmp_path, monkeypatch, text_data)
    clients = []
    try:
        for name in ("client-0", "client-1"):
            monkeypatch.setenv("SACCADE_TEST_CLIENT", name)
            clients.append(join(tmp_path, link, name))
        if kill:
            _kill_in_round(tmp_path, server, kill)
        assert server.wait(400) == 0, (tmp_path / "serve-0.log").read_text()
        assert [client.wait(60) for client in clients] == [0, 0]
    finally:
        end([server, *clients])
    check_bits(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["engine"] == "flower"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_supernode_with_an_unknown_key_is_refused_and_the_run_goes_on(text_data, tmp_path, monkeypatch):
    """It has a member's certificate and token, and no key that the server was told."""
    link, server = federation(tmp_path, monkeypatch, text_data)
    make_keys(tmp_path / "others", ["client-1"])
    stolen = tmp_path / "stolen"
    shutil.copytree(tmp_path / "keys" / "client-1", stolen)
    shutil.copy(tmp_path / "others" / "client-1" / "supernode.key", stolen / "supernode.key")
    members = []
    try:
        while "SuperNodes in" not in (tmp_path / "serve-0.log").read_text():
            assert server.poll() is None, (tmp_path / "serve-0.log").read_text()
            time.sleep(0.2)
        stranger = join(tmp_path, link, "client-1", "--retry", "5", keys="stolen")
        members.append(stranger)
        assert stranger.wait(120) == 2
        said = (tmp_path / "client-1.log").read_text().splitlines()
        assert said[-1] == f"saccade: {link}: refuses client-1: stolen/supernode.key is no key that it knows"
        assert len(said) == 3, said  # that it starts, that it is not let in yet, and that
        assert server.poll() is None
        members += [join(tmp_path, link, name) for name in ("client-0", "client-1")]
        assert server.wait(400) == 0, (tmp_path / "serve-0.log").read_text()
        assert [member.wait(60) for member in members[1:]] == [0, 0]
    finally:
        end([server, *members])
    check_bits(tmp_path / "run")


class Grid:
    """Flower's grid with nodes that answer when told."""

    def __init__(self, nodes):
        self.nodes, self.sent, self.replies = nodes, [], []

    def get_node_ids(self):
        return self.nodes

    def push_messages(self, messages):
        found = []
        for message in messages:
            found.append(f"m{len(self.sent)}")
            self.sent.append((found[-1], message.metadata.message_type, message.metadata.dst_node_id))
        return found

    def pull_messages(self, wanted):
        found = [reply for reply in self.replies if reply.metadata.reply_to_message_id in wanted]
        self.replies = [reply for reply in self.replies if reply not in found]
        return found

    def answer(self, message_id, **record):
        metadata = SimpleNamespace(reply_to_message_id=message_id)
        self.replies.append(SimpleNamespace(metadata=metadata, has_error=lambda: False, content={"split": record}))


def asked_for_a_round(monkeypatch, in_order=True):
    """``(rounds, grid)``: client a, on node 7, has message m1, and is asked once more, m2, since it takes long."""
    from saccade.split import flower

    for name in ("_run_id", "_task_id", "_node_id"):  # what a ServerApp's process sets
        monkeypatch.setattr(f"flwr.supercore.task_identity.TaskIdentity.{name}", 1)
    grid = Grid([7])
    rounds = flower.FlowerRounds(grid, in_order)
    rounds.look_around(None, ["a"])
    grid.answer("m0", client="a", token="")
    rounds.look_around(None, ["a"])
    rounds.ask("a", b"", 0, 0, 0, "")
    rounds._asked[7] -= flower.STILL_THERE_S + 1
    rounds.look_around(None, ["a"])
    return rounds, grid


def test_a_round_that_a_killed_supernode_took_along_counts_as_lost(monkeypatch):
    """A SuperNode comes back under its key as the same node; that it answers a later question is all the sign there is."""
    rounds, grid = asked_for_a_round(monkeypatch)
    assert [what for _, what, _ in grid.sent] == ["query.who", "train.split_round", "query.who"]
    assert list(rounds.updates()) == []
    grid.answer("m2", client="a", token="")
    rounds.look_around(None, ["a"])
    assert list(rounds.updates()) == [("a", None)]
    assert list(rounds.updates()) == []


def test_a_round_that_was_answered_before_the_question_is_not_lost(monkeypatch):
    rounds, grid = asked_for_a_round(monkeypatch)
    grid.answer("m2", client="a", token="")
    grid.answer("m1", client="a", update=b"u")  # both are there when the question's answer is looked for
    rounds.look_around(None, ["a"])
    assert list(rounds.updates()) == [("a", {"client": "a", "update": b"u"})]
    assert list(rounds.updates()) == []


def test_a_node_at_work_is_asked_ever_more_rarely(monkeypatch):
    from saccade.split import flower

    rounds, grid = asked_for_a_round(monkeypatch)
    rounds._asked[7] -= flower.STILL_THERE_S + 1
    rounds.look_around(None, ["a"])
    assert len(grid.sent) == 3
    rounds._asked[7] -= flower.STILL_THERE_S
    rounds.look_around(None, ["a"])
    assert len(grid.sent) == 4


def test_simulated_nodes_answer_in_any_order_so_nothing_follows_from_it(monkeypatch):
    _, grid = asked_for_a_round(monkeypatch, in_order=False)
    assert [what for _, what, _ in grid.sent] == ["query.who", "train.split_round"]


def _kill_in_round(tmp_path, server, program):
    """kill -9 of a process of client-1's, as soon as its half is on the stream."""
    log = tmp_path / "run" / "audit.jsonl"
    while server.poll() is None:
        events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        if any(event["event"] == "connected" and event["client"] == "client-1" for event in events):
            found = process_of("client-1", program)
            if found is not None:
                os.kill(found, signal.SIGKILL)
                return
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_flowers_simulation(text_data, tmp_path, monkeypatch):
    """Clients as actors of Ray, in a process of its own (Ray leaves threads behind): the bits of one process."""
    pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.setenv("SACCADE_DATA", str(text_data.parent))
    terminal, end_of_it = pty.openpty()
    words = ["simulate", "small", "--engine", "flower", "--out", "run", "--cpus", "1", *QUICK]
    process = start(tmp_path, *words, stderr=end_of_it)
    os.close(end_of_it)
    shown = b""
    with contextlib.suppress(OSError):  # what a terminal says once nobody writes to it any more
        while part := os.read(terminal, 65536):
            shown += part
    os.close(terminal)
    assert process.wait(400) == 0, shown.decode(errors="replace")[-2000:]
    assert [f"{done} of 2 clients" in shown.decode() for done in (0, 2)] == [True, True]
    check_bits(tmp_path / "run")
