"""Flower leads the rounds, in processes of its own, over TLS: the bits of one process, with a client killed on the
way too."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import split_models  # noqa: F401  (skips without the extra)
import torch

from saccade.cli.main import run
from saccade.split import runs
from saccade.split.local import simulate
from saccade.split.recipe import load_recipe
from saccade.split.world import make_world

pytest.importorskip("flwr", reason="the extra `split` is not installed")
CHANGES = ["rounds=2", "steps=6", "clients.count=2", "clients.alpha=1", "data.eval_rows=16", "data.length=64"]
QUICK = [f"--set={change}" for change in CHANGES]


def test_the_bundle_is_small_and_loads_no_torch():
    from saccade.split.flower import BUNDLE

    files = [file for file in BUNDLE.rglob("*") if file.is_file() and file.suffix in (".py", ".toml")]
    assert len(files) == 4
    assert sum(file.stat().st_size for file in files) < 10_000
    code = "import sys, saccade_split_app.client_app, saccade_split_app.server_app; sys.exit('torch' in sys.modules)"
    path = os.pathsep.join([str(BUNDLE), *sys.path])
    assert (
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=False).returncode
        == 0
    )


def start(tmp_path, *words):
    log = (tmp_path / f"{words[0]}-{len(list(tmp_path.glob('*.log')))}.log").open("wb")
    return subprocess.Popen(
        [sys.executable, "-m", "saccade", "split", *words], stdout=log, stderr=log, cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip


def worker_of(name):
    """A process of Flower's that runs this client's app just now."""
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
                options = Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue
            if (
                any(word.endswith(b"flwr-clientapp") for word in words)
                and f"SACCADE_TEST_CLIENT={name}".encode() in options
            ):
                return int(entry)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_two_clients_over_flower(kill, text_data, tmp_path, monkeypatch):
    from saccade.split.flower import free_port

    monkeypatch.setenv("SACCADE_DATA", str(text_data.parent))
    assert run(["split", "keys", str(tmp_path / "keys"), "--count", "2"]) == 0
    assert run(["split", "partition", "small", "--out", str(tmp_path / "parts"), *QUICK]) == 0
    link, stream = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    server = start(
        tmp_path, "serve", "small", "--engine", "flower", "--out", "run", "--superlink", link, "--listen", stream,
        "--keys", "keys/server", *QUICK,
    )  # fmt: skip
    clients = []
    try:
        for i in range(2):
            monkeypatch.setenv("SACCADE_TEST_CLIENT", f"client-{i}")
            clients.append(
                start(
                    tmp_path, "client", link, "--engine", "flower", "--name", f"client-{i}",
                    "--data", f"parts/client-{i}.jsonl",
                    "--keys", f"keys/client-{i}",
                )
            )  # fmt: skip
        if kill:
            _kill_in_round(tmp_path, server)
        assert server.wait(400) == 0, (tmp_path / "serve-0.log").read_text()
        assert [client.wait(60) for client in clients] == [0, 0]
    finally:
        for process in (server, *clients):
            if process.poll() is None:
                process.terminate()
                process.wait(20)
    made = runs.open_run(tmp_path / "run")
    assert [row["finished"] for row in made.history] == [2, 2]
    recipe = load_recipe("small", CHANGES)
    want = simulate(recipe, make_world(recipe))
    assert all(
        torch.equal(x, y) for s in want.adapters for x, y in zip(want.adapters[s], made.adapters[s], strict=True)
    )
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["engine"] == "flower"


def _kill_in_round(tmp_path, server):
    """kill -9 of the process that runs client-1's half, as soon as it is on the stream."""
    log = tmp_path / "run" / "audit.jsonl"
    while server.poll() is None:
        events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        if any(event["event"] == "connected" and event["client"] == "client-1" for event in events):
            worker = worker_of("client-1")
            if worker is not None:
                os.kill(worker, signal.SIGKILL)
                return
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_flowers_simulation(text_data, tmp_path, monkeypatch):
    """Clients as actors of Ray, in a process of its own (Ray leaves threads behind): the bits of one process."""
    pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.setenv("SACCADE_DATA", str(text_data.parent))
    words = ["simulate", "small", "--engine", "flower", "--out", "run", "--cpus", "1", *QUICK]
    process = start(tmp_path, *words)
    assert process.wait(400) == 0, next(tmp_path.glob("simulate*.log")).read_text()[-2000:]
    made, recipe = runs.open_run(tmp_path / "run"), load_recipe("small", CHANGES)
    want = simulate(recipe, make_world(recipe))
    assert all(
        torch.equal(x, y) for s in want.adapters for x, y in zip(want.adapters[s], made.adapters[s], strict=True)
    )
