"""Make docs/results.md from the stored summaries: python benchmarks/make_results.py"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

from compression_tables import compact, compression
from event_tables import section as events
from make_robustness import section as defences
from markdown import model_config, table
from memory_free_tables import section as memory_free
from track_tables import section as tracking

from saccade.report import write_text

ROOT = Path(__file__).parent.parent

HEAD = """# Results

Made from the files in `results/` by `python benchmarks/make_results.py`; nothing here is typed in. The test set of every
run was scored once, at the end, on the epoch that the validation images chose (cifar10-or-small once more in full
precision, see [SynA-ResNet](syna-resnet.md)). "Spikes per neuron" are over all time steps,
a mean over images; energies are per image under the convention `standard` (4.6 pJ a multiply-accumulate, 0.9 pJ an
addition; norms folded, membrane updates not counted), measured on the first 256 test images.
"""


def load() -> list[tuple[str, dict[str, Any]]]:
    return [(path.name, json.loads(path.read_text())) for path in sorted((ROOT / "results").glob("*.json"))]


def spread(values: list[float], scale: float = 1.0, digits: int = 2) -> str:
    """Mean and half the range (two seeds have no better measure of spread)."""
    low, high = min(values) * scale, max(values) * scale
    return f"{mean(values) * scale:.{digits}f} ± {(high - low) / 2:.{digits}f}"


def residuals(name: str, found: dict[str, Any]) -> str:
    groups: dict[tuple[str, bool], list[dict[str, Any]]] = defaultdict(list)
    for row in found["rows"]:
        groups[row["connection"], row["syna"]].append(row)
    rows = []
    for (connection, syna), runs in groups.items():
        profile = [run["profile"] for run in runs]
        shortcuts = [s for run in runs for s in run.get("shortcuts", [])]
        silent = f"{sum(s['spikes'] == 0 for s in shortcuts)} of {len(shortcuts)}" if shortcuts else "–"
        removed = sum(s["removed"] for s in shortcuts) if shortcuts else "–"
        row = [connection, "yes" if syna else "no", str(len(runs)), spread([r["test_accuracy"] for r in runs], 100)]
        row += [
            spread([p["spikes_per_neuron"] for p in profile], 1, 3),
            spread([p["energy_standard_uj"] for p in profile], 1, 3),
        ]
        rows.append([*row, silent, str(removed)])
    head = [
        "connection",
        "SynA",
        "seeds",
        "test accuracy, %",
        "spikes per neuron",
        "energy, µJ",
        "silent shortcuts",
        "removed",
    ]
    kept, changed = 0, []
    for run in found["rows"]:
        checks = run.get("pruning") or {}
        if checks.get("measured"):
            kept += 1
            if not checks["test"]["equal"]:
                changed.append(f"{run['connection']} seed {run['seed']}: {checks['test']['differing_samples']} images")
    protocol = found["protocol"]
    data, train = protocol["data"], protocol["train"]
    widths = "-".join(map(str, model_config(protocol)["widths"]))
    words = (
        f"{data['train_size']:,} training and {data['validation']:,} validation images of CIFAR-10, whole test set; T = 4, "
        f"widths {widths}, one pair of convolutions a stage; {train['epochs']} epochs of AdamW ({train['lr']:g}), batch "
        f"{train['batch_size']}, crop and flip, {train['precision']}. Mean ± half the range over seeds."
    )
    commits = sorted({str(run["commit"])[:12] for run in found["rows"]})
    machine = f"torch {found['machine']['torch']}, {found['machine']['cpus']} cores, one thread a run"
    when = found["rows"][-1]["date"]
    source = f"Command `{found['command']}`, commit {', '.join(commits)}, {when}, {machine}; file `{name}`."
    pruned = (
        f"In {kept} runs something was removed; in all of them the logits on the training and validation data stayed"
    )
    pruned += " identical bit for bit, and on the test set "
    pruned += "too." if not changed else "they differed in: " + ", ".join(changed) + "."
    return "\n\n".join(["## Residual connections and SynA on CIFAR-10", words, table(head, rows), pruned, source])


def run(name: str, found: dict[str, Any]) -> str:
    images = found["images"]
    lines = [
        f"## `{found['recipe']}`",
        f"{found['model']}, T = {found['T']}, {found['parameters']:,} parameters; {images['train']:,} training, "
        f"{images['validation']:,} validation images; {found['epochs']} epochs, epoch {found['chosen_epoch']} chosen by "
        f"{found['chosen_by']} ({found['validation_accuracy']:.2%}).",
    ]
    head = [
        "test accuracy",
        "correct",
        "spikes per neuron",
        "spikes per image",
        "energy `standard`, µJ",
        "energy `orrc`, µJ",
    ]
    cost = found["profile"]
    row = [f"**{found['test_accuracy']:.2%}**", f"{found['test_correct']:,} of {found['test_total']:,}"]
    row += [f"{cost['spikes_per_neuron']:.3f}", f"{cost['spikes_per_image']:,.0f}"]
    row += [f"{cost['energy_standard_uj']:.2f}", f"{cost['energy_orrc_uj']:.2f}"]
    lines.append(table(head, [row]))
    machine = found["machine"]
    where = machine["gpu"] or f"{machine['threads']} CPU thread(s)"
    lines.append(
        f"Command `{found['command']}`, seed {found['seed']}, commit {str(found['commit'])[:12]}, {found['date']}, torch "
        f"{machine['torch']}, {where}, {found['training_seconds'] / 60:.1f} minutes; file `{name}`."
    )
    return "\n\n".join(lines)


def main() -> None:
    parts = [HEAD.strip()]
    sections = {
        "saccade-results-1": residuals,
        "saccade-run-1": run,
        "saccade-memory-free-1": memory_free,
        "saccade-compression-1": compression,
        "saccade-compact-1": compact,
    }
    for name, found in load():
        if found["format"] in sections:  # of others, such as the checkpoint's, a page of their own tells
            parts.append(sections[found["format"]](name, found))
    parts += [tracking(), events(), defences()]
    write_text(ROOT / "docs" / "results.md", "\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
