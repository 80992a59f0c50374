"""Runs in processes of their own, to be killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from safetensors.torch import load_file

PROGRAM = """
import sys, torch
torch.set_num_threads(1)
from saccade.experiment import run
from saccade.train import Interrupted
if __name__ == "__main__":
    try:
        run(sys.argv[1], sys.argv[2], resume="resume" in sys.argv, report=False)
    except Interrupted as stop:
        print(stop)
        sys.exit(130)
    except (ValueError, OSError) as error:
        print("refused:", error)
        sys.exit(2)
"""


def start(recipe, directory, *more, before=None, **environment):
    script = Path(recipe).with_suffix(".py")
    script.write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, str(script), str(recipe), str(directory), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        preexec_fn=before,
        start_new_session=True,  # so that a test can press Ctrl-C for all of it
    )


def wait_for(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def epochs(directory):
    metrics = Path(directory) / "metrics.csv"
    return len(metrics.read_text().splitlines()) - 1 if metrics.exists() else 0


def kill(process, how=signal.SIGKILL):
    os.kill(process.pid, how)
    return process.communicate(timeout=60)


def weights(directory):
    return load_file(Path(directory) / "model.safetensors")


def same(one, two):
    return one.keys() == two.keys() and all(bool((one[key] == two[key]).all()) for key in one)


def processes(parent):
    """Children and children's children of a process, as (pid, start time), so that a pid used again is not taken for one."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                found[int(entry.name)] = (int(fields[1]), fields[19])
    below = {parent}
    while more := {pid for pid, (above, _) in found.items() if above in below} - below:
        below |= more
    return {(pid, found[pid][1]) for pid in below - {parent}}


def alive(process):
    pid, started = process
    try:
        fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z" and fields[19] == started
