"""Fill the tables of docs/events.md and docs/sma.md from results/events: python benchmarks/make_events.py

The tables stand between <!-- NAME --> and <!-- /NAME -->; the text around them is written by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import event_tables
from markdown import fill, short, table
from training_tables import as_markdown

from saccade.events import FORMATS
from saccade.report import write_text

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "events.md"


def formats() -> str:
    rows = [
        [f"`{one.name}`", one.title, " ".join(one.suffixes), "yes" if one.write else "no"] for one in FORMATS.values()
    ]
    return table(["name", "what", "files", "written"], sorted(rows))


def speed(found: dict[str, Any]) -> str:
    """Processor time, the median of the rounds; the greatest that is not ours and gives the same events is the rival."""
    rows = []
    for name, file in found["files"].items():
        right, others = {}, []
        for reader, row in file["readers"].items():
            if "fails" in row:
                others.append(f"{reader} fails")
                continue
            value = row["processor_mevents_per_s"]["median"]
            if row["events_against_ours"] != "equal":
                others.append(f"{reader} {value:.0f}, {row['events_against_ours']}")
            elif reader != "saccade":
                right[reader] = value
        ours = file["readers"]["saccade"]
        readers = {reader: value for reader, value in right.items() if not reader.startswith("bare")}
        best = max(readers.values(), default=None)
        ratio = f"{ours['processor_mevents_per_s']['median'] / best:.2f}" if best else "-"
        said = [f"{reader} {value:.0f}" for reader, value in sorted(right.items(), key=lambda one: -one[1])]
        quartiles = "-".join(f"{value:.0f}" for value in ours["processor_mevents_per_s"]["quartiles"])
        rows.append(
            [
                name,
                f"{file['events'] / 1e6:.3g}",
                f"{ours['processor_mevents_per_s']['median']:.0f} ({quartiles})",
                f"{ours['wall_mevents_per_s']['median']:.0f}, {ours['wall_mevents_per_s']['best']:.0f}",
                ", ".join(said) or "-",
                ratio,
                "; ".join(others) or "-",
            ]
        )
    head = [
        "file",
        "10^6 events",
        "ours (quartiles)",
        "ours by the clock: median, best",
        "same events",
        "ours / fastest reader",
    ]
    machine = found["machine"]
    load = ", ".join(f"{value:.1f}" for value in machine["load_average"])
    names = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['instruction_set']}, load {load}"
    source = (
        f"\n\nMevents/s of processor time, {found['rounds']} rounds. `{found['command']}`, commit {short(found['commit'])}, "
        f"{found['date']}, {where}; {names}."
    )
    return table([*head, "other events, or none"], rows) + source


def container(found: dict[str, Any]) -> str:
    one = found["container"]
    rows = [
        ["open", f"{one['open_ms']['median']:.2f} ms", f"{one['open_ms']['worst']:.2f} ms"],
        ["10 ms, copied out", f"{one['window_ms']['median']:.3f} ms", f"{one['window_ms']['worst']:.2f} ms"],
    ]
    grown = one["more_memory_kB"]
    memory = f"the process grew by {grown['own']:.0f} kB, and mapped {grown['mapped'] / 1000:.1f} MB of the page cache"
    window = f"{one['events']:,} events, {one['events_in_10_ms']:,} of them ({one['slice_kB']:.0f} kB) in the window"
    return table(["200 times", "median", "worst"], rows) + f"\n\n{window}; {memory}."


def main() -> None:
    found = json.loads((ROOT / "results" / "events" / "decode.json").read_text())
    page = PAGE.read_text(encoding="utf-8")
    for name, text in (("formats", formats()), ("speed", speed(found)), ("container", container(found))):
        page, count = re.subn(
            f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m, t=text: f"{m[1]}{t}\n{m[2]}", page, flags=re.DOTALL
        )
        assert count == 1, name
    write_text(PAGE, page)
    tables = {name: as_markdown(event_tables.TABLES, event_tables.RESULTS, name) for name in event_tables.TABLES}
    fill(ROOT / "docs" / "sma.md", tables)


if __name__ == "__main__":
    main()
