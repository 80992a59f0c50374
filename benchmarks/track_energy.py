"""What following costs window by window, while a digit moves, rests and moves again.

    python benchmarks/track_energy.py --data DATA --out results/track/energy.json --figure docs/images/track-energy.svg

The tracker that comes along on the first test composite (no distractor, no noise), windows of 20 ms; the events of windows
8 to 15 are taken out: nothing moves before the camera. Energy: operations that were counted, at 45 nm prices (convention
"standard").
"""

from __future__ import annotations

import argparse
import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from saccade.data import DATA_SETS
from saccade.events import EventStream
from saccade.files import load_model
from saccade.report import figures
from saccade.track.composites import Composites
from saccade.track.energy import costs
from saccade.track.live import follow
from saccade.track.tracker import Tracker, shipped

REST = range(8, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    source = DATA_SETS["composites"]
    assert isinstance(source, Composites)
    _, test = replace(source, distractors=0, noise_hz=0.0, train_sequences=1, test_sequences=1).parts(given.data)
    made = test.composite(0)
    events, window_us = made.events, source.window_us
    moving = ((events.t // window_us) < REST.start) | ((events.t // window_us) >= REST.stop)
    seen = EventStream(
        events.t[moving], events.x[moving], events.y[moving], events.p[moving], events.height, events.width
    )
    model: Any = load_model(shipped())
    tracker = Tracker(model, momentum=0.5)
    found = list(costs(tracker, follow(tracker, tracker.framing, [seen], test.boxes[0][0])))
    record = {
        "format": "saccade-track-energy-1",
        "command": "python benchmarks/track_energy.py --data DATA",
        "date": datetime.date.today().isoformat(),
        "model": model.name,
        "windows": [cost._asdict() for cost in found],
    }
    if given.out:
        given.out.write_text(json.dumps(record, indent=1) + "\n")
    if given.figure:
        times = [cost.stop_us / 1e3 for cost in found]
        lines = {
            "energy of a window, µJ": (times, [cost.energy_uj for cost in found]),
            "events of a window, in tens": (times, [cost.events / 10 for cost in found]),
        }
        figure = figures.lines(lines, "ms", "", (7.6, 2.8))
        given.figure.write_text(str(figure) + "\n", encoding="utf-8")
    for cost in found:
        print(f"window {cost.number}: {cost.events} events, {cost.energy_uj:.1f} uJ, {cost.spikes:,} spikes")


if __name__ == "__main__":
    main()
