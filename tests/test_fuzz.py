"""A few rounds of every script in ``fuzz/``; ``make fuzz`` runs as many as there is time for."""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType

import pytest

from fuzzing import load_script
from guided_fuzzing import Drawn

SCRIPTS = sorted((Path(__file__).parent / "fuzz").glob("inputs_*.py"))
ROUNDS = 60


@pytest.fixture(scope="module", params=SCRIPTS, ids=lambda path: path.stem)
def script(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return load_script(request.param, tmp_path_factory.mktemp("fuzz"))


def test_damaged_inputs(script: ModuleType) -> None:
    assert len({script.try_one(random.Random(seed)) for seed in range(ROUNDS)}) > 1


def test_inputs_that_bytes_decide(script: ModuleType) -> None:
    drawn = [Drawn(random.Random(seed).randbytes(seed)) for seed in range(ROUNDS)]
    assert len({script.try_one(rng) for rng in drawn}) > 1


def test_what_is_drawn_from_bytes() -> None:
    rng = Drawn(b"\x05\x80abc\xff")
    assert (rng.choice("abcdefgh"), rng.random(), rng.randbytes(3), rng.getrandbits(4)) == ("f", 0.5, b"abc", 15)
    # Behind the end, what all bytes decide.
    first, second, other = ([each.random() for _ in range(3)] for each in (Drawn(b"x"), Drawn(b"x"), Drawn(b"y")))
    assert first == second
    assert first[1:] != other[1:]
    assert len(Drawn(b"long").randbytes(10_000)) == 10_000
