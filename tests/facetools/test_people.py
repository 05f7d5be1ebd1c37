"""Who is in a photo."""

import numpy as np
import pytest

from facetools.people import is_held_out, person_in, person_of


@pytest.mark.parametrize(
    ("path", "relative", "person"),
    [
        ("people/ann/1.jpg", "ann/1.jpg", "ann"),
        ("people/ann/face/1.jpg", "ann/face/1.jpg", "ann"),
        ("me/1.jpg", "1.jpg", "me"),
        ("1.jpg", "1.jpg", "1"),
        ("Adam_Sandler/face/1.jpg", "face/1.jpg", "Adam_Sandler"),
        ("Adam_Sandler/face/1.jpg", "1.jpg", "Adam_Sandler"),
        ("a.tar/ann/1.jpg", "ann/1.jpg", "ann"),
    ],
)
def test_a_person_is_a_folder(path: str, relative: str, person: str) -> None:
    assert person_in(path, relative) == person


@pytest.mark.parametrize(
    ("relative", "person"),
    [
        ("Ann_Lee/0001.jpg", "Ann_Lee"),
        ("Ann_Lee/face/0001.jpg", "Ann_Lee"),
        ("lfw/Ann_Lee/0001.jpg", "Ann_Lee"),
        ("set/deep/Ann_Lee/x.y.jpg", "Ann_Lee"),
        ("ann.jpg", "ann"),
        ("ann.jpg.png", "ann"),
        ("face/ann.jpg", "ann"),
    ],
)
def test_person_of(relative: str, person: str) -> None:
    assert person_of(relative) == person


def test_a_person_is_in_the_same_part_clean_or_cloaked() -> None:
    people = [f"person {number}" for number in range(4000)] + ["\udcff"]
    clean = {name: is_held_out(person_of(f"{name}/0.jpg"), 0, 0.2) for name in people}
    cloaked = {name: is_held_out(person_of(f"{name}/0.jpg.png"), 0, 0.2) for name in people}
    assert clean == cloaked
    assert 0.17 < np.mean(list(clean.values())) < 0.23
    assert clean != {name: is_held_out(name, 1, 0.2) for name in people}
    larger = {name: is_held_out(name, 0, 0.4) for name in people}
    assert all(larger[name] for name in people if clean[name])
