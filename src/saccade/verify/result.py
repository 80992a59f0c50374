"""What a verification found."""

from __future__ import annotations

import io
import shutil
from dataclasses import asdict, dataclass, field
from typing import Any

STATUSES = ("PASS", "FAIL", "WARN", "SKIP")


@dataclass(frozen=True)
class Check:
    """One row: ``layer`` is the path of the module at fault ("(model)" for the model itself), where there is one."""

    name: str
    status: str
    detail: str
    layer: str = ""

    def __post_init__(self) -> None:
        assert self.status in STATUSES, self.status


@dataclass
class Verification:
    """The checks of one model, in the order in which they ran; ``rates``: how often each layer of neurons fires."""

    model: str
    inputs: list[str]
    checks: list[Check] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """No check failed. Warnings and skipped checks do not count against a model; the table shows them."""
        return all(check.status != "FAIL" for check in self.checks)

    def __getitem__(self, name: str) -> Check:
        """The check of a name. Raises KeyError if there is none."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def table(self, width: int | None = None) -> str:
        """The checks as text, no wider than ``width`` (default: the terminal, at most 120)."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        width = max(width or min(shutil.get_terminal_size((120, 24)).columns, 120), 40)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("check", "result", "layer"):
            table.add_column(name, overflow="fold")
        table.add_column("detail", overflow="fold", ratio=1)
        for check in self.checks:
            table.add_row(check.name, check.status, check.layer, check.detail)
        out = io.StringIO()
        console = Console(file=out, width=width, force_terminal=False, highlight=False, markup=False, emoji=False)
        console.print(f"{self.model}; {', '.join(self.inputs)}; float64")
        console.print(table)
        failed = [check.name for check in self.checks if check.status == "FAIL"]
        console.print(f"FAILED: {', '.join(failed)}" if failed else "passed")
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines())

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "inputs": self.inputs,
            "passed": self.passed,
            "checks": [asdict(check) for check in self.checks],
            "rates": self.rates,
        }
