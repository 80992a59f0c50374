"""Kills, signals, full and read-only disks, turned clocks: a resumed run ends with the weights of an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import pytest
from faults_runs import alive, kill, same, start, wait_for, weights

import saccade.files.tensors as files
from saccade.cli.interrupts import until_done
from saccade.experiment import dump
from saccade.experiment import run as train
from saccade.report import run_files
from saccade.train import Interrupted, TrainingError
from saccade.train.loop import Job

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

KINDS = {
    "everything": {
        "train__ema": 0.9,
        "data__augment": ["crop", "cutout"],
        "data__crop_padding": 1,
        "data__cutout_size": 2,
    },
    "plain": {"train__optimizer": "sgd"},
    "bf16": {"train__precision": "bf16-mixed"},
    "quantized": {"model__transforms": [{"name": "quantize", "config": {"method": "rescaw", "bits": 2}}]},
    "sub-bit": {"model__transforms": [{"name": "subbit", "config": {"eta": 4}}], "train__ema": 0.9},
    "pruned": {"stages": [{"name": "prune", "config": {"ratio": 0.3, "finetune": {"epochs": 2}}}, "profile"]},
    "taught": {"teacher": "itself"},
}


def the_recipe(make_recipe, tmp_path, kind):
    changes = dict(KINDS[kind])
    if "teacher" in changes:
        train(make_recipe(train__epochs=1), tmp_path / "teacher", quiet=True, report=False)
        changes = {"teacher": {"model": str(tmp_path / "teacher" / "model.safetensors")}}
    return make_recipe(train__epochs=4, train__checkpoint_steps=2, train__warmup_epochs=0.5, **changes)


def forked(work, log):
    """Do ``work`` in a child that has everything imported; its pid. Exit codes as the command line's, 1 for a traceback."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # until the child can answer
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        return pid
    code = 1
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        until_done(lambda: outcome(work))
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def outcome(work):
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    try:
        work()
        return 0
    except Interrupted:
        return 130
    except (ValueError, OSError, TrainingError) as error:
        os.write(2, f"refused: {error}\n".encode())
        return 2


