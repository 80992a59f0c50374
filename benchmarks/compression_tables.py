"""The sections of docs/results.md on compression, and its curve."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

from markdown import model_config, short, table

from saccade.report import write_text
from saccade.report.figures import score_over_bytes

Rows = list[dict[str, Any]]
CURVE = Path(__file__).parent.parent / "docs" / "images" / "accuracy-over-bytes.svg"
WORDS = {
    "full": "32 bits",
    "binary": "binary (XNOR), 1 bit",
    "balanced_binary": "balanced binary (IR-Net, Q-SNN), 1 bit",
    "lsq-4": "LSQ, 4 bits",
    "dorefa-4": "DoReFa, 4 bits",
}
SUBBIT = {"6": "0.67", "5": "0.56", "4": "0.44"}


def percent(rows: Rows, key: str = "test_accuracy") -> str:
    """Mean and range over seeds."""
    values = [100 * row[key] for row in rows]
    return f"{mean(values):.2f} ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else f"{values[0]:.2f}"


def words(form: str) -> str:
    kind, _, rest = form.partition("-")
    if form in WORDS:
        return WORDS[form]
    if kind == "subbit":
        eta, *more = rest.split("-")
        return f"codebook, {SUBBIT[eta]} bits" + "".join(
            f" + {one}" for one in ("OS-Quant", "MPFD") if _short(one) in more
        )
    return f"{'ReScaW' if kind == 'rescaw' else kind}, {rest} bits"


def _short(name: str) -> str:
    return {"OS-Quant": "os", "MPFD": "mpfd"}[name]


def cells(rows: Rows) -> list[str]:
    kilobytes = sorted({round(row["bytes_file"] / 1e3, 1) for row in rows})
    size = f"{kilobytes[0]:.1f}" if len(kilobytes) == 1 else f"{kilobytes[0]:.1f} to {kilobytes[-1]:.1f}"
    sops = mean(row["profile"]["sops_per_image"] for row in rows) / 1e6
    energy = mean(row["profile"]["energy_standard_uj"] for row in rows)
    return [str(len(rows)), percent(rows), percent(rows, "validation_accuracy"), size, f"{sops:.2f}", f"{energy:.1f}"]


HEAD = ("seeds", "test accuracy, %", "validation, %", "packed file, kB", "SOPs an image, M", "energy, µJ")


def compression(name: str, found: dict[str, Any]) -> str:
    groups: dict[tuple[str, str | None, float], Rows] = defaultdict(list)
    for row in found["rows"]:
        groups[row["form"], row["criterion"], row["ratio"]].append(row)

    def lines(
        keep: Callable[[str, str | None, float], bool], label: Callable[[str, str | None, float], list[str]]
    ) -> Any:
        return [[*label(*key), *cells(rows)] for key, rows in groups.items() if keep(*key)]

    pruned = {form for form, criterion, _ in groups if criterion}
    bits = table(
        ["weights", "removed by SVS", *HEAD],
        lines(lambda f, c, r: f in pruned and c in (None, "svs"), lambda f, c, r: [words(f), f"{r:.0%}" if r else "–"]),
    )
    criteria = table(
        ["criterion", "removed", *HEAD],
        lines(lambda f, c, r: f == "rescaw-4" and bool(c), lambda f, c, r: [str(c).upper(), f"{r:.0%}"]),
    )
    others = table(
        ["weights", *HEAD],
        lines(lambda f, c, r: not c and (f not in pruned or f == "full"), lambda f, c, r: [words(f)]),
    )
    curve(groups)
    protocol = found["protocol"]
    data, settings = protocol["data"], protocol["train"]
    channels = "-".join(map(str, model_config(protocol)["channels"]))
    text = (
        f"{data['train_size']:,} training and {data['validation']:,} validation images of CIFAR-10, whole test set; "
        f"`vgg_small` with widths {channels}, T = 2; {settings['epochs']} epochs of AdamW ({settings['lr']:g}), batch "
        f"{settings['batch_size']}, crop and flip, {settings['precision']}; after pruning {found['finetune']['epochs']} "
        f"more from {found['finetune']['lr']:g}. Mean (range) over seeds; each network's test set scored once. A fractional "
        "design, not every combination. The first convolution and the read-out keep 32 bits. Energy prices an addition at "
        "0.9 pJ whatever its bits (convention `standard`), so it does not see quantization."
    )
    commits = sorted({short(row["commit"]) for row in found["rows"]})
    machine = found["machine"]
    source = (
        f"Command `{found['command']}`, commit {', '.join(commits)}, {found['rows'][-1]['date']}, torch {machine['torch']}, "
        f"{machine['cpus']} cores, one thread; file `{name}`."
    )
    parts = [
        "## Compression on CIFAR-10: bits, criteria, codebooks",
        text,
        "Bits, quantizers and channels removed by SVS:",
        bits,
    ]
    parts += ["![Accuracy over bytes](images/accuracy-over-bytes.svg)", "Criteria, ReScaW at 4 bits:", criteria]
    return "\n\n".join([*parts, "Other weights, nothing removed:", others, source])


def curve(groups: dict[tuple[str, str | None, float], Rows]) -> None:
    """Mean test accuracy over mean bytes: a line a quantizer as channels go, a point a codebook."""
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for (form, criterion, _), rows in groups.items():
        if criterion in (None, "svs"):
            point = mean(row["bytes_file"] for row in rows), mean(row["test_accuracy"] for row in rows)
            series[words(form)].append(point)
    series = {name: points for name, points in series.items() if "MPFD" not in name and "OS" not in name}
    write_text(CURVE, score_over_bytes({name: sorted(points) for name, points in series.items()}))


def compact(name: str, found: dict[str, Any]) -> str:
    rows = []
    pairs: dict[int, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in found["rows"]:
        pairs[row["seed"]][row["network"]] = row
        rows.append(
            [
                "full-precision twin" if row["network"] == "twin" else "2 bits, read-out 8 bits",
                str(row["seed"]),
                f"{row['test_accuracy']:.2%}",
                f"{row['test_correct']:,} of {row['test_total']:,}",
                f"{row['validation_accuracy']:.2%}",
                f"{row['bytes_file']:,}",
                f"{row['profile']['sops_per_image'] / 1e6:.2f}",
            ]
        )
    gaps = [
        100 * (pair["compact"]["test_accuracy"] - pair["twin"]["test_accuracy"])
        for pair in pairs.values()
        if len(pair) == 2
    ]
    head = ["network", "seed", "test accuracy", "correct", "validation", "packed file, bytes", "SOPs an image, M"]
    commits = sorted({short(row["commit"]) for row in found["rows"]})
    told = (
        f"Compact less twin, in points: {', '.join(f'{gap:+.2f}' for gap in gaps)}; mean {mean(gaps):+.2f}."
        if gaps
        else ""
    )
    source = (
        f"Command `{found['command']}` (recipes `qp_snn/cifar10-twin` and `qp_snn/cifar10-compact`: 48,000 training, 2,000 "
        f"validation images), commit {', '.join(commits)}, {found['rows'][-1]['date']}, torch {found['machine']['torch']}, "
        f"one thread; file `{name}`."
    )
    return "\n\n".join(["## A network under 100 kB", table(head, rows), told, source])
