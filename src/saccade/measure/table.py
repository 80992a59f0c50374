"""A profile as a table that fits where it is shown."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, ConsoleOptions
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from saccade.measure.profiler import LayerRow, Profile

NARROWEST_NAME = 22
GAP = 2  # characters between two cells


@dataclass(frozen=True)
class Column:
    """A column: its heading, its cells, how early it goes where there is no room for all (0 stays)."""

    heading: str
    cells: list[str]
    goes: int
    right: bool = True

    @property
    def width(self) -> int:
        return max(map(len, (self.heading, *self.cells)))


class ProfileTable:
    """A rich renderable: numbers per sample, a unit for each column, as many columns as there is room for.

    A row for each neuron layer (silent ones marked), convolution and product, one for all layers that do neither (norms, gates,
    poolings, ...), and the total. Names that are too long lose their beginning.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        names, columns = self._columns()
        room = options.max_width - GAP
        while columns:
            width = sum(column.width + GAP for column in columns)
            most = max(column.goes for column in columns)
            if not most or width + max(map(len, names)) <= room or (most < 3 and width + NARROWEST_NAME <= room):
                break
            columns = [column for column in columns if column.goes < most]
        name_width = max(room - sum(column.width + GAP for column in columns), 8)
        profile = self.profile
        title = f"per sample, mean of {profile.samples:,}; energy: {escape(profile.convention.name)}"
        table = Table(title=title, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, GAP - 1, 0, 0))
        table.add_column("layer", no_wrap=True)
        for column in columns:
            table.add_column(column.heading, justify="right" if column.right else "left", no_wrap=True)
        for i, name in enumerate(names):
            if i == len(names) - 1:
                table.add_section()
            table.add_row(escape(_from_the_right(name, name_width)), *(escape(column.cells[i]) for column in columns))
        said = list(profile.notes)
        if profile.total().state_assumed:
            said.insert(0, "* 32 bits a neuron assumed: the module does not say what it keeps (state_spec)")
        table.caption = "\n".join(map(escape, said)) or None
        yield table

    def __str__(self) -> str:
        out = io.StringIO()
        width = shutil.get_terminal_size((100, 24)).columns
        Console(file=out, width=width, force_terminal=False, highlight=False, markup=True, emoji=False).print(self)
        return out.getvalue().rstrip("\n")

    def _columns(self) -> tuple[list[str], list[Column]]:
        profile = self.profile
        rest = profile.total(lambda row: not (row.neurons or row.input))
        rest.name = "all other layers"
        rows = [*(row for row in profile.layers if row.neurons or row.input), rest, profile.total()]
        samples = profile.samples
        kinds = [row.kind + (f" ({row.role})" if row.role else "") for row in rows]
        states = [
            f"{row.state_bytes:,}" + "*" * row.state_assumed if row.state_bytes or row.neurons else "" for row in rows
        ]
        joules = [row.energy_pj if row.energy_pj else None for row in rows]
        return [row.name + (" silent" if row.silent else "") for row in rows], [
            Column("kind", kinds, 5, right=False),
            Column("input", [row.input for row in rows], 4, right=False),
            _counts("spikes", [row.spikes / samples if row.neurons else None for row in rows], 0),
            Column("rate", [f"{row.firing_rate:.4f}" if row.neurons else "" for row in rows], 1),
            Column("per neuron", [f"{row.spikes_per_neuron:.3f}" if row.neurons else "" for row in rows], 3),
            _counts("SOPs", [row.sops / samples or None for row in rows], 0),
            _counts("MACs", [row.macs / samples or None for row in rows], 0),
            _counts("dense MACs", [row.dense_macs / samples or None for row in rows], 4),
            _counts("other ops", [_other(row) / samples or None for row in rows], 3),
            _scaled("energy", joules, (("pJ", 1.0), ("nJ", 1e3), ("µJ", 1e6), ("mJ", 1e9)), 0),
            Column("state B", states, 2),
        ]


def _other(row: LayerRow) -> int:
    return row.adds + row.mults + row.ands + row.norm + row.comparisons + row.other


def _counts(heading: str, values: Sequence[float | None], goes: int) -> Column:
    return _scaled(heading, values, (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9)), goes)


def _scaled(heading: str, values: Sequence[float | None], units: Any, goes: int) -> Column:
    """A column in one unit: the one in which the largest value has one to three digits before the point (or five, of ones)."""
    most = max((value for value in values if value is not None), default=0.0)
    unit, size = next(
        (u for u in reversed(units) if most >= u[1] * (10 if u[1] == 1e3 and not units[0][0] else 1)), units[0]
    )
    whole = size == 1.0 and not unit
    digits = 0 if whole and most >= 1000 else 1 if whole else 3
    cells = ["" if value is None else f"{value / size:,.{digits}f}" if value else "0" for value in values]
    return Column(f"{heading}, {unit}" if unit else heading, cells, goes)


def _from_the_right(name: str, width: int) -> str:
    return name if len(name) <= width else "…" + name[len(name) - width + 1 :]
