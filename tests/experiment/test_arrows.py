"""Who imports whom: what lies below knows nothing of what lies above (the contracts are in pyproject.toml)."""

import ast
import re
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]


def test_imports_go_one_way(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    code = lint_imports(config_filename="pyproject.toml", no_cache=True)
    answer = capsys.readouterr().out
    assert code == 0, answer
    assert "4 kept, 0 broken" in answer


def test_every_package_is_in_the_contract():
    """A package that no layer names would be held to nothing."""
    text = (ROOT / "pyproject.toml").read_text()
    named = text[text.index("layers = [") : text.index("\n]", text.index("layers = ["))]
    for path in (ROOT / "src" / "saccade").iterdir():
        name = path.name.partition(".")[0]
        if name not in ("__init__", "__pycache__", "_native", "_engine", "recipes", "py"):
            assert name in re.findall(r"\w+", named), f"{name}: say in pyproject.toml where it lies"


def test_scripts_do_without_the_command_line():
    for file in (ROOT / "benchmarks").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any((module or "").startswith("saccade.cli") for module in modules), file
