"""The requirements of an extra of pyproject.toml, those of the extras that it names included, one a line."""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]


def requirements(extra: str) -> list[str]:
    found = []
    for entry in PROJECT["optional-dependencies"][extra]:
        own = re.fullmatch(re.escape(PROJECT["name"]) + r"\[(.*)\]", entry)
        found += [r for name in own[1].split(",") for r in requirements(name)] if own else [entry]
    return found


if __name__ == "__main__":
    print("\n".join(dict.fromkeys(requirements(sys.argv[1]))))
