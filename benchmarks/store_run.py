"""Keep what a finished run found: python benchmarks/store_run.py RUN results/NAME.json ["its command"]

Without a command the recipe of that name is taken to have been run as it is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from saccade.report import RunFiles, write_text

KEPT = ("recipe", "seed", "model", "parameters", "T", "images", "epochs", "chosen_epoch", "chosen_by", "iou")
KEPT += ("training_seconds", "profile")


def main() -> None:
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    run = RunFiles(Path(sys.argv[1]))
    summary, env = run.read_json("summary.json"), run.read_json("env.json")
    record = {"format": "saccade-run-1", "command": f"saccade train {summary['recipe']}"}
    if len(sys.argv) == 4:
        record["command"] = sys.argv[3]
    record |= {key: found for key, found in summary.items() if key in KEPT or key.startswith(("validation_", "test_"))}
    if "pruning" in summary:
        record["pruning"] = summary["pruning"]
    record["machine"] = {key: env[key] for key in ("python", "torch", "cpus", "threads", "gpu")}
    record |= {"commit": env["commit"], "date": env["started"][:10], "history": run.metrics()}
    write_text(Path(sys.argv[2]), json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
