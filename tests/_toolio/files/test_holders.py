"""What a claim's file says of its holder."""

from __future__ import annotations

import os
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
