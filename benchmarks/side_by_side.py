"""Contenders side by side: timed in one process in interleaved rounds; memory measured in a fresh process for each.

The scripts ``neurons.py`` and ``training.py`` give the cases. Rules: the same work and number of threads for all; a sample
is as many calls as last 0.1 s, after a few that do not count; median and quartiles over rounds that are interleaved over
the contenders; garbage collection off while timing; first calls (compilation) apart; what fails is recorded with its
reason, never left out.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib.metadata
import itertools
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade import kernels

ROOT = Path(__file__).parent.parent
FORMAT = "saccade-benchmark-1"
LIBRARIES = ("saccade", "torch", "spikingjelly", "snntorch", "norse", "sinabs")
SETTINGS = ("MALLOC_", "GLIBC_TUNABLES", "OMP_", "KMP_", "MKL_", "THP_", "TORCH", "SACCADE_", "LD_PRELOAD")
SLOW = 3.0  # seconds a call; slower contenders are sampled twice only
SETTLING, SETTLING_SECONDS = 8, 1.0  # calls at most before a sample; none where one takes longer than this
MEMORY_REPEATS = 3


def nothing(result: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Contender:
    """``make`` builds the call that is timed; imports belong in it, so that a missing library is a recorded failure.

    ``facts`` turns the result of the first call into fields of the row; ``fields`` are stored as they are.
    """

    name: str
    make: Callable[[], Callable[[], Any]]
    facts: Callable[[Any], dict[str, Any]] = nothing
    fields: dict[str, Any] = field(default_factory=dict)

    def label(self) -> str:
        return f"{self.name}, {self.fields['layout']}" if "layout" in self.fields else self.name


@dataclass(frozen=True)
class Case:
    """One row of contenders doing the same work. ``contenders(small)``: of the case itself, or small ones to warm up with.

    ``memory``: measure peak memory instead of time. ``rounds`` is the default for the case.
    """

    fields: dict[str, Any]
    contenders: Callable[[bool], list[Contender]]
    memory: bool = False
    rounds: int = 7

    def label(self) -> str:
        return " ".join(v if isinstance(v, str) else f"{k}={v:g}" for k, v in self.fields.items())


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def sample(call: Callable[[], Any], calls: int, seconds: float) -> tuple[float, float]:
    """Seconds and page faults a call, over at least ``seconds``."""
    done, faults, start = 0, page_faults(), time.perf_counter()
    while True:
        for _ in range(calls):
            call()
        done += calls
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return elapsed / done, (page_faults() - faults) / done


def settle(call: Callable[[], Any]) -> None:
    """Calls that do not count, until one takes no fewer new pages than the one before: as in a loop of its own, where no
    other contender has just left the heap in another state. None or always the same number: one or two calls.
    """
    before = math.inf
    for _ in range(SETTLING):
        start = page_faults()
        call()
        faults = page_faults() - start
        if faults == 0 or faults >= before:
            return
        before = faults


def failed(contender: Contender, error: BaseException) -> dict[str, Any]:
    reason = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:300]
    print(f"    {contender.label()}: failed, {reason}", flush=True)
    return {"contender": contender.name, **contender.fields, "error": reason}


@dataclass
class Running:
    contender: Contender
    call: Callable[[], Any]
    row: dict[str, Any]
    each: float  # seconds a call, about
    calls: int
    rounds: int
    samples: list[float] = field(default_factory=list)  # ms a call
    faults: list[float] = field(default_factory=list)  # new pages a call


def started(contender: Contender, rounds: int, seconds: float) -> Running:
    call = contender.make()
    start = time.perf_counter()
    result = call()
    first = time.perf_counter() - start
    facts = contender.facts(result)
    del result
    row = {"contender": contender.name, **contender.fields, **facts, "first_s": round(first, 4)}
    each, _ = sample(call, 1, seconds)
    words = "".join(f", {key} {value:.5g}" for key, value in facts.items())
    print(f"    {contender.label()}: first call {first:.2f} s, then {each * 1e3:.4g} ms{words}", flush=True)
    calls = max(1, math.ceil(seconds / each))
    return Running(contender, call, row, each, calls, min(rounds, 2) if each > SLOW else rounds)


def interleave(running: list[Running], rounds: int, seconds: float) -> None:
    for turn in range(rounds):
        for one in running[turn:] + running[:turn]:  # nobody always comes after the same
            if "error" in one.row or len(one.samples) == one.rounds:
                continue
            try:
                if one.each < SETTLING_SECONDS:
                    settle(one.call)
                each, faults = sample(one.call, one.calls, seconds)
            except Exception as error:
                one.row |= failed(one.contender, error)
                continue
            one.samples.append(round(each * 1e3, 6))
            one.faults.append(round(faults, 1))
        gc.collect()


def measure_time(contenders: list[Contender], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """One row a contender, in their order."""
    torch.compiler.reset()
    rows: list[dict[str, Any]] = []
    running: list[Running] = []
    for contender in contenders:
        try:
            running.append(started(contender, rounds, seconds))
            rows.append(running[-1].row)
        except Exception as error:
            rows.append(failed(contender, error))
    gc.collect()
    gc.freeze()  # so that collecting between rounds looks only at what came since
    gc.disable()
    try:
        interleave(running, rounds, seconds)
    finally:
        gc.enable()
        gc.unfreeze()
    for one in (r for r in running if "error" not in r.row):
        samples = one.samples if len(one.samples) > 1 else one.samples * 2
        low, median, high = (round(q, 6) for q in statistics.quantiles(samples, method="inclusive"))
        one.row |= {"median_ms": median, "low_ms": low, "high_ms": high, "calls": one.calls}
        one.row |= {"samples": one.samples, "faults": one.faults}
        print(f"    {one.contender.label()}: {median:.4g} ms ({low:.4g} to {high:.4g}), {len(one.samples)} samples")
    return rows


# Memory, in a process of its own


def status(key: str) -> float:
    """A field of /proc/self/status, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise OSError(f"no {key} in /proc/self/status")


