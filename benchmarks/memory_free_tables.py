"""The section of docs/results.md on memory-free neurons (see make_results.py)."""

from __future__ import annotations

from collections import defaultdict
from statistics import mean
from typing import Any

from markdown import table

SCHEDULES = {"layer_serial": "memory-free, layer-serial", "async": "memory-free, event-driven"}


def section(name: str, found: dict[str, Any]) -> str:
    parts = ["## Memory-free neurons"]
    for key, words in (
        (
            "digits",
            "**Digits, a row a step** (read-out from the last step; 8-96-96-96-10, the two middle layers of 1-bit weights)",
        ),
        ("cifar10", "**CIFAR-10** (T = 4, 1-bit weights)"),
    ):
        if key in found:
            parts += accuracy(words, found[key], name)
    if "integers" in found:
        parts.append(integers(found["integers"]))
    if "time" in found:
        parts.append(times(found["time"], name))
    if "state" in found:
        parts.append(state(found["state"]["rows"]))
    return "\n\n".join(parts)


def accuracy(words: str, part: dict[str, Any], name: str) -> list[str]:
    """Mean and range over seeds, and the distance to the LIF with reset, seed by seed."""
    groups: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in part["rows"]:
        groups[row["neuron"]][row["seed"]] = row
    base = next(iter(groups.values()))
    rows = []
    for neuron, runs in groups.items():
        scores = [100 * run["test_accuracy"] for run in runs.values()]
        gaps = [100 * (run["test_accuracy"] - base[seed]["test_accuracy"]) for seed, run in runs.items()]
        gap = "–" if runs is base else f"{mean(gaps):+.1f} ({min(gaps):+.1f} to {max(gaps):+.1f})"
        spread = f"{min(scores):.1f} to {max(scores):.1f}"
        rows.append([neuron, f"{mean(scores):.1f}", spread, gap, f"{mean(r['rate'] for r in runs.values()):.3f}"])
    protocol = part["protocol"]
    data, train = protocol["data"], protocol["train"]
    images = (
        f"{data['train_size']:,} training, {data['validation']:,} validation images; " if "train_size" in data else ""
    )
    tested = part["rows"][0]["test_total"]
    text = (
        f"{words}: {images}{train['epochs']} epochs of Adam ({train['lr']:g}), batch {train['batch_size']}, the same for every "
        f"neuron; {tested:,} test images, scored once after the last epoch; {len(base)} seeds."
    )
    head = ["neuron", "test accuracy, %", "range", "against LIF, points (range)", "spikes per neuron and step"]
    return [text, table(head, rows), source(part, name)]


def source(part: dict[str, Any], name: str) -> str:
    commits = sorted({str(row["commit"])[:12] for row in part["rows"] if "commit" in row} or {str(part["commit"])[:12]})
    machine = part["machine"]
    return (
        f"Command `{part['command']}`, commit {', '.join(commits)}, {part['date']}, torch {machine['torch']}, "
        f"{machine['threads']} thread; file `{name}`."
    )


def integers(part: dict[str, Any]) -> str:
    rows = part["rows"]
    compared, differing = sum(row["spikes_compared"] for row in rows), sum(row["differing"] for row in rows)
    agree = "agree with each other" if all(row["schedules_agree"] for row in rows) else "DISAGREE"
    return (
        f"In integers: the {len(rows)} networks with the leak fixed at 1/2, lowered, on all test images: {differing} of "
        f"{compared:,} spikes differ from the model in float64, and the parallel, layer-serial, shift-register and event "
        f"schedules {agree} in all of them. Mean accuracy {100 * mean(row['test_accuracy'] for row in rows):.1f} %, of the "
        f"models {100 * mean(row['model_accuracy'] for row in rows):.1f} %. Command `{part['command']}`, commit "
        f"{str(part['commit'])[:12]}."
    )


def times(part: dict[str, Any], name: str) -> str:
    groups: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in part["rows"]:
        groups[row["neuron"]][row["T"]] = row
    steps = sorted({row["T"] for row in part["rows"]})
    base = groups["LIF, plain loop"]
    rows = []
    for neuron, by_T in groups.items():
        cells = []
        for T in steps:
            row, (low, high) = by_T[T], by_T[T]["quartiles_ms"]
            cells.append(
                f"{row['median_ms']:.2f} [{low:.2f}, {high:.2f}], {row['median_ms'] / base[T]['median_ms']:.2f}x"
            )
        rows.append([neuron, *cells])
    shape = ", ".join(map(str, part["shape"]))
    text = (
        f"**Time of a training step** of one layer, forward and backward, [T, {shape}] float32, in milliseconds of "
        f"processor time: median [quartiles] of {part['repeats']} turns taken in one process, and the ratio to the plain loop."
    )
    return "\n\n".join([text, table(["neuron", *(f"T = {T}" for T in steps)], rows), source(part, name)])


def state(rows: list[dict[str, Any]]) -> str:
    groups: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        groups[row["schedule"]][row["network"]] = row
    networks = list(dict.fromkeys(row["network"] for row in rows))
    made = []
    for schedule, by_network in groups.items():
        cells = []
        for network in networks:
            flight = by_network[network].get("in_flight")
            cells.append(f"{by_network[network]['persistent']:,}" + (f" (+ {flight:,} in flight)" if flight else ""))
        made.append([SCHEDULES.get(schedule, schedule), *cells])
    head = ["stored between steps", *(f"{n}, T = {next(r['T'] for r in rows if r['network'] == n)}" for n in networks)]
    text = (
        "**State** of the two networks above, bytes a sample. In flight: spike bits on their way from a layer to the next. "
        "Event-driven: T bits for each input of a layer, and 32-bit potentials of the first neurons (not for a still picture)."
    )
    return "\n\n".join([text, table(head, made)])
