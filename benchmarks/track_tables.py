"""Trackers on composites of N-MNIST and on a pendulum: ours by seed and representation, and what nothing learnt reaches.

    python benchmarks/track_tables.py --data DATA --events EVENTS     # goes on where it stopped
    python benchmarks/track_tables.py --fill      # the table of docs/track.md
    python benchmarks/track_tables.py --data DATA --runs RUNS --powers      # how the power of the Hann window was chosen

DATA holds nmnist-small, EVENTS a folder with pendulo2.aedat and pendulo2_silver.csv. Each row is a file of results/track. A
model is ``sdtrack_small`` from scratch; the test composites show digits that no training saw. Scores are those of pytracking:
AUC, precision at 20 pixels, in percent. The pendulum is a real recording of a DVS128 in windows of 40 ms; its boxes are
"silver", found from the density of events and enlarged to 16 pixels, in runs of at least 12 windows.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from markdown import table

from saccade.data import DATA_SETS
from saccade.events import REPRESENTATIONS, open_events
from saccade.experiment import load_recipe, run
from saccade.files import load_model
from saccade.report import write_text
from saccade.track.baselines import BASELINES
from saccade.track.composites import Composites, as_boxes
from saccade.track.evaluate import tracked
from saccade.track.live import Follower
from saccade.track.metrics import PROTOCOLS
from saccade.track.tracker import Tracker

RESULTS = Path(__file__).parents[1] / "results" / "track"
SEQUENCES = 32  # of the test
WINDOW_US = 40_000  # of the pendulum
LEAST, RUN = 16, 12  # pixels of a side of a box, windows of a run
MOMENTUM, HANN = 0.5, 3.0  # the power: chosen on sequences of the training part that no training used
POWERS, UNUSED = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0), 1000  # training takes the first 300 sequences
SEQUENCE = [
    "data.config.steps=4",
    "data.config.pairs=2500",
    "model.config.neuron={name: i_lif, config: {stateful: true, decay: 0.25}}",
]
VOXEL = ["data.config.representation={name: voxel_grid, config: {bins: 3}}"]
FRAME = ["data.config.representation=event_frame", "model.config.inputs=2"]
TRAINED: dict[str, tuple[list[str], int]] = {  # settings of the recipe, and how many seeds
    "gtp": ([], 5),
    "voxel_grid": (VOXEL, 3),
    "event_frame": (FRAME, 3),
    "gtp, 4 windows in a row": (SEQUENCE, 3),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "published": {},
    "momentum": {"momentum": MOMENTUM},
    "momentum, hann": {"momentum": MOMENTUM, "hann": HANN},
    "recentre": {"recentre": True},
    "recentre, keep_size": {"recentre": True, "keep_size": True},
    "recentre, keep_size, hann": {"recentre": True, "keep_size": True, "hann": HANN},
}


def composites(data: Path, make: Callable[[], tuple[Follower, Any]]) -> dict[str, float]:
    """Scores on the test composites."""
    source = DATA_SETS["composites"]
    assert isinstance(source, Composites)
    _, test = replace(source, train_sequences=1, test_sequences=SEQUENCES).parts(data)
    follower, representation = make()
    tracks, begun, windows = [], time.perf_counter(), 0
    for i in range(len(test)):
        made = test.composite(i)
        tracks.append(tracked(follower, representation, made.events, made.stamps_us, test.boxes[i], str(i)))
        windows += len(test.boxes[i])
    took = (time.perf_counter() - begun) / windows * 1e3
    return PROTOCOLS["pytracking"].score(tracks).numbers | {"ms_a_window": took}


def pendulum(events_folder: Path, make: Callable[[], tuple[Follower, Any]]) -> dict[str, float]:
    """Scores on the runs of the pendulum whose boxes are known."""
    events = open_events(events_folder / "pendulo2.aedat")
    rows = np.loadtxt(events_folder / "pendulo2_silver.csv", delimiter=",")
    known = np.isfinite(rows[:, 1:5]).all(1)
    middle = rows[:, 1:3] + rows[:, 3:5] / 2
    sides = np.maximum(rows[:, 3:5], LEAST)
    boxes = np.concatenate([middle - sides / 2, sides], 1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(int))).reshape(-1, 2)
    follower, representation = make()
    tracks = []
    for first, last in edges:
        if last - first >= RUN:
            stamps = int(events.t[0]) + np.append(rows[first:last, 0], rows[last - 1, 0] + WINDOW_US).astype(np.int64)
            tracks.append(tracked(follower, representation, events, stamps, boxes[first:last], str(first)))
    return PROTOCOLS["pytracking"].score(tracks).numbers


def both(data: Path, events: Path, make: Callable[[], tuple[Follower, Any]]) -> dict[str, Any]:
    return {"composites": composites(data, make), "pendulum": pendulum(events, make)}


def trained(name: str, seed: int, data: Path, events: Path, runs: Path, known: dict[str, Any]) -> dict[str, Any]:
    """A model, trained unless it lies in ``runs``, scored with the options that ``known`` lacks."""
    settings, _ = TRAINED[name]
    place = runs / f"{slug(name)}-seed{seed}"
    recipe = load_recipe("sdtrack/composites-small", [*settings, f"seed={seed}"])
    summary = run(recipe, place, data=data, quiet=True, report=False, resume=(place / "recipe.yaml").exists())
    model: Any = load_model(place / "model.safetensors")

    def make(options: dict[str, Any]) -> Callable[[], tuple[Follower, Any]]:
        def build() -> tuple[Follower, Any]:
            tracker = Tracker(model, **options)
            return tracker, tracker.representation

        return build

    found = {option: known.get(option) or both(data, events, make(values)) for option, values in OPTIONS.items()}
    kept = {key: summary[key] for key in ("parameters", "training_seconds", "test_overlap")}
    return {"settings": settings, "seed": seed, "summary": kept, "scores": found}


def powers(data: Path, runs: Path) -> dict[str, Any]:
    """AUC of the trained ``gtp`` by the power of the window, on sequences of the training part that no training used."""
    source = DATA_SETS["composites"]
    assert isinstance(source, Composites)
    train, _ = replace(source, train_sequences=1, test_sequences=1).parts(data)
    made = [train.composite(i) for i in range(UNUSED, UNUSED + SEQUENCES)]
    found: dict[str, list[float]] = {}
    for power in POWERS:
        for seed in range(4):
            model: Any = load_model(runs / f"gtp-seed{seed}" / "model.safetensors")
            tracker = Tracker(model, momentum=MOMENTUM, hann=power)
            tracks = [
                tracked(tracker, tracker.representation, one.events, one.stamps_us, as_boxes(one), str(i))
                for i, one in enumerate(made)
            ]
            found.setdefault(f"{power:g}", []).append(PROTOCOLS["pytracking"].score(tracks).numbers["AUC"])
        print(power, found[f"{power:g}"], flush=True)
    return {"momentum": MOMENTUM, "sequences": [UNUSED, UNUSED + SEQUENCES], "seeds": [0, 1, 2, 3], "AUC": found}


def slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name).replace("--", "-")


def store(path: Path, record: dict[str, Any], command: str) -> None:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    about = {
        "format": "saccade-track-table-1",
        "command": command,
        "commit": commit.stdout.strip(),
        "date": datetime.date.today().isoformat(),
        "threads": torch.get_num_threads(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(about | record, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--events", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/track"), help="Where trained models go.")
    parser.add_argument("--fill", action="store_true")
    parser.add_argument("--powers", action="store_true")
    given = parser.parse_args()
    if given.fill:
        page = RESULTS.parents[1] / "docs" / "track.md"
        text = page.read_text(encoding="utf-8")
        write_text(page, re.sub(r"(<!-- track -->\n)(\|.*\n)*", lambda found: found[1] + tables() + "\n", text))
        print(f"wrote {page}")
        return
    torch.set_num_threads(1)
    command = "python benchmarks/track_tables.py --data DATA --events EVENTS"
    if given.powers:
        store(RESULTS / "hann-powers.json", powers(given.data, given.runs), f"{command} --powers")
        return
    for name, make in BASELINES.items():
        path = RESULTS / f"baseline-{name}.json"
        if not path.exists():
            scores = both(given.data, given.events, lambda make=make: (make(), REPRESENTATIONS["gtp"]))
            store(path, {"name": name, "scores": scores}, command)
            print(path.name, scores["composites"]["AUC"], flush=True)
    most = max(seeds for _, seeds in TRAINED.values())
    for seed in range(most):  # a seed of every setting first
        for name, (_, seeds) in TRAINED.items():
            path = RESULTS / f"{slug(name)}-seed{seed}.json"
            known = json.loads(path.read_text())["scores"] if path.exists() else {}
            if seed < seeds and OPTIONS.keys() - known.keys():
                record = {"name": name, **trained(name, seed, given.data, given.events, given.runs, known)}
                store(path, record, command)
                print(path.name, {k: round(v["composites"]["AUC"], 1) for k, v in record["scores"].items()}, flush=True)


def section() -> str:
    """Of docs/results.md."""
    words = (
        "Pytracking's AUC and precision at 20 pixels, in percent, mean and standard deviation over seeds; what is what says "
        "[Tracking](track.md). Command `python benchmarks/track_tables.py --data DATA --events EVENTS`, files `track/*.json`."
    )
    return f"## Tracking on composites and a pendulum\n\n{tables()}\n\n{words}"


def tables() -> str:
    """The table, from what is stored."""
    records = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    records = [record for record in records if record.get("format") == "saccade-track-table-1" and "name" in record]
    rows = []
    for record in records:
        if "seed" not in record:
            rows.append([f"{record['name']} (nothing learnt)", "–", *_cells([record["scores"]])])
    for name in TRAINED:
        own = [record for record in records if record["name"] == name and "seed" in record]
        for option in OPTIONS if own else ():
            if scores := [record["scores"][option] for record in own if option in record["scores"]]:
                rows.append([f"{name}; {option}", str(len(scores)), *_cells(scores)])
    head = ("tracker", "seeds", "composites AUC", "composites PR", "pendulum AUC", "pendulum PR")
    return table(head, rows)


def _cells(scores: list[dict[str, Any]]) -> list[str]:
    found = []
    for part in ("composites", "pendulum"):
        for number in ("AUC", "PR"):
            values = [score[part][number] for score in scores]
            found.append(f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else ""))
    return found


if __name__ == "__main__":
    main()
