"""The scripts of benchmarks/ are no part of a test run, but they speak today's API: all of them can be imported."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "benchmarks"
IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}")
"""


def test_scripts_can_be_imported():
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    assert names
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, *names], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
