"""How much dehazed video flickers, relative to its input: python benchmarks/dehaze_flicker.py [--haze FOLDER]

The first 120 frames of the two fog clips of ../shared/data/haze, with every frame by itself and with smoothed parameters.
Writes results/dehaze/flicker.json.
"""

from __future__ import annotations

import argparse
import json
import os
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import torch

from saccade.dehaze import VideoDehazer
from saccade.dehaze.metrics import flicker_ratio
from saccade.dehaze.video import open_clip
from saccade.experiment import environment
from saccade.report import write_text

ROOT = Path(__file__).parents[1]
FRAMES = 120
SETTINGS = {
    "each frame by itself": {"smoothing": 1.0, "every": 1, "reduce": 1},
    "smoothed, each frame estimated": {"every": 1, "reduce": 1},
    "as shipped": {},
}


def steps(frames: list[np.ndarray]) -> float:
    """Mean |difference| between neighbouring frames, in grey levels."""
    pairs = pairwise(frames)
    return float(np.mean([np.abs(b.astype(np.int16) - a).mean() for a, b in pairs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("SACCADE_DATA") or ROOT.parent / "shared" / "data")
    parser.add_argument("--haze", type=Path, default=data / "haze")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "dehaze" / "flicker.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for path in sorted((options.haze / "video").glob("*.mp4")):
        frames = list(islice(open_clip(path).frames, FRAMES))
        light = np.array([frame.mean() for frame in frames])
        for name, settings in SETTINGS.items():
            dehazer = VideoDehazer(**settings)
            out = [dehazer(frame) for frame in frames]
            ratio = flicker_ratio(light, np.array([frame.mean() for frame in out]))
            row = {"clip": path.stem, "frames": len(frames), "settings": name, "flicker_ratio": round(ratio, 3)}
            rows.append(row | {"step": round(steps(out), 3), "input_step": round(steps(frames), 3)})
            print(rows[-1], flush=True)
    env = environment()
    record = {"format": "saccade-dehaze-flicker-1", "command": "python benchmarks/dehaze_flicker.py"}
    record |= {"commit": env["commit"], "date": env["started"][:10], "rows": rows}
    write_text(options.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