def give_back() -> None:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # free heap pages would hide a part of the peak


def kept_bytes(call: Callable[[], Any]) -> int:
    """Bytes that autograd keeps from forward to backward: every storage it saves, once, and tensors put on its nodes."""
    storages: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        result = call()
    nodes, seen = [result.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        for value in getattr(node, "__dict__", {}).values():
            for item in value if isinstance(value, list | tuple) else [value]:
                if isinstance(item, Tensor):
                    note(item)
    return sum(storages.values())


def allocated_bytes(call: Callable[[], Any]) -> int:
    """The most that tensors made in the call take at once, whatever the allocator makes of it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    totals = itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(totals, default=0)


def peak(case: Case, name: str) -> dict[str, Any]:
    """What a child process reports of one call: MB above rest at the peak of the process, MB of tensors at their peak (less
    where the allocator cannot reuse its holes), and MB kept from forward to backward.
    """
    contender = next(c for c in case.contenders(False) if c.name == name)
    call = contender.make()
    if contender.fields.get("compiled"):
        call()  # the compiler's memory is not the program's
    else:
        next(c for c in case.contenders(True) if c.name == name).make()()
    give_back()
    rest = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from here
    result = call()
    found = {"peak_mb": status("VmHWM") - rest, "rest_mb": rest}
    del result
    return {**found, "tensors_mb": allocated_bytes(call) / 2**20, "kept_mb": kept_bytes(call) / 2**20}


def measure_memory(case: Case, repeats: int) -> list[dict[str, Any]]:
    rows = []
    for contender in case.contenders(False):
        command = [sys.executable, *sys.argv, "--peak", case.label(), "--contender", contender.name]
        try:
            runs = []
            for _ in range(repeats):
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError((done.stderr.strip() or "no message").splitlines()[-1])
                runs.append(json.loads(done.stdout.splitlines()[-1]))
        except Exception as error:
            rows.append(failed(contender, error))
            continue
        middle = {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
        peaks = [round(run["peak_mb"], 3) for run in runs]
        rows.append({"contender": contender.name, **contender.fields, **middle, "peaks_mb": peaks})
        words = ", ".join(f"{key} {value:.1f}" for key, value in middle.items())
        print(f"    {contender.label()}: {words}", flush=True)
    return rows


# The results file


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    family = next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("cpu family")), "")
    caches = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        caches.append(f"L{level} {kind} {size}")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found: dict[str, Any] = {"cpu": f"{model} family {family}".strip(), "cores": len(os.sched_getaffinity(0))}
    found |= {"caches": caches, "memory_gib": round(memory, 1), "os": platform.platform()}
    found |= {"python": platform.python_version(), "load": os.getloadavg()[0]}
    if kernels.has_native():
        found["instruction_set"] = kernels.forms.native().instruction_set()
    return found | {
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(SETTINGS) and not v.startswith("/")}
    }


def version(library: str) -> str | None:
    try:
        return torch.__version__ if library == "torch" else importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def heading(options: argparse.Namespace) -> dict[str, Any]:
    words = sys.argv[1:]
    if "--out" in words:  # where it went is no part of what was measured
        del words[words.index("--out") : words.index("--out") + 2]
    command = " ".join(["python", str(Path(sys.argv[0]).resolve().relative_to(ROOT)), *words])
    found: dict[str, Any] = {"format": FORMAT, "command": command, "commit": git("rev-parse", "HEAD")}
    found |= {"dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    found |= {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
    found |= {"versions": {name: version(name) for name in LIBRARIES}}
    return found | {"threads": options.threads, "allocator": options.allocator, "quick": options.quick, "rows": []}


def save(path: Path, found: dict[str, Any]) -> None:
    """Aside, then renamed; one row a line."""
    head = json.dumps({k: v for k, v in found.items() if k != "rows"}, indent=1)
    rows = ",\n  ".join(json.dumps(row) for row in found["rows"])
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    aside.write_text(f'{head[:-2]},\n "rows": [\n  {rows}\n ]\n}}\n')
    os.replace(aside, path)


def resumed(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """The file's results, if they were measured under the same conditions. Raises SystemExit if not."""
    before: dict[str, Any] = json.loads(path.read_text())
    for key in ("format", "commit", "versions", "threads", "allocator", "quick"):
        if before[key] != found[key]:
            raise SystemExit(f"{path}: cannot be resumed, {key} was {before[key]} and is {found[key]}")
    return before


# The command line


def arguments(description: str, name: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--allocator", choices=("default", "keep"), default="default")
    parser.add_argument("--rounds", type=int, help="samples a contender (default 7; 5 at T = 64)")
    parser.add_argument("--quick", action="store_true", help="small and few: to try the script, not to measure")
    parser.add_argument("--only", default="", help="only the cases whose name contains this")
    parser.add_argument("--resume", action="store_true", help="keep the cases that the file has already")
    parser.add_argument("--out", type=Path, help=f"default: results/benchmarks/{name}-ALLOCATOR.json")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out = options.out or ROOT / "results" / "benchmarks" / f"{name}-{options.allocator}.json"
    return options


def run(name: str, description: str, cases: Callable[[argparse.Namespace], list[Case]]) -> None:
    """The whole of a script."""
    options = arguments(description, name)
    if options.allocator == "keep" and not kernels.keep_memory():
        raise SystemExit("--allocator keep: needs the native kernels and glibc")
    torch.set_num_threads(options.threads)
    found_cases = cases(options)
    if options.peak:
        case = next(case for case in found_cases if case.label() == options.peak)
        print(json.dumps(peak(case, options.contender)))
        return
    found = heading(options)
    if options.resume and options.out.exists():
        found = resumed(options.out, found)
    with tempfile.TemporaryDirectory() as cache:  # empty, else a second run would not pay for its compilation
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        warm_compiler()
        measure(found_cases, found, options)


def warm_compiler() -> None:
    """What the compiler does once in its life, such as looking for instruction sets and precompiling headers."""
    with contextlib.suppress(Exception):  # a machine without a compiler: the contenders will say so
        torch.compile(lambda x: x + 1)(torch.ones(64, 64))


def measure(cases: list[Case], found: dict[str, Any], options: argparse.Namespace) -> None:
    """Fill ``found`` and its file, case by case."""
    rounds, seconds = (2, 0.02) if options.quick else (options.rounds, 0.1)
    todo = [c for c in cases if options.only in c.label()]
    try:
        for case in (c for c in todo if not any(c.fields.items() <= row.items() for row in found["rows"])):
            print(case.label(), flush=True)
            if case.memory:
                rows = measure_memory(case, 1 if options.quick else MEMORY_REPEATS)
            else:
                rows = measure_time(case.contenders(False), rounds or case.rounds, seconds)
            found["rows"] += [{**case.fields, **row} for row in rows]
            save(options.out, found)
    except KeyboardInterrupt:
        raise SystemExit(f"stopped; {options.out} has the cases that were finished, --resume goes on") from None
    print(f"written: {options.out}")
