"""The page on plugins, run as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "plugins.md").read_text(), re.DOTALL)


def test_the_page_runs(tmp_path):
    pytest.importorskip("sklearn", reason="the digits need scikit-learn")
    blocks = dict(BLOCKS)
    (tmp_path / "my_parts.py").write_text(blocks["python"])
    (tmp_path / "mine.yaml").write_text(blocks["yaml"])
    commands = blocks["sh"].strip().splitlines()
    assert len(commands) == 3
    for command in [*commands, "saccade --plugin my_parts train mine.yaml --quiet"]:
        words = command.replace('"', "").split()
        assert words[0] == "saccade"
        done = subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
    assert (tmp_path / "runs" / "mine-seed0" / "model.safetensors").exists()
