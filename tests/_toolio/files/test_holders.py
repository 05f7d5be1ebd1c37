"""What a claim's file says of its holder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from _toolio.files import holders, temporaries


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "claim", os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


def test_what_is_signed_is_read_again(stream: int) -> None:
    assert holders.read(stream) == {}
    for dead in (["12345678", "abcdefab"], []):
        holders.sign(stream, dead)
        assert holders.read(stream)["runs"] == [*dead, temporaries.RUN]
        assert holders.lives(holders.read(stream))
        assert not holders.is_dead(holders.read(stream), locked=False)


def test_a_number_means_nothing_in_another_container() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = {**holders.about(["12345678"]), "pid": ended.pid}
    assert not holders.lives(here)
    assert holders.is_dead(here, locked=False)
    for there in ({**here, "numbers": "pid:[1]"}, {key: here[key] for key in here if key != "numbers"}):
        assert holders.lives(there)
        assert not holders.is_dead(there, locked=False)
        assert holders.is_dead(there, locked=True)  # the lock tells more than a number
