"""Flower's simulation measured: seconds a client and the memory of all its processes, with many clients on few cores.

python benchmarks/split_simulation.py results/split --clients 128 256
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from saccade.experiment import environment

ROUND = ["rounds=1", "steps=2", "clients.alpha=inf", "clients.min_size=1", "data.length=64", "data.pack=false"]
ROUND += ["data.eval_rows=16"]
FLAGS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")


def command(clients: int, out: str) -> list[str]:
    sets = [word for change in (f"clients.count={clients}", *ROUND) for word in ("--set", change)]
    return ["split", "simulate", "small", "--engine", "flower", "--cpus", "1", "--out", out, *sets]


def family(pid: int) -> list[int]:
    """A process and all that descends from it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # gone meanwhile
                continue
            children.setdefault(parent, []).append(int(entry))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def memory_mb(pids: list[int]) -> float:
    """Of all together, what they share counted once (proportional set size)."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def measure(clients: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        log, began = Path(folder) / "log", time.monotonic()
        with log.open("wb") as out:
            words = [sys.executable, "-m", "saccade", *command(clients, f"{folder}/run")]
            child = subprocess.Popen(words, stdout=out, stderr=out)
        peak, most = 0.0, 0
        while child.poll() is None:
            pids = family(child.pid)
            peak, most = max(peak, memory_mb(pids)), max(most, len(pids))
            time.sleep(0.5)
        seconds = time.monotonic() - began
        if child.returncode:
            sys.exit(log.read_text(errors="replace")[-2000:])
        summary = json.loads((Path(folder) / "run" / "summary.json").read_text())
        row = (Path(folder) / "run" / "rounds.csv").read_text().splitlines()
        finished = int(row[1].split(",")[row[0].split(",").index("finished")])
    return {
        "clients": clients,
        "finished": finished,
        "seconds_of_the_round": summary["clock_s"],
        "seconds_a_client": summary["clock_s"] / clients,
        "seconds_of_the_command": seconds,
        "peak_memory_mb": peak,
        "processes": most,
    }


def processor() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(facts.get("flags", "").split())
    cores = len(os.sched_getaffinity(0))
    return {"model": facts.get("model name", "?"), "cores": cores, "flags": [flag for flag in FLAGS if flag in flags]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[128, 256])
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {
        "command": "saccade " + " ".join(command(given.clients[-1], "RUN")),
        "commit": environment()["commit"],
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "load_at_start": os.getloadavg()[0],
        "rows": [],
    }
    for clients in given.clients:
        record["rows"].append(measure(clients))
        print(record["rows"][-1], flush=True)
        (given.folder / "simulation.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
