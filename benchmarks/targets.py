"""What was aimed at, and what was measured: the first table of docs/benchmarks.md."""

from __future__ import annotations

from typing import Any

EAGER = ("SpikingJelly", "snnTorch", "Norse", "sinabs")
Files = dict[tuple[str, str], dict[str, Any]]


class Rows:
    """The stored rows, to be asked for the fastest and the leanest."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def of(self, script: str, allocator: str, **fields: Any) -> list[dict[str, Any]]:
        rows = self.files.get((script, allocator), {"rows": []})["rows"]
        return [row for row in rows if all(row.get(key) == value for key, value in fields.items())]

    def least(self, key: str, names: tuple[str, ...], *where: str, **fields: Any) -> tuple[float, str]:
        """The smallest ``key`` of the contenders whose names start so, and which it was."""
        script, allocator = where
        found = [
            (row[key], row["contender"])
            for row in self.of(script, allocator, **fields)
            if row["contender"].startswith(names) and key in row
        ]
        return min(found) if found else (float("nan"), "not measured")

    def ours(self, key: str, *where: str, **fields: Any) -> float:
        script, allocator = where
        return min(
            (r[key] for r in self.of(script, allocator, contender="saccade", **fields) if key in r),
            default=float("nan"),
        )


def table(files: Files) -> list[list[str]]:
    """Rows of work, rival, aim, what was measured, whether it was reached."""
    rows = Rows(files)
    result: list[list[str]] = []

    def add(work: str, rival: str, aim: str, measured: str, good: bool | None) -> None:
        """``good`` is None for a row that is there for comparison."""
        if "nan" not in measured:  # else its file is not there
            result.append([work, rival, aim, measured, "" if good is None else "yes" if good else "**no**"])

    def faster(
        allocator: str, steps: tuple[int, ...], names: tuple[str, ...], aim: float, rival: str, words: str
    ) -> None:
        ratios = []
        for shape in "AB":
            for T in steps:
                fields = {"table": "backward", "shape": shape, "T": T}
                value, _ = rows.least("median_ms", names, "neurons", allocator, **fields)
                ratios.append((f"{shape} T={T}", value / rows.ours("median_ms", "neurons", allocator, **fields)))
        said = ", ".join(f"{where} ×{ratio:.1f}" for where, ratio in ratios)
        add(f"LIF forward + backward, {words}", rival, f"×{aim:g}", said, min(r for _, r in ratios) >= aim)

    faster("default", (4,), EAGER, 7, "the fastest eager peer, as installed", "T = 4")
    faster("keep", (16, 64), EAGER, 7, "the fastest eager peer, both with freed memory kept", "T = 16, 64")
    faster("default", (16, 64), EAGER, 7, "the same, both with the default allocator", "T = 16, 64")
    faster("keep", (4, 16, 64), ("torch.compile",), 1, "torch.compile of the plain loop, freed memory kept", "all T")
    faster("default", (4, 16, 64), ("torch.compile",), 1, "the same, default allocator", "all T")

    for direction, limit, aim in (("forward", "limit: x.clone()", 0.85), ("backward", "limit: five streams", 0.75)):
        shares = []
        for shape, T in (("A", 4), ("A", 16), ("A", 64), ("B", 16), ("B", 64)):  # 16 MB and more
            fields = {"table": direction, "shape": shape, "T": T}
            value, _ = rows.least("median_ms", (limit,), "neurons", "keep", **fields)
            shares.append((f"{shape} T={T}", value / rows.ours("median_ms", "neurons", "keep", **fields)))
        said = ", ".join(f"{where} {share:.0%}" for where, share in shares)
        work = "LIF forward" if direction == "forward" else "LIF forward + backward"
        add(
            f"{work}, 16 MB and more, freed memory kept",
            limit.removeprefix("limit: "),
            f"{aim:.0%}",
            said,
            min(s for _, s in shares) >= aim,
        )

    small = rows.ours("median_ms", "neurons", "default", table="small")
    for name, counts in (("empty custom_op", False), ("empty Library op", True), ("empty autograd.Function", False)):
        value, _ = rows.least("median_ms", (name,), "neurons", "default", table="small")
        what = f"{small * 1e3:.1f} µs against {value * 1e3:.1f} µs, ×{small / value:.2f}"
        aim, good = ("×1.3 at most", small / value <= 1.3) if counts else ("for comparison", None)
        add("a call on a small tensor, forward + backward", name, aim, what, good)

    fields = {"table": "memory", "shape": "A", "T": 16}
    size = next((row["input_mb"] for row in rows.of("neurons", "default", **fields)), float("nan"))
    kept = rows.ours("kept_mb", "neurons", "default", **fields) / size
    add("kept for backward by the LIF", "its input", "×1.0", f"×{kept:.2f}", kept <= 1.001)
    peak = rows.ours("peak_mb", "neurons", "default", **fields) / size
    lean, who = rows.least("peak_mb", EAGER, "neurons", "default", **fields)
    add(
        "peak extra memory of LIF forward + backward",
        f"the leanest peer ({who})",
        "half",
        f"×{peak:.2f} of the input against ×{lean / size:.2f}",
        peak <= lean / size / 2,
    )

    for allocator, words in (("default", "default allocator"), ("keep", "freed memory kept")):
        for what, aim in (("train", 1.6), ("inference", 2.5)):
            fields = {"table": what, "net": "conv"}
            mine = rows.ours("median_ms", "training", allocator, **fields)
            value, who = rows.least("median_ms", EAGER, "training", allocator, **fields)
            work = f"conv net, {'training step' if what == 'train' else 'inference'}, {words}"
            add(
                work,
                f"the fastest peer ({who})",
                f"×{aim:g}",
                f"{mine:.1f} ms against {value:.1f} ms, ×{value / mine:.2f}",
                value / mine >= aim,
            )
            if what == "train":
                ann, _ = rows.least("median_ms", ("ANN, ReLU, T x N",), "training", allocator, **fields)
                add(
                    work,
                    "the ANN with T x N samples",
                    "×1.05 of its time at most",
                    f"{mine:.1f} ms against {ann:.1f} ms, ×{mine / ann:.2f}",
                    mine / ann <= 1.05,
                )
    fields = {"table": "memory", "net": "conv"}
    mine = rows.ours("peak_mb", "training", "default", **fields)
    value, who = rows.least("peak_mb", EAGER, "training", "default", **fields)
    add(
        "conv net, peak of training",
        f"the leanest peer ({who})",
        "half",
        f"{mine:.0f} MB against {value:.0f} MB",
        mine <= value / 2,
    )
    return result
