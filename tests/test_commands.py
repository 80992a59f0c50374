"""The commands of README and tutorials, typed as they stand, in order, from what a clone holds."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from saccade.cli.main import run

pytest.importorskip("sklearn", reason="the digits need scikit-learn")
ROOT = Path(__file__).parents[1]
NOT_HERE = {  # lines that are left out, and why
    "make ": "builds an environment of its own; CI runs it",
    "pip install": "builds an environment of its own; CI runs it",
    "saccade data prepare cifar10": "fetches 170 MB",
    "saccade train syna_resnet/cifar10-or-small": "takes an hour",
    "saccade train qp_snn/cifar10": "takes a quarter of an hour",
    "saccade train s2nn/cifar10": "takes half an hour",
    "saccade dehaze run 0": "needs a camera",
    "saccade dehaze bench": "takes a minute, and is measured with nothing else running",
    "python benchmarks/": "takes long; benchmarks have tests of their own",
}


@pytest.fixture
def clone(tmp_path):
    """What a user has after cloning, as far as commands name it."""
    for name in ("examples", "checkpoints"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def blocks(page: Path) -> list[tuple[str, str]]:
    """The page's sh and python blocks, in order."""
    return re.findall(r"^```(sh|python)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def typed(line: str) -> None:
    """One line of a shell. ``# exit N`` says that it ends with that code."""
    command, _, words = line.partition(" #")
    expected = int(match[1]) if (match := re.search(r"exit (\d+)", words)) else 0
    program, *arguments = shlex.split(command)
    assert program == "saccade", f"{line}: not a command of ours; run it or say in NOT_HERE why not"
    assert run(arguments) == expected, line


def run_page(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, python: bool = True) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == "examples"]:
        monkeypatch.delitem(sys.modules, name)
    module = types.ModuleType("tutorial")
    monkeypatch.setitem(sys.modules, "tutorial", module)
    count = 0
    for number, (language, text) in enumerate(blocks(page), 1):
        if language == "python" and not python:
            continue  # tests/test_docs.py runs those
        if language == "python":
            exec(compile(text, f"{page.name}, block {number}", "exec"), vars(module))
            continue
        for line in text.splitlines():
            if line.strip() and not line.startswith(tuple(NOT_HERE)):
                typed(line)
                count += 1
    return count


def test_readme(clone, monkeypatch):
    assert run_page(ROOT / "README.md", clone, monkeypatch) >= 15


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "tutorials").glob("*.md")), ids=lambda page: page.stem)
def test_tutorials(page, clone, monkeypatch):
    from saccade.models import MODELS

    if page.stem == "through-haze":
        pytest.importorskip("cv2", reason="needs the extra dehaze")
    monkeypatch.setattr(MODELS, "_values", dict(MODELS._values))
    assert run_page(page, clone, monkeypatch) >= 3


@pytest.mark.parametrize(("page", "least"), [("compression", 6), ("dehaze", 10), ("deploy-c", 4), ("migrating", 1)])
def test_pages(page, least, clone, monkeypatch):
    if page == "dehaze":
        pytest.importorskip("cv2", reason="needs the extra dehaze")
    assert run_page(ROOT / "docs" / f"{page}.md", clone, monkeypatch, python=False) >= least


def test_what_is_left_out_is_still_a_command():
    """Lines that no test runs at least name a command, its options and a recipe that are there."""
    lines = [line for line in "\n".join(text for _, text in blocks(ROOT / "README.md")).splitlines()]
    left = [line for line in lines if line.startswith(tuple(NOT_HERE)) and line.startswith("saccade")]
    assert len(left) == 2
    for line in left:
        words = shlex.split(line.partition(" #")[0])[1:]
        group = 2 if words[0] in ("data", "compress", "dehaze") else 1
        shown = [sys.executable, "-m", "saccade", *words[:group], "--help"]
        text = subprocess.run(shown, capture_output=True, text=True, timeout=60).stdout
        assert all(word in text for word in words if word.startswith("--"))
        if words[0] == "train":
            from saccade.experiment import load_recipe

            load_recipe(words[1])
