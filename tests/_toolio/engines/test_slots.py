"""Which actor a call goes to."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from _toolio.engines.slots import Slots


class EndedError(Exception):
    """Raised instead of waiting."""


def refuse() -> None:
    raise EndedError


def patient() -> None:
    """Wait on."""


def slots_of(*actors: str) -> Slots[str]:
    slots: Slots[str] = Slots(2)
    for actor in actors:
        slots.add(actor)
    return slots


def test_a_call_goes_to_the_least_busy() -> None:
    slots = slots_of("a", "b")
    assert [slots.take(refuse) for _ in range(4)] == ["a", "b", "a", "b"]
    with pytest.raises(EndedError):
        slots.take(refuse)
    slots.give("b")
    assert slots.take(refuse) == "b"


def test_whoever_is_alone_gets_every_call_and_gives_them_back() -> None:
    slots = slots_of("a")
    assert slots.take_alone(refuse) == "a"
    with pytest.raises(EndedError):
        slots.take(refuse)
    slots.give("a", 2)
    assert [slots.take(refuse) for _ in range(2)] == ["a", "a"]
    with pytest.raises(EndedError):
        slots.take_alone(refuse)
    slots.give("a")
    assert slots.take(refuse) == "a", "it is kept for nobody who has left"


def test_what_is_waited_for_alone_is_given_nothing_else() -> None:
    slots = slots_of("a", "b")
    assert {slots.take(refuse), slots.take(refuse)} == {"a", "b"}
    waiting = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        alone = pool.submit(slots.take_alone, waiting.set)
        assert waiting.wait(60)
        kept = next(iter(slots._kept))
        other = "b" if kept == "a" else "a"
        assert slots.take(refuse) == other
        with pytest.raises(EndedError):
            slots.take(refuse)
        slots.give(kept)
        assert alone.result(60) == kept
    slots.give(kept, 2)
    assert slots.take(refuse) == kept


def test_two_that_want_to_be_alone_get_an_actor_each() -> None:
    slots = slots_of("a", "b")
    assert {slots.take_alone(refuse), slots.take_alone(refuse)} == {"a", "b"}
    with ThreadPoolExecutor(1) as pool:
        third = pool.submit(slots.take_alone, patient)
        time.sleep(0.1)
        slots.give("b", 2)
        assert third.result(60) == "b"


def test_another_is_taken_for_one_that_is_lost_meanwhile() -> None:
    slots = slots_of("a")
    assert slots.take(refuse) == "a"
    with ThreadPoolExecutor(1) as pool:
        alone = pool.submit(slots.take_alone, patient)
        time.sleep(0.1)
        assert slots.remove("a")
        assert not slots.remove("a")
        slots.give("a")
        slots.add("b")
        assert alone.result(60) == "b"
    assert slots._kept == set()


def test_an_error_is_raised_wherever_an_actor_is_asked_for() -> None:
    slots: Slots[str] = Slots(2)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, patient) for ask in (slots.take, slots.take_alone)]
        time.sleep(0.1)
        slots.fail(ValueError("no actor comes up"))
        for each in asked:
            with pytest.raises(ValueError, match="no actor comes up"):
                each.result(60)
