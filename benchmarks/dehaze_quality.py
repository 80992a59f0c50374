"""Quality of dehazing on the pictures of ../shared/data/haze: python benchmarks/dehaze_quality.py [--haze FOLDER]

Every method on every picture: PSNR, SSIM and CIEDE2000 where there is a clear one, FADE of the real ones, and on all of them
the rank correlation of the depth order with the hazy picture's. O-HAZE is shrunk to 0.35 of its side, as in the figures that
the tables are compared with. Writes results/dehaze/quality.json.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import torch

from saccade.dehaze.evaluate import REFERENCE, evaluate
from saccade.train.rundir import environment, write_text

ROOT = Path(__file__).parents[1]
METHODS = ("hazy", "fidelity", "clear", "paper", "demo", "fast", "dcp", "cap", "bccr", "clahe")
SETS = {"sots_outdoor": 1.0, "sots_indoor": 1.0, "o_haze": 0.35}
REAL = ("hazy", "fidelity", "clear", "paper", "dcp", "cap", "clahe")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("SACCADE_DATA") or ROOT.parent / "shared" / "data")
    parser.add_argument("--haze", type=Path, default=data / "haze")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "dehaze" / "quality.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = {}
    for name, scale in SETS.items():
        folder = options.haze / name
        rows = list(evaluate(folder / "hazy", folder / "gt", METHODS, scale, (*REFERENCE, "order")))
        sets[name] = {"scale": scale, "rows": rows}
        print(name, len(rows), flush=True)
    blind = ("fade", "order", "new_edges", "gradient_ratio", "saturated")
    sets["real"] = {"scale": 1.0, "rows": list(evaluate(options.haze / "real", None, REAL, 1.0, blind))}
    env = environment()
    record = {"format": "saccade-dehaze-quality-1", "command": "python benchmarks/dehaze_quality.py"}
    record |= {"commit": env["commit"], "date": env["started"][:10], "sets": sets}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record)
    write_text(options.out, text.replace('{"picture"', '\n{"picture"') + "\n")


if __name__ == "__main__":
    main()
