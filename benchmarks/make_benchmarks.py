"""Fill the tables of docs/benchmarks.md and draw its plots from the stored results: python benchmarks/make_benchmarks.py

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; all other text is left as it is. A page that is not
there yet is made, with all tables.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import targets

ROOT = Path(__file__).parent.parent
ALLOCATORS = {"default": "default allocator", "keep": "freed memory kept"}
DIRECTIONS = {"forward": "LIF forward", "backward": "LIF forward and backward"}
REGISTRY = ("ms_resnet18", "sew_resnet18")
OURS = "saccade"
Row = dict[str, Any]
Files = dict[tuple[str, str], dict[str, Any]]  # by script and allocator


def load(folder: Path) -> Files:
    found = {}
    for script in ("neurons", "training"):
        for allocator in ALLOCATORS:
            path = folder / f"{script}-{allocator}.json"
            if path.exists():
                found[script, allocator] = json.loads(path.read_text())
    if not found:
        raise SystemExit(f"{folder}: no results; run benchmarks/neurons.py and benchmarks/training.py first")
    return found


def rows_of(files: Files, script: str, allocator: str, table: str) -> list[Row]:
    return [row for row in files.get((script, allocator), {"rows": []})["rows"] if row["table"] == table]


def names(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["contender"] for row in rows))


def table(head: list[str], rows: list[list[str]], words: int = 1) -> str:
    """The first columns, ``words`` of them, hold words; the others numbers."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * words + "--:|" * (len(head) - words)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(value: float | None) -> str:
    """Three digits, no exponent."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def times(value: float | None, ours: float | None) -> str:
    """How many times as long as ours."""
    if not value or not ours:
        return "–"
    ratio = value / ours
    return f"×{ratio:.0f}" if ratio >= 9.95 else f"×{ratio:.1f}" if ratio >= 1.95 else f"×{ratio:.2f}"


def shown(name: str) -> str:
    return f"**{name}**" if name == OURS else f"*{name}*" if name.startswith("limit") else name


def remarks(rows: list[Row], compiled: Callable[[Row], str]) -> str:
    """What the rows say beside their times: differing dynamics and spikes, failures, compilation, spread."""
    lines = []
    for name in names(rows):
        mine = [row for row in rows if row["contender"] == name]
        notes = next((row["note"] for row in mine if row.get("note")), "")
        share = max((row.get("mismatch", 0) for row in mine), default=0)
        if share:
            notes += f"{'; ' if notes else ''}up to {share:.2%} of its spikes differ from the plain loop's"
        if notes:
            lines.append(f"{name}: {notes}.")
        reasons = dict.fromkeys(row["error"] for row in mine if "error" in row)
        lines += [f"{name}: **not measured**, {reason}." for reason in reasons]
        first = [f"{compiled(row)} {row['first_s']:.1f} s" for row in mine if row.get("compiled") and "first_s" in row]
        if first:
            lines.append(f"{name}, first call (compilation, not in its time): {', '.join(first)}.")
    spreads = sorted((r["high_ms"] - r["low_ms"]) / 2 / r["median_ms"] for r in rows if r.get("median_ms"))
    if spreads:
        nine = spreads[int(0.9 * (len(spreads) - 1))]
        lines.append(f"Half the distance between the quartiles: {nine:.1%} of the median or less in 9 of 10 cells.")
    return "\n".join(f"- {line}" for line in lines)


# The tables


def method(files: Files) -> str:
    lines = []
    for (script, allocator), found in files.items():
        machine, versions = found["machine"], found["versions"]
        peers = ", ".join(f"{name} {value or 'missing'}" for name, value in versions.items())
        lines.append(
            f"- `{script}-{allocator}.json`: `{found['command']}`, commit {found['commit'][:12]}"
            f"{' with uncommitted changes' if found['dirty'] else ''}, {found['date'][:10]}. {machine['cpu']}, "
            f"{found['threads']} of {machine['cores']} cores, {', '.join(machine['caches'])}, {machine['memory_gib']:g} GiB; "
            f"{machine['os']}, Python {machine['python']}; {peers}."
            + (" **A quick run, to try the script: its numbers mean nothing.**" if found["quick"] else "")
        )
    return "\n".join(lines)


def column(row: Row) -> str:
    return f"{row['shape']} T={row['T']}"


def layer_table(files: Files, direction: str, allocator: str) -> str:
    rows = rows_of(files, "neurons", allocator, direction)
    cells = {(row["contender"], column(row)): row.get("median_ms") for row in rows}
    columns = list(dict.fromkeys(map(column, rows)))

    def cell(name: str, where: str) -> str:
        value = cells.get((name, where))
        ratio = "" if name == OURS or value is None else f" ({times(value, cells.get((OURS, where)))})"
        return number(value) + ratio

    body = [[shown(name), *(cell(name, where) for where in columns)] for name in names(rows)]
    return table(["ms", *columns], body) + "\n\n" + remarks(rows, column)


def small_table(files: Files) -> str:
    found = {a: rows_of(files, "neurons", a, "small") for a in ALLOCATORS}
    value = {(a, row["contender"]): row.get("median_ms") for a, rows in found.items() for row in rows}
    every = [row for rows in found.values() for row in rows]
    body = []
    for name in names(every):
        cells = [shown(name)]
        for a in (a for a in ALLOCATORS if found[a]):
            ms = value.get((a, name))
            cells += [number(ms * 1e3 if ms else None), times(ms, value.get((a, OURS)))]
        body.append(cells)
    head = [cell for a, words in ALLOCATORS.items() if found[a] for cell in (f"µs, {words}", "")]
    return table(["forward + backward", *head], body)


def memory_table(files: Files) -> str:
    found = {a: rows_of(files, "neurons", a, "memory") for a in ALLOCATORS}
    have = [a for a in ALLOCATORS if found[a]]
    body = []
    for name in names([row for a in have for row in found[a]]):
        mine = {a: next((row for row in found[a] if row["contender"] == name), {}) for a in have}
        first = mine[have[0]]
        cells = [row["peak_mb"] / row["input_mb"] if "peak_mb" in row else None for row in mine.values()]
        cells += [first[key] / first["input_mb"] if key in first else None for key in ("tensors_mb", "kept_mb")]
        body.append([shown(name), *map(number, cells)])
    head = [*(f"peak of the process, {ALLOCATORS[a]}" for a in have), "peak of its tensors", "kept for backward"]
    return table(["times the input", *head], body) if have else ""


def net_table(files: Files, nets: tuple[str, ...], allocator: str) -> str:
    both = {what: rows_of(files, "training", allocator, what) for what in ("train", "inference")}
    rows = [row for found in both.values() for row in found if row["net"] in nets]
    memory = {r["contender"]: r.get("peak_mb") for r in rows_of(files, "training", allocator, "memory")}
    body = []
    for net in nets:
        for name in names([row for row in rows if row["net"] == net]):
            cells = [shown(name)] if len(nets) == 1 else [f"`{net}`", shown(name)]
            for what, found in both.items():
                of_net = [row for row in found if row["net"] == net]
                value = {row.get("layout"): row.get("median_ms") for row in of_net if row["contender"] == name}
                ours, best = fastest(of_net, OURS), fastest(of_net, name)
                cells += [number(value.get("contiguous")), number(value.get("channels_last")), times(best, ours)]
                if what == "train":
                    loss = [r["loss"] for r in of_net if r["contender"] == name and "loss" in r]
                    cells += [f"{loss[0]:.4f}" if loss else "–"]
            body.append(cells + ([number(memory.get(name))] if len(nets) == 1 else []))
    head = ["net", ""] if len(nets) > 1 else [""]
    words = len(head)
    for what in ("training step", "inference"):
        head += [f"{what}, ms", f"{what}, channels last, ms", "the faster, to saccade's"]
    head.insert(words + 3, "loss of step 1")
    head += ["peak of training, MB"] if len(nets) == 1 else []
    said = remarks(rows, lambda row: f"{row['table']}, {row['layout'].replace('_', ' ')}")
    return table(head, body, words) + "\n\n" + said


def fastest(rows: list[Row], name: str) -> float | None:
    return min((row["median_ms"] for row in rows if row["contender"] == name and "median_ms" in row), default=None)


def tables(files: Files) -> dict[str, tuple[str, str]]:
    """Heading and text of every table that has results, by name."""
    head = ["work", "against", "aim", "measured", "reached"]
    aims = table(head, targets.table(files), words=len(head))
    found = {"targets": ("What was aimed at", aims), "method": ("Method", method(files))}
    layers = {a: words for a, words in ALLOCATORS.items() if ("neurons", a) in files}
    nets = {a: words for a, words in ALLOCATORS.items() if ("training", a) in files}
    for direction, what in DIRECTIONS.items():
        for a, words in layers.items():
            found[f"{direction}-{a}"] = (f"{what}, {words}", layer_table(files, direction, a))
    if layers:
        found["small"] = ("Small tensors", small_table(files))
        found["memory"] = ("Memory of a layer", memory_table(files))
    for name, what, which in (("conv", "Conv net", ("conv",)), ("registry", "Registry models", REGISTRY)):
        for a, words in nets.items():
            if not any(row["net"] in which for row in rows_of(files, "training", a, "train")):
                continue
            found[f"{name}-{a}"] = (f"{what}, {words}", net_table(files, which, a))
    return found


def fill(page: str, found: dict[str, tuple[str, str]]) -> str:
    """The page with its tables replaced; a table the page does not ask for is named."""
    for name, (_, text) in found.items():
        pattern = re.compile(rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, count = pattern.subn(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", page)
        if not count:
            print(f"the page has no place for the table {name!r}")
    return page


def blank_page(found: dict[str, tuple[str, str]]) -> str:
    parts = [f"## {heading}\n\n<!-- table: {name} -->\n<!-- end -->\n" for name, (heading, _) in found.items()]
    return "\n".join(["# Benchmarks\n", *parts])


# The plots

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
FAMILIES = {"saccade": "#2563eb", "SpikingJelly": "#ea7317", "snnTorch": "#0f9d77", "Norse": "#7c3aed"}
FAMILIES |= {"sinabs": "#d6336c", "plain": "#846358", "torch.compile": "#0c8599", "ANN": "#b3bac2", "limit": "#b3bac2"}


def colours(found: list[str]) -> dict[str, str]:
    """One colour a library; its further contenders are paler."""
    from matplotlib.colors import to_hex, to_rgb

    seen: dict[str, int] = {}
    result = {}
    for name in found:
        family = next((key for key in FAMILIES if name.startswith(key)), "ANN")
        pale = (0.0, 0.45, 0.7)[min(seen.get(family, 0), 2)]
        seen[family] = seen.get(family, 0) + 1
        result[name] = to_hex([c + (1 - c) * pale for c in to_rgb(FAMILIES[family])])
    return result


def panel(axes: Any, groups: list[str], bars: dict[str, list[float | None]], title: str, unit: str) -> None:
    """Grouped bars on a logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullLocator

    palette, width = colours(list(bars)), 0.86 / max(1, len(bars))
    for i, (name, values) in enumerate(bars.items()):
        at = [(g + (i - (len(bars) - 1) / 2) * width, v) for g, v in enumerate(values) if v]
        hatch = "////" if name.startswith("limit") else None
        style = {"color": palette[name], "label": name, "hatch": hatch, "edgecolor": "white", "linewidth": 0.4}
        drawn = axes.bar([x for x, _ in at], [v for _, v in at], width, **style)
        if len(groups) * len(bars) < 40:
            axes.bar_label(drawn, [number(v) for _, v in at], fontsize=6.5, color=INK, padding=1)
    every = [v for values in bars.values() for v in values if v]
    axes.set_yscale("log")
    axes.set_ylim(min(every) / 2, max(every) * 1.3)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.set_xticks(range(len(groups)), groups)
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_ylabel(unit, color=INK)
    axes.grid(True, axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)


