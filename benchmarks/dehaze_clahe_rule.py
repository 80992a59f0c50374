"""Can a number measured from a picture say where CLAHE helps? python benchmarks/dehaze_clahe_rule.py [--haze FOLDER]

On every pair of ../shared/data/haze: what CLAHE adds to preset ``clear`` in PSNR and SSIM, and statistics of the picture that
need no reference. A rule is one statistic and one threshold. It is judged by leaving out one scene at a time (all haze levels
of it): statistic, threshold and side are chosen on the other scenes and score the one left out. Prints tables for
docs/dehaze.md; O-HAZE is shrunk to 0.35 of its side.
"""

from __future__ import annotations

import argparse
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from saccade.dehaze import Dehazer, method, metrics
from saccade.dehaze.evaluate import hazy_pictures, pairs

ROOT = Path(__file__).parents[1]
SETS = {"sots_outdoor": 1.0, "sots_indoor": 1.0, "o_haze": 0.35}
Row = dict[str, Any]


def statistics(image: np.ndarray) -> dict[str, float]:
    """Of a hazy picture ``[H, W, 3]``, its transmission and its recovered form; grey levels in [0, 1]."""
    result, parts = Dehazer("clear")(image, return_parts=True)
    grey, hazy = method.grey(result / 255.0), method.grey(image / 255.0)
    counts = np.bincount((grey * 255 + 0.5).astype(int).ravel(), minlength=256) / grey.size
    filled = counts[counts > 0]
    return {
        "mean transmission": float(parts.transmission.mean()),
        "least transmission (2 %)": float(np.quantile(parts.transmission, 0.02)),
        "theta": float(parts.theta),
        "mean airlight": float(np.mean(parts.airlight)),
        "hazy mean": float(hazy.mean()),
        "hazy contrast": float(hazy.std()),
        "recovered mean": float(grey.mean()),
        "recovered contrast": float(grey.std()),
        "recovered range (2 to 98 %)": float(np.subtract(*np.quantile(grey, [0.98, 0.02]))),
        "recovered entropy": float(-(filled * np.log2(filled)).sum()),
    }


def scene(name: str) -> str:
    """Hazy pictures of one scene differ in what follows the first part of the name."""
    return name.split("_")[0]


def measured(haze: Path) -> list[Row]:
    """A row a picture: its statistics, scores without CLAHE, and what CLAHE adds to them."""
    rows = []
    for folder, scale in SETS.items():
        references = dict(hazy_pictures(haze / folder / "gt", scale))
        names = [reference.name for _, reference in pairs(haze / folder / "hazy", haze / folder / "gt")]
        pictures = hazy_pictures(haze / folder / "hazy", scale)
        for (name, image), reference in zip(pictures, names, strict=True):
            clear = references[reference]
            row: Row = {"set": folder, "scene": f"{folder}/{scene(name)}", "picture": name, **statistics(image)}
            plain, mixed = Dehazer("clear")(image), Dehazer("clear", clahe="matlab")(image)
            for score in (metrics.psnr, metrics.ssim):
                row[score.__name__] = score(plain, clear)
                row[f"{score.__name__} gain"] = score(mixed, clear) - score(plain, clear)
            rows.append(row)
    return rows


def best_rule(rows: list[Row], names: list[str], gain: str) -> tuple[str, float, int]:
    """Statistic, threshold and side (1: CLAHE above it) with the largest mean gain, each scene counting once."""
    weights = {row["scene"]: 1 / sum(other["scene"] == row["scene"] for other in rows) for row in rows}
    best, chosen = 0.0, ("", 0.0, 1)  # no rule: never CLAHE
    for name in names:
        values = sorted({row[name] for row in rows})
        thresholds = [values[0] - 1, *((a + b) / 2 for a, b in itertools.pairwise(values))]
        for threshold in thresholds:
            for side in (1, -1):
                total = sum(weights[row["scene"]] * row[gain] for row in rows if side * (row[name] - threshold) > 0)
                if total > best + 1e-12:
                    best, chosen = total, (name, threshold, side)
    return chosen


def says_yes(rule: tuple[str, float, int], row: Row) -> bool:
    name, threshold, side = rule
    return bool(name) and side * (row[name] - threshold) > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("SACCADE_DATA") or ROOT.parent / "shared" / "data")
    parser.add_argument("--haze", type=Path, default=data / "haze")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = measured(options.haze)
    plain = {"set", "scene", "picture", "psnr", "ssim", "psnr gain", "ssim gain"}
    names = [name for name in rows[0] if name not in plain]
    scenes = list(dict.fromkeys(row["scene"] for row in rows))
    print(f"{len(rows)} pictures of {len(scenes)} scenes; what CLAHE adds to `clear`:\n")
    print("| scene | pictures | PSNR without, dB | CLAHE adds, dB | adds SSIM |\n|---|---|---|---|---|")
    for each in scenes:
        own = [row for row in rows if row["scene"] == each]
        means = [float(np.mean([row[key] for row in own])) for key in ("psnr", "psnr gain", "ssim gain")]
        print(f"| {each} | {len(own)} | {means[0]:.2f} | {means[1]:+.2f} | {means[2]:+.4f} |")
    print(
        "\n| goal | never | always | best in hindsight | rule, seen | rule, left out | rules chosen |\n|" + "---|" * 7
    )
    for gain, digits in (("psnr gain", 2), ("ssim gain", 4)):
        kept: dict[str, list[float]] = {"never": [], "always": [], "hindsight": [], "seen": [], "left out": []}
        chosen: dict[str, int] = {}
        seen = best_rule(rows, names, gain)
        for each in scenes:
            own = [row for row in rows if row["scene"] == each]
            rule = best_rule([row for row in rows if row["scene"] != each], names, gain)
            words = f"{rule[0]} {'>' if rule[2] > 0 else '<'} {rule[1]:.3f}" if rule[0] else "never"
            chosen[words] = chosen.get(words, 0) + 1
            kept["never"].append(0.0)
            kept["always"].append(np.mean([row[gain] for row in own]))
            kept["hindsight"].append(np.mean([max(row[gain], 0) for row in own]))
            kept["seen"].append(np.mean([row[gain] if says_yes(seen, row) else 0 for row in own]))
            kept["left out"].append(np.mean([row[gain] if says_yes(rule, row) else 0 for row in own]))
        cells = [f"{float(np.mean(values)):+.{digits}f}" for values in kept.values()]
        rules = ", ".join(f"{words} ({count})" for words, count in chosen.items())
        print(f"| {gain} | {' | '.join(cells)} | {rules} |")
    print("\nSpearman's correlation of each statistic with the gain, over pictures (PSNR, SSIM):\n")
    for name in names:
        pair = [
            float(spearmanr([row[name] for row in rows], [row[gain] for row in rows]).statistic)
            for gain in ("psnr gain", "ssim gain")
        ]
        print(f"{name}: {pair[0]:+.2f}, {pair[1]:+.2f}")


if __name__ == "__main__":
    main()
