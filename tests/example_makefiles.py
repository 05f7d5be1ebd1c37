"""Run the Makefiles of examples/ as a person would, made small."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from conftest import ROOT

needs_make = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("make", "awk", "sha256sum")), reason="make, awk or sha256sum is missing"
)


def make(
    example: str, folder: Path, *words: str, small: Mapping[str, str], tools: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run make in a folder.

    Parameters
    ----------
    example
        Name of the Makefile.
    folder, words
        Where to run it, and more arguments.
    small
        Its variables.
    tools
        A folder that comes first on the PATH.
    """
    path = os.pathsep.join(str(each) for each in (tools, Path(sys.executable).parent, os.environ["PATH"]) if each)
    # Whoever runs the tests by make has set variables that would make this one a part of that run.
    environ = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        ["make", "-f", str(ROOT / "examples" / example), *(f"{key}={value}" for key, value in small.items()), *words],
        cwd=folder,
        env={**environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
