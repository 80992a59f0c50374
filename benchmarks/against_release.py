"""This checkout against another one: a training step and inference of small networks, in turns.

    python benchmarks/against_release.py --other PATH_TO_OTHER_CHECKOUT/src [--models vgg_small] [--pairs 4] [--core 0]

Each checkout, with its built native module, gets a process that stays alive; while one measures, the other waits. In every
round each measures once, A B and then B A. As a process keeps the luck of where its memory came to lie (2 or 3 % between two
of the same code), the rounds are spread over several pairs of processes, started in turns. Both make the same network with
the same seed on the same images: the losses of the first training steps are printed, so that one sees whether the work is the
same. Times are of the processor, as other jobs may share the machine; a round's is the median of its calls. What is printed
is the median over rounds, of the ratio within a round the median and quartiles, and the ratio of the fastest calls of all,
which others disturb least. Above 1, this checkout is slower.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).parents[1] / "src"
MODELS = ("vgg_small", "or_resnet18_small", "syna_resnet18_small")
WORK = ("training step", "inference", "inference, fused")
FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
T, BATCH, SIZE, CLASSES = 4, 32, 32, 10


# One side


def calls(model_name: str) -> tuple[dict[str, Callable[[], Any]], list[float]]:
    """What is timed, by name, and the losses of the first training steps."""
    import torch
    from torch.nn import functional as F

    from saccade.models import create_model

    home = "saccade.transforms" if importlib.util.find_spec("saccade.transforms") else "saccade.models"
    fuse = importlib.import_module(home).fuse  # 0.1 had it in saccade.models
    torch.manual_seed(0)
    model = create_model(model_name, T=T, num_classes=CLASSES)
    x, target = torch.rand(BATCH, 3, SIZE, SIZE), torch.randint(CLASSES, (BATCH,))
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)

    def step() -> float:
        loss = F.cross_entropy(model(x, steps=True).mean(0), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    losses = [step() for _ in range(5)]
    still = copy.deepcopy(model).eval()
    fused = fuse(still, x[:4]).model.eval()

    def infer(net: Any) -> Any:
        with torch.no_grad():
            return net(x)

    return dict(zip(WORK, (step, lambda: infer(still), lambda: infer(fused)), strict=True)), losses


def worker(model_name: str, threads: int, core: int | None) -> None:
    """Answer lines of ``[work, seconds]`` with the median and the least time of a call, until there are no more."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    import torch

    import saccade

    torch.set_num_threads(threads)
    work, losses = calls(model_name)
    print(json.dumps({"version": saccade.__version__, "file": saccade.__file__, "losses": losses}), flush=True)
    for line in sys.stdin:
        name, seconds = json.loads(line)
        work[name]()
        taken: list[float] = []
        while len(taken) < 3 or sum(taken) < seconds:
            start = time.process_time()
            work[name]()
            taken.append(time.process_time() - start)
        print(json.dumps([statistics.median(taken), min(taken)]), flush=True)


# Both


class Side:
    """A checkout's process."""

    def __init__(self, source: Path, model: str, threads: int, core: int | None) -> None:
        words = [sys.executable, __file__, "--worker", model, "--threads", str(threads)]
        words += [] if core is None else ["--core", str(core)]
        environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=source
        )
        self.about = self._read()

    def _read(self) -> Any:
        stream: IO[str] = self.process.stdout  # type: ignore[assignment]
        line = stream.readline()
        if not line:
            raise SystemExit("a worker ended; its message is above")
        return json.loads(line)

    def measure(self, work: str, seconds: float) -> tuple[float, float]:
        stream: IO[str] = self.process.stdin  # type: ignore[assignment]
        print(json.dumps([work, seconds]), file=stream, flush=True)
        median, least = self._read()
        return median, least

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(model: str, other: Path, options: argparse.Namespace) -> None:
    """Print the rows of one network."""
    found: dict[str, list[tuple[tuple[float, float], tuple[float, float]]]] = {work: [] for work in WORK}
    for pair in range(options.pairs):
        start = (0, 1) if pair % 2 == 0 else (1, 0)
        made = {i: Side((HERE, other)[i], model, options.threads, options.core) for i in start}
        sides = [made[0], made[1]]
        if pair == 0:
            describe(model, sides[0].about, sides[1].about)
        for work in WORK:
            for turn in range(options.rounds):
                order = (0, 1) if turn % 2 == 0 else (1, 0)
                times = {i: sides[i].measure(work, options.seconds) for i in order}
                found[work].append((times[0], times[1]))
        for side in sides:
            side.end()
    print(f"{'':18} {'this, ms':>10} {'other, ms':>10} {'ratio':>7}   {'quartiles':16} fastest")
    for work, rounds in found.items():
        (mine, best), (its, its_best) = (zip(*side, strict=True) for side in zip(*rounds, strict=True))
        ratios = [a / b for a, b in zip(mine, its, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        print(
            f"{work:18} {statistics.median(mine) * 1e3:10.2f} {statistics.median(its) * 1e3:10.2f} {middle:7.3f}   "
            f"{f'{low:.3f} to {high:.3f}':16} {min(best) / min(its_best):.3f}",
            flush=True,
        )


def describe(model: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    same = "the same" if ours["losses"] == theirs["losses"] else "DIFFERENT"
    print(f"\n{model}: {ours['version']} in {ours['file']} against {theirs['version']} in {theirs['file']}")
    print(f"losses of the first steps {same}: {ours['losses']} and {theirs['losses']}", flush=True)


def cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(facts.get("flags", "").split())
    return f"{facts.get('model name', 'unknown')}; {' '.join(flag for flag in FLAGS if flag in flags)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", type=Path, help="the src folder of the other checkout")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=4, help="pairs of processes, one after another")
    parser.add_argument("--rounds", type=int, default=6, help="of a pair")
    parser.add_argument("--seconds", type=float, default=0.5, help="of measuring, a side a round")
    parser.add_argument("--core", type=int, help="the processor core that both are bound to")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.threads, options.core)
        return
    if options.other is None or not (options.other / "saccade" / "__init__.py").is_file():
        parser.error("--other: the src folder of another checkout, which holds saccade/__init__.py")
    print(f"{cpu()}; {options.threads} thread(s), float32, batch {BATCH}, T = {T}, {SIZE} x {SIZE}")
    for model in options.models:
        compare(model, options.other.resolve(), options)


if __name__ == "__main__":
    main()
