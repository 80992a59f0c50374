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
from typing import Any

import numpy as np
import torch

from saccade.dehaze import method, metrics
from saccade.dehaze.evaluate import REFERENCE, evaluate, hazy_pictures
from saccade.dehaze.settings import PRESETS
from saccade.experiment import environment
from saccade.report import write_text

ROOT = Path(__file__).parents[1]
METHODS = ("hazy", "fidelity", "clear", "paper", "demo", "fast", "dcp", "cap", "bccr", "clahe")
SETS = {"sots_outdoor": 1.0, "sots_indoor": 1.0, "o_haze": 0.35}
REAL = ("hazy", "fidelity", "clear", "paper", "dcp", "cap", "clahe")


def before_clipping(haze: Path, preset: str = "fidelity") -> dict[str, Any]:
    """The order's correlation on every picture while the result is still floating and may leave [0, 1]."""
    settings, found = PRESETS[preset], []
    for name in (*SETS, "real"):
        folder = haze / name / "hazy" if name in SETS else haze / name
        for _, pixels in hazy_pictures(folder, SETS.get(name, 1.0)):
            image = pixels / 255.0
            A = method.airlight(image, settings.airlight_window)
            scene = method.depth_order(image, A)
            theta = method.solve_theta(scene, method.cube_bound(image, A, settings.low, settings.high), settings.eps)
            t = method.guided_filter(method.grey(image), method.transmission(scene, theta.value))
            J = method.recover(image, np.clip(t, settings.least, 1), A)
            found.append(metrics.order_spearman(image, J, A))
    return {
        "preset": preset,
        "pictures": len(found),
        "mean": round(float(np.mean(found)), 5),
        "commit": environment()["commit"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("SACCADE_DATA") or ROOT.parent / "shared" / "data")
    parser.add_argument("--haze", type=Path, default=data / "haze")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "dehaze" / "quality.json")
    parser.add_argument("--unclipped", action="store_true", help="only that part of the file, again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.unclipped:
        record = json.loads(options.out.read_text()) | {"order_before_clipping": before_clipping(options.haze)}
        write_text(options.out, as_text(record))
        return
    sets = {}
    for name, scale in SETS.items():
        folder = options.haze / name
        rows = list(evaluate(folder / "hazy", folder / "gt", METHODS, scale, (*REFERENCE, "order")))
        sets[name] = {"scale": scale, "rows": rows}
        print(name, len(rows), flush=True)
    blind = ("fade", "order", "new_edges", "gradient_ratio", "saturated")
    sets["real"] = {"scale": 1.0, "rows": list(evaluate(options.haze / "real", None, REAL, 1.0, blind))}
    env = environment()
    record: dict[str, Any] = {"format": "saccade-dehaze-quality-1", "command": "python benchmarks/dehaze_quality.py"}
    record |= {"commit": env["commit"], "date": env["started"][:10], "sets": sets}
    record |= {"order_before_clipping": before_clipping(options.haze)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(options.out, as_text(record))


def as_text(record: dict[str, Any]) -> str:
    """One row a line."""
    return json.dumps(record).replace('{"picture"', '\n{"picture"') + "\n"


if __name__ == "__main__":
    main()
