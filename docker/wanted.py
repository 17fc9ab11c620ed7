"""What a pyproject.toml asks for, a requirement per line: an image installs that before the code, in a layer of its own.

    python wanted.py pyproject.toml [EXTRA ...]
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def wanted(pyproject: Path, extras: list[str]) -> list[str]:
    """Its dependencies, then those of its extras, as they are written. Raises KeyError for an extra that it has not."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    return [*project["dependencies"], *(each for extra in extras for each in project["optional-dependencies"][extra])]


if __name__ == "__main__":
    print("\n".join(wanted(Path(sys.argv[1]), sys.argv[2:])))  # noqa: T201 (what this program is for)