def draw(path: Path, panels: list[tuple[str, list[str], dict[str, list[float | None]]]], unit: str) -> None:
    """Nothing where there is nothing to draw."""
    from matplotlib.figure import Figure

    panels = [one for one in panels if one[2]]
    if not panels:
        return
    figure = Figure(figsize=(11, 3.3 * len(panels) + 0.9), layout="constrained", dpi=110)
    found = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axes, (title, groups, bars) in zip(found, panels, strict=True):
        panel(axes, groups, bars, title, unit)
    figure.legend(*found[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"drawn: {path}")


def layer_plot(files: Files, direction: str, words: str, path: Path) -> None:
    panels = []
    for a in (a for a in ALLOCATORS if ("neurons", a) in files):
        rows = rows_of(files, "neurons", a, direction)
        groups = list(dict.fromkeys(map(column, rows)))
        cells = {(row["contender"], column(row)): row.get("median_ms") for row in rows}
        bars = {name: [cells.get((name, g)) for g in groups] for name in names(rows)}
        panels.append((f"{words}, {ALLOCATORS[a]}", groups, bars))
    draw(path, panels, "ms (log)")


def memory_plot(files: Files, path: Path) -> None:
    kinds = {"peak_mb": "peak of the process", "tensors_mb": "peak of its tensors", "kept_mb": "kept for backward"}
    panels = []
    for a in (a for a in ALLOCATORS if ("neurons", a) in files):
        rows = [row for row in rows_of(files, "neurons", a, "memory") if "peak_mb" in row]
        bars = {row["contender"]: [row[kind] / row["input_mb"] for kind in kinds] for row in rows}
        panels.append((f"Memory of a layer, forward and backward, {ALLOCATORS[a]}", list(kinds.values()), bars))
    draw(path, panels, "times the input (log)")


def net_plot(files: Files, what: str, words: str, nets: tuple[str, ...], path: Path) -> None:
    found = {a: rows_of(files, "training", a, what) for a in ALLOCATORS if ("training", a) in files}
    of = {(net, a): [row for row in rows if row["net"] == net] for net in nets for a, rows in found.items()}
    of = {group: rows for group, rows in of.items() if rows}
    every = names([row for rows in of.values() for row in rows if "median_ms" in row])
    bars = {name: [fastest(rows, name) for rows in of.values()] for name in every}
    groups = [f"{net}, {ALLOCATORS[a]}" for net, a in of]
    draw(path, [(f"{words}, the faster of the two memory formats", groups, bars)], "ms (log)")


def plots(files: Files, folder: Path) -> None:
    for direction, words in DIRECTIONS.items():
        layer_plot(files, direction, words, folder / f"benchmark-{direction}.png")
    memory_plot(files, folder / "benchmark-memory.png")
    for what, words in (("train", "A training step"), ("inference", "Inference")):
        net_plot(files, what, words, ("conv",), folder / f"benchmark-{what}.png")
        net_plot(files, what, words, REGISTRY, folder / f"benchmark-{what}-registry.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "benchmarks")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    options = parser.parse_args()
    files = load(options.results)
    found = tables(files)
    page = options.page.read_text() if options.page.exists() else blank_page(found)
    aside = options.page.with_name(options.page.name + ".part")
    aside.write_text(fill(page, found))
    os.replace(aside, options.page)
    print(f"written: {options.page}")
    plots(files, options.page.parent / "images")


if __name__ == "__main__":
    main()
