"""A few rounds of every script in ``fuzz/``; ``make fuzz`` runs as many as there is time for."""

from __future__ import annotations

import random
import runpy
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent / "fuzz").glob("inputs_*.py"))
ROUNDS = 60


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_damaged_inputs(script: Path) -> None:
    try_one = runpy.run_path(str(script))["try_one"]
    ends = {try_one(random.Random(seed)) for seed in range(ROUNDS)}
    assert len(ends) > 1
