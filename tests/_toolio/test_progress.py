"""What a library shows of its progress."""

from __future__ import annotations

from _toolio.cli.progress import track
from _toolio.progress import Progress, no_progress


def test_items_pass_through_unchanged() -> None:
    hooks: list[Progress] = [no_progress, track]
    for progress in hooks:  # in tests stderr is no terminal
        drawn: list[int] = []
        items = (drawn.append(n) or n for n in range(3))
        passed = iter(progress(items, "doing things", 3))
        assert next(passed) == 0
        assert drawn == [0], "one at a time"
        assert list(passed) == [1, 2]
