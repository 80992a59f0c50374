"""The tables of docs/benchmarks.md about inference, from results/benchmarks/inference.json.

python benchmarks/make_inference.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from inference import RATES
from inference_nets import WIDTHS
from markdown import short, table

ROOT = Path(__file__).parents[1]
PAGE, STORED = ROOT / "docs" / "benchmarks.md", ROOT / "results" / "benchmarks" / "inference.json"
CELLS = ((1, 1), (1, 2), (32, 1), (32, 2))  # pictures, threads
AIMS = {  # times as fast, at least, by width of the weights
    "SpikingJelly": dict(zip(WIDTHS, (20, None, None, None, 40), strict=True)),
    "our PyTorch eval, fused (the faster)": dict.fromkeys(WIDTHS, 14),
    "ANN PyTorch fp32": dict.fromkeys(WIDTHS, 6),
    "ANN ONNX Runtime fp32": dict(zip(WIDTHS, (2.4, None, None, None, 5), strict=True)),
    "ANN ONNX Runtime int8": dict(zip(WIDTHS, (0.8, 0.9, 0.9, 1.1, 1.4), strict=True)),
}
Row = dict[str, Any]


def ms(row: Row | None) -> str:
    return "–" if row is None else f"{row['median_ms']:.3g} ({row['least_ms']:.3g})"


def cells(rows: list[Row], name: str) -> list[str]:
    by = {(cell["batch"], cell["threads"]): cell["rows"] for cell in rows}
    return [ms(by[where].get(name)) for where in CELLS]


def latency(record: Row) -> str:
    names = list(record["cells"][0]["rows"])
    rows = []
    for name in names:
        size, peak = record["bytes"].get(name), record["peak_mb"].get(name)
        rows.append([name, *cells(record["cells"], name), f"{size / 1e3:.0f}" if size else "–", f"{peak:.0f}"])
    for isa in ("avx2", "portable"):
        for width in ("8", "0.44"):
            both = [ms(record[isa][f"{n} threads"][f"{width} bits"]) for n in (1, 2)]
            rows.append([f"engine {width} bits, SACCADE_ISA={isa}", *both, "–", "–", "–", "–"])
    head = ("", *(f"{n} picture{'s' * (n > 1)}, {t} thread{'s' * (t > 1)}" for n, t in CELLS), "file, kB", "peak, MB")
    return table(head, rows)


def over_rate(record: Row) -> str:
    head = ("bits, one picture, 1 thread, ms", *(f"{rate} % fire" for rate in RATES))
    found = record["by_rate"]
    return table(head, ([w, *(f"{found[f'{w} bits, {r} %']['median_ms']:.3g}" for r in RATES)] for w in WIDTHS))


def chosen(record: Row) -> str:
    """How much slower the chooser's form is than the fastest single kernel, in percent of it."""
    rows = []
    for w in WIDTHS:
        line = [w]
        for r in RATES:
            start = f"{w} bits, {r} %"
            best = min(row["median_ms"] for name, row in record["by_kernel"].items() if name.startswith(f"{start}, "))
            line.append(f"{100 * (record['by_rate'][start]['median_ms'] / best - 1):+.0f} %")
        rows.append(line)
    return table(("bits", *(f"{rate} % fire" for rate in RATES)), rows)


def resnet(record: Row) -> str:
    one, two = (record[f"or_resnet18_small, {n} threads"] for n in (1, 2))
    head = ("`or_resnet18_small`, T = 4, awake, random weights", "1 thread", "2 threads")
    return table(head, ([name, ms(one[name]), ms(two[name])] for name in one))


def ratios(record: Row) -> str:
    by = {cell["threads"]: cell["rows"] for cell in record["cells"] if cell["batch"] == 1}
    rows = []
    for against, aims in AIMS.items():
        line = [against]
        for w in WIDTHS:
            found = []
            for threads in (1, 2):
                rivals = [row["median_ms"] for name, row in by[threads].items() if _same(name, against)]
                found.append(min(rivals) / by[threads][f"engine {w} bits"]["median_ms"])
            aim = f" ({aims[w]:g})" if aims[w] else ""
            line.append(", ".join(f"{ratio:.2g}" for ratio in found) + aim)
        rows.append(line)
    return table(("against, 1 thread, 2 threads (aim)", *(f"{w} bits" for w in WIDTHS)), rows)


def _same(name: str, against: str) -> bool:
    return name.startswith("PyTorch eval") if against.startswith("our") else name == against


def trained(record: Row) -> str:
    names = list(record["trained"][0]["rows"])
    head = (
        "`checkpoints/cifar10`",
        *(f"{n} picture{'s' * (n > 1)}, {t} thread{'s' * (t > 1)}" for n, t in CELLS),
        "file, kB",
    )
    sizes = record["trained_bytes"]
    return table(
        head, ([n, *cells(record["trained"], n), f"{sizes[n] / 1e3:.0f}" if n in sizes else "–"] for n in names)
    )


def made(record: Row) -> str:
    m = record["machine"]
    return (
        f"Commit {short(record['commit'])}; {m['cpu']}, {m['cores']} cores, {', '.join(record['flags'])}; load at the start "
        f"{m['load']:.2g}; trained network shown: {record['trained_pictures']}."
    )


TABLES = {
    "inference-latency": latency,
    "inference-rate": over_rate,
    "inference-chosen": chosen,
    "inference-resnet": resnet,
    "inference-ratios": ratios,
    "inference-trained": trained,
    "inference-made": made,
}


def main() -> None:
    record, text = json.loads(STORED.read_text()), PAGE.read_text()
    for mark, make in TABLES.items():
        pattern = rf"(<!-- {mark} -->\n).*?(\n<!-- end -->)"
        assert re.search(pattern, text, re.DOTALL), mark
        text = re.sub(pattern, lambda found, make=make: f"{found[1]}{make(record)}{found[2]}", text, flags=re.DOTALL)
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
