"""Who is in a photo."""

import pytest

from facetools.people import person_in


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
