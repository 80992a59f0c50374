"""Data workers and the processes of ``train.devices`` end with the process that started them; Ctrl-C stops them together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults_runs import alive, epochs, kill, processes, same, start, wait_for, weights

from saccade.experiment import dump
from saccade.experiment import run as train

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

SEVERAL = {
    "workers": {"data__workers": 2},
    "devices": {"train__devices": 2},
    "both": {"data__workers": 1, "train__devices": 2},
}


def started(tmp_path, recipe):
    path = tmp_path / "recipe.yaml"
    path.write_text(dump(recipe))
    return path, start(path, tmp_path / "run")


SLOW = pytest.mark.slow


@pytest.mark.parametrize("kind", [pytest.param("workers", marks=SLOW), pytest.param("devices", marks=SLOW), "both"])
def test_children_end_with_a_parent_that_was_killed(tmp_path, make_recipe, kind):
    recipe = make_recipe(train__epochs=500, **SEVERAL[kind])
    _, process = started(tmp_path, recipe)
    wait_for(lambda: epochs(tmp_path / "run") > 1 and processes(process.pid), process, 300)
    seen, end = set(), time.monotonic() + 2
    while time.monotonic() < end:  # workers come and go with every epoch
        seen |= processes(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    end = time.monotonic() + 5
    while (left := [child for child in seen if alive(child)]) and time.monotonic() < end:
        time.sleep(0.1)
    process.communicate(timeout=10)
    assert seen
    assert not left


@pytest.mark.parametrize("kind", ["workers", pytest.param("devices", marks=SLOW), pytest.param("both", marks=SLOW)])
def test_ctrl_c_stops_all_processes_after_the_same_step(tmp_path, make_recipe, kind):
    recipe = make_recipe(train__epochs=5, **SEVERAL[kind])
    train(make_recipe(train__epochs=5), tmp_path / "whole", quiet=True)
    path, process = started(tmp_path, recipe)
    wait_for(lambda: epochs(tmp_path / "run") > 1, process, 300)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "everything is saved" in out
    assert "Traceback" not in err
    resumed = start(path, tmp_path / "run", "resume")
    out, err = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, out + err
    if kind == "workers":
        assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


@pytest.mark.slow
def test_a_signal_to_the_first_process_alone(tmp_path, make_recipe):
    _, process = started(tmp_path, make_recipe(train__epochs=500, train__devices=2))
    wait_for(lambda: epochs(tmp_path / "run") > 1, process, 300)
    out, err = kill(process, signal.SIGINT)
    assert process.returncode == 130, err
    assert "everything is saved" in out


def test_a_child_whose_threads_are_gone_ends_too(tmp_path):
    """As one that hangs while its interpreter shuts down: nothing of ours runs in it any more."""
    code = """
import os, signal, subprocess, sys, time
child = \"\"\"
import os, threading, time
import saccade.data.children as children
threading.Thread.start = lambda self: None
children.end_with_parent(os.getppid())
print(os.getpid(), flush=True)
time.sleep(60)
\"\"\"
made = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE, text=True)
print(made.stdout.readline().strip(), flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists() or ") Z" in Path(f"/proc/{pid}/stat").read_text():
            break
        time.sleep(0.1)
    else:
        os.kill(pid, signal.SIGKILL)
        pytest.fail("it outlived its parent")