def ended(pid, seconds=60):
    """The exit code, negative for a signal."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("still at work")


class Fault:
    """Something that happens at the ``at``-th time that a run comes to a place; to be called in the child."""

    def __init__(self, kind, at):
        self.kind, self.left = kind, at
        self.save, self.replace, self.log = files.save_file, os.replace, run_files.RunFiles.log

    def due(self):
        self.left -= 1
        return self.left == 0

    def __call__(self):
        if self.kind in ("half a save", "full"):
            files.save_file = self.saving
        elif self.kind in ("before a rename", "after a rename"):
            os.replace = self.renaming
        else:
            run_files.RunFiles.log = lambda run, row: self.logging(run, row)

    def saving(self, tensors, path, metadata):
        if self.left == 1 or self.kind == "half a save":
            self.save(tensors, path, metadata)
        if self.due():
            os.truncate(path, os.path.getsize(path) // 2)
            if self.kind == "full":
                self.left = 1  # and stays full
                raise OSError(28, "No space left on device")
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "full":
            self.save(tensors, path, metadata)

    def renaming(self, source, target):
        if self.kind == "after a rename":
            self.replace(source, target)
        if self.due():
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "before a rename":
            self.replace(source, target)

    def logging(self, run, row):
        self.log(run, row)
        if self.due():
            os.truncate(run.path / "metrics.csv", (run.path / "metrics.csv").stat().st_size - 9)
            os.kill(os.getpid(), signal.SIGKILL)


FAULTS = ("half a save", "before a rename", "after a rename", "half a row", "full")


class Runs:
    """A recipe run once undisturbed, and attempts at it with faults."""

    def __init__(self, recipe, folder):
        self.recipe, self.folder, self.log = recipe, folder, folder / "log"
        self.count = 0
        train(recipe, folder / "whole", quiet=True, report=False)
        started = time.monotonic()
        assert ended(self.attempt(self.fresh())) == 0
        self.seconds = time.monotonic() - started

    def attempt(self, directory, before=lambda: None):
        """Start or resume in a child."""

        def work():
            before()
            train(self.recipe, directory, resume=(directory / "recipe.yaml").exists(), quiet=True, report=False)

        return forked(work, self.log)

    def fresh(self):
        self.count += 1
        return self.folder / f"run{self.count}"

    def finish(self, directory):
        """Resume without a fault, and compare."""
        code = ended(self.attempt(directory))
        assert code == 0, self.log.read_text()
        assert same(weights(self.folder / "whole"), weights(directory))
        if (self.folder / "whole" / "finetune").exists():
            assert same(weights(self.folder / "whole" / "finetune"), weights(directory / "finetune"))
        leftover = [path.name for path in directory.rglob("*.part")]
        assert not leftover


@pytest.fixture
def runs(make_recipe, tmp_path):
    return lambda kind: Runs(the_recipe(make_recipe, tmp_path, kind), tmp_path)


@pytest.mark.parametrize("kind", ["everything", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS)])
def test_kills_inside_writes(runs, kind, request):
    """Each fault at several of the places where it can strike, one attempt after another in the same directory."""
    whole = request.node.get_closest_marker("slow") is not None
    runs = runs(kind)
    struck = 0
    for fault in FAULTS:
        for first in (1, 4, 7) if whole else (3,):
            directory = runs.fresh()
            for at in (first, 1, 2):
                code = ended(runs.attempt(directory, Fault(fault, at)))
                assert code in ((0, 2) if fault == "full" else (0, -signal.SIGKILL)), runs.log.read_text()
                struck += code != 0
                if code == 2:
                    words = runs.log.read_text()
                    assert "No space left on device" in words
                    assert words.count("\n") == 1
                if code == 0:
                    break
            runs.finish(directory)
    print(f"{kind}: {struck} faults inside writes")
    assert struck > (25 if whole else 7)


@pytest.mark.parametrize("kind", ["everything", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS)])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_signals_at_random_moments(runs, kind, how, request):
    whole = request.node.get_closest_marker("slow") is not None
    runs, rng = runs(kind), random.Random(f"{kind} {how}")
    struck = 0
    for _ in range(6 if whole else 2):
        directory = runs.fresh()
        for _ in range(2):
            pid = runs.attempt(directory)
            time.sleep(rng.uniform(0, runs.seconds))
            for _ in range(1 + 3 * (how == signal.SIGINT and rng.random() < 0.5)):
                try:
                    os.kill(pid, how)
                except ProcessLookupError:
                    break
                time.sleep(0.003)
            code = ended(pid)
            assert code in (0, 130 if how == signal.SIGINT else -how), runs.log.read_text()
            assert "Traceback" not in runs.log.read_text()
            struck += code != 0
            if code == 0:
                break
        runs.finish(directory)
    print(f"{kind}: stopped {struck} times by {how.name}")
    assert struck


@pytest.mark.parametrize("step", [3, 4, 5])
def test_ctrl_c_about_the_end_of_an_epoch(runs, step):
    """An epoch has four steps here: a run that stops after the last of them goes on with the next epoch."""
    runs = runs("everything")
    directory, real, left = runs.fresh(), Job._step, [4 + step]

    def pressing():
        def pressed(job, *arguments):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGINT)
            return real(job, *arguments)

        Job._step = pressed

    assert ended(runs.attempt(directory, pressing)) == 130, runs.log.read_text()
    runs.finish(directory)


def test_a_clock_that_is_turned(runs, monkeypatch):
    runs = runs("everything")
    directory, real = runs.fresh(), time.time

    def turned():
        hours = iter(range(10**6))
        time.time = lambda: real() - 3600 * next(hours)

    assert ended(runs.attempt(directory, lambda: (turned(), Fault("half a save", 6)()))) == -signal.SIGKILL
    for path in directory.rglob("*"):
        os.utime(path, (2**31, 2**31) if path.suffix == ".csv" else (0, 0))
    assert ended(runs.attempt(directory, turned)) == 0, runs.log.read_text()
    assert same(weights(runs.folder / "whole"), weights(directory))


@pytest.mark.parametrize("count", [2, pytest.param(11, marks=pytest.mark.slow)])
def test_a_full_disk_of_any_size(runs, tmp_path, count):
    """A file system of its own that is too small, at several sizes up to nearly enough."""
    runs = runs("everything")
    needed = sum(path.stat().st_size for path in (tmp_path / "whole").rglob("*") if path.is_file())
    disk = tmp_path / "disk"
    disk.mkdir()
    full = 0
    for share in range(count):
        kilobytes = max(16, int(needed * (share + 0.5) / count / 1024))
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(disk)], capture_output=True
        )
        if done.returncode:
            pytest.skip("needs to mount a small tmpfs")
        try:
            directory = disk / "run"
            for _ in range(2):
                code = ended(runs.attempt(directory))
                words = runs.log.read_text()
                assert code in (0, 2), words
                assert "Traceback" not in words
                assert code == 0 or ("No space left on device" in words and words.count("\n") == 1)
                full += code == 2
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            runs.finish(directory)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    assert full >= count


def test_a_directory_that_may_not_be_written(runs, tmp_path):
    """As another user where the tests run as root, whom nothing stops."""
    runs = runs("everything")
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o755)
        directory = Path(place) / "run"
        assert ended(runs.attempt(directory, Fault("half a save", 6))) == -signal.SIGKILL
        before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
        paths = [*directory.rglob("*"), directory]
        for path in paths:
            os.chmod(path, 0o555 if path.is_dir() else 0o444)
        nobody = (lambda: os.setuid(65534)) if os.getuid() == 0 else (lambda: None)
        runs.log.write_text("")
        code = ended(runs.attempt(directory, nobody))
        assert code == 2, runs.log.read_text()
        assert "ermission denied" in runs.log.read_text()
        assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
        for path in paths:
            os.chmod(path, 0o755 if path.is_dir() else 0o644)
        runs.finish(directory)


@pytest.mark.parametrize("count", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_ctrl_c_again_and_again(tmp_path, make_recipe, count):
    """From the moment that Python has started: one line, never a traceback, and 130."""
    path = tmp_path / "recipe.yaml"
    path.write_text(dump(make_recipe(train__epochs=300)))
    rng = random.Random(0)
    program = "import os; print('up', flush=True); from saccade.cli import main; main()"
    for number in range(count):
        command = [sys.executable, "-c", program, "train", str(path), "--out", str(tmp_path / f"run{number}")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "up\n"
        time.sleep(rng.uniform(0.01, 0.5) if number % 2 else rng.uniform(0.5, 8))
        for _ in range(10):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            time.sleep(rng.choice((0.001, 0.02, 0.2)))
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert "Traceback" not in err
        assert "interrupted" in err.splitlines()[-1]


def test_a_run_can_be_resumed_at_once_after_a_kill(tmp_path, make_recipe):
    """The lock of its directory ends with it, though its data workers live a moment longer."""
    recipe = make_recipe(train__epochs=6, data__workers=2)
    path = tmp_path / "recipe.yaml"
    path.write_text(dump(recipe))
    process = start(path, tmp_path / "run")
    wait_for(lambda: (tmp_path / "run" / "checkpoints" / "last").exists(), process)
    kill(process)
    pid = forked(lambda: train(recipe, tmp_path / "run", resume=True, quiet=True, report=False), tmp_path / "log")
    assert ended(pid, 120) == 0, (tmp_path / "log").read_text()
    assert not alive((process.pid, "0"))
