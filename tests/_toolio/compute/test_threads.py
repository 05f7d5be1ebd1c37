"""Working on several items at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from _toolio.compute.threads import ordered


def test_results_come_in_order_whatever_takes_longest() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.05 if item % 3 == 0 else 0)
        return item * item

    assert list(ordered(slow_first, range(20), workers=4)) == [n * n for n in range(20)]


def test_several_are_worked_on_at_once() -> None:
    meeting = threading.Barrier(3, timeout=300)
    assert list(ordered(lambda _: meeting.wait() >= 0, range(3), workers=3)) == [True] * 3


def test_a_result_is_there_before_the_next_item() -> None:
    seen = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        assert seen.wait(10)
        yield 2

    for result in ordered(lambda item: item, items(), workers=2):
        seen.set()
        assert result in (1, 2)


def test_no_more_items_are_drawn_than_can_be_worked_on() -> None:
    drawn = []

    def items() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    hold = threading.Event()
    results = ordered(lambda item: hold.wait(10) and item, items(), workers=2)
    waiting = threading.Thread(target=lambda: next(results))
    waiting.start()
    time.sleep(0.3)
    assert len(drawn) <= 8
    hold.set()
    waiting.join()


@pytest.mark.parametrize("place", [0, 3])
def test_an_error_is_raised_in_its_place(place: int) -> None:
    def fail(item: int) -> int:
        if item == place:
            raise ValueError("broken")
        return item

    results, got = ordered(fail, range(6), workers=2), []
    with pytest.raises(ValueError, match="broken"):
        for result in results:
            got.append(result)
    assert got == list(range(place))


def test_an_error_of_the_items_is_raised_after_what_came_before() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    results = ordered(lambda item: item, items(), workers=2)
    assert next(results) == 1
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_threads_end_when_nobody_asks_for_more() -> None:
    before = threading.active_count()
    results = ordered(lambda item: item, iter(int, 1), workers=2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 300
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= before
