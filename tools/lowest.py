"""Print the lowest versions that pyproject.toml admits: python tools/lowest.py [EXTRA...] > constraints.txt.

One line a requirement of the project and of the extras, `name==version`, as pip's `--constraint` reads them. A
requirement without a lower bound is an error: nobody could say what it was tried with.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
_LOWER = (">=", "==", "~=")


def lower_bound(requirement: Requirement) -> Version:
    """Return the lowest version that a requirement admits; a `ValueError` if it names none."""
    found = [Version(each.version) for each in requirement.specifier if each.operator in _LOWER]
    if not found:
        raise ValueError(f"{requirement}: no lower bound")
    return max(found)


def constraints(project: Mapping[str, Any], extras: Iterable[str]) -> list[str]:
    """Return the constraints of a project's table, sorted; of a package that is required twice, the higher bound."""
    lines = [*project["dependencies"], *(each for name in extras for each in project["optional-dependencies"][name])]
    bounds: dict[str, Version] = {}
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate():
            bound = lower_bound(requirement)
            bounds[requirement.name] = max(bound, bounds.get(requirement.name, bound))
    return [f"{name}=={bound}" for name, bound in sorted(bounds.items())]


def main(extras: Sequence[str]) -> None:
    """Print them."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    try:
        print("\n".join(constraints(project, extras)))
    except (KeyError, ValueError) as error:
        sys.exit(f"lowest: error: pyproject.toml: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
