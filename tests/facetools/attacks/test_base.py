"""What an attack is."""

from __future__ import annotations

from facetools.attacks.base import Method


def attack(view: object, photos: object, *, seeds: object, epsilon: float = 0.1, steps: int = 3) -> None:
    del view, photos, seeds, epsilon, steps


def test_knobs_are_what_has_a_default() -> None:
    method = Method("attack", attack)  # type: ignore[arg-type]
    assert method.knobs == {"epsilon": 0.1, "steps": 3}
    assert (method.modes, method.default_mode, method.targets, method.per_person) == ({}, None, 0, False)


def test_records_keep_the_older_name_of_a_knob_in_its_position() -> None:
    method = Method("attack", attack, older={"bound": "epsilon"})  # type: ignore[arg-type]
    assert list(method.recorded(method.knobs).items()) == [("bound", 0.1), ("steps", 3)]
    assert Method("attack", attack).recorded({"epsilon": 1}) == {"epsilon": 1}  # type: ignore[arg-type]
