"""Who imports whom: what lies below knows nothing of what lies above."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "saccade"
ABOVE = {
    "data": {"train", "compress", "experiment", "report", "cli", "models", "layers", "measure", "deploy", "dehaze"},
    "train": {"compress", "deploy", "experiment", "report", "cli", "dehaze"},
    "compress": {"deploy", "experiment", "report", "cli", "dehaze"},
    "report": {"data", "train", "models", "layers", "compress", "deploy", "experiment", "cli", "dehaze"},
    "experiment": {"cli"},
    "dehaze": {"train", "models", "layers", "neurons", "compress", "deploy", "experiment", "report", "cli"},
}


def imported(file: Path) -> set[str]:
    """The packages of ours that a file imports, wherever in it."""
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("saccade.")}


@pytest.mark.parametrize("package", ABOVE)
def test_imports_go_one_way(package):
    for file in (SOURCES / package).rglob("*.py"):
        assert not imported(file) & ABOVE[package], file


def test_scripts_do_without_the_command_line():
    for file in (ROOT / "benchmarks").glob("*.py"):
        assert "cli" not in imported(file), file
