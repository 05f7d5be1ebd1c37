"""What the shipped detector is made and measured with: whose photos, the figures, changed photos."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import detector_cloaks
import detector_figures
from change_photos import main as change_photos
from conftest import faceless
from detector_figures import CLEAN, CROPS, Scored

# ---------------------------------------------------------------- figures


def scored(*faces: tuple[float, str, str | None]) -> Scored:
    """Scores, people and attacks of faces, at a threshold of a half."""
    scores, people, attacks = zip(*faces, strict=True)
    return Scored(np.array(scores), list(people), list(attacks), 0.5)


def test_the_figures_of_cloaks_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    found = {
        # One false alarm of four.
        CLEAN: scored((0.1, "a", None), (0.2, "a", None), (0.3, "b", None), (0.6, "b", "opom")),
        CROPS: scored((0.55, "a", "lowkey"), (0.7, "b", "lowkey")),
        "lowkey-ten": scored((0.9, "a", "lowkey"), (0.8, "b", "lowkey")),
        # One is missed, one is named wrongly.
        "lowkey_dlib": scored((0.7, "a", "fawkes-v1.0"), (0.5, "b", "lowkey"), (0.25, "c", None)),
        "fawkes-v0.3_min": scored((0.6, "a", "fawkes-v1.0"), (0.05, "b", None)),
        "lowkey_crops": scored((0.6, "a", "lowkey"), (0.9, "b", "lowkey")),
    }
    detector_figures.cloaks_table(found)
    shown = capsys.readouterr().out
    rows = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in shown.splitlines() if line[:1] == "|"]
    bare = [[re.sub(r" \(.*\)", "", cell) for cell in row] for row in rows]
    assert bare[0] == ["cloaks", "people", "faces", "AUC", "recall", "precision", "attack named"]
    # A false alarm of 4 weighs half of what a hit of 2 does, and three quarters of what a hit of 3 does.
    assert bare[2:] == [
        ["lowkey-ten", "2", "2", "1.0000", "100.0%", f"{2 / 2.5:.1%}", "100.0%"],
        ["lowkey_dlib", "3", "3", f"{(4 + 3 + 2) / 12:.4f}", "66.7%", f"{2 / 2.75:.1%}", "50.0%"],
        ["fawkes-v0.3_min", "2", "2", f"{3.5 / 8:.4f}", "50.0%", f"{1 / 1.5:.1%}", "0.0%"],
        ["lowkey_crops", "2", "2", f"{3 / 4:.4f}", "100.0%", f"{2 / 4:.1%}", "100.0%"],
        ["fawkes-v0.3, all photos", "2", "2", f"{3.5 / 8:.4f}", "50.0%", f"{1 / 1.5:.1%}", "0.0%"],
        ["lowkey, all photos", "3", "5", f"{(8 + 9) / 20:.4f}", "80.0%", f"{4 / 5.25:.1%}", "75.0%"],
    ]
    assert "False alarms: 25.0% (" in shown
    assert ") of 4 clean faces of 2 people, 100.0% (" in shown
    assert ") of 2 clean crops, at a threshold of 0.5." in shown
    assert "over 8 faces, half of them cloaked." in shown


@pytest.mark.parametrize("kind", [*detector_cloaks.KINDS, *detector_cloaks.TEN])
def test_a_folder_of_cloaks_tells_its_attack(kind: detector_cloaks.Kind) -> None:
    assert detector_figures.attack_of(kind.name) == kind.attack


# ---------------------------------------------------------------- whose photos


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Forty people like those of LFW: with a photo, with a few, and with so many that they are kept for the figures."""
    for number in range(40):
        many = (1, 2, 1, 7, 8, 9, 10, 12)[number % 8]
        folder = tmp_path / "figures" / "lfw" / f"{many}_{number}"
        folder.mkdir(parents=True)
        for photo in range(many):
            faceless((24, 24), seed=number).save(folder / f"{photo}.jpg")
    return tmp_path


def many(photo: Path) -> int:
    """How many photos there are of whom a photo shows."""
    return int(photo.parent.name.partition("_")[0])


@pytest.fixture
def made(work: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, detector_cloaks.Kind], list[Path]]:
    """Make a kind of cloak, from the first of its list on, but for cloaking: the photos that would be."""
    monkeypatch.setattr(detector_cloaks, "run", lambda *_: [])
    photos = detector_cloaks.lists(work)

    def make(folder: str, kind: detector_cloaks.Kind) -> list[Path]:
        detector_cloaks.make(work, folder, kind._replace(first=1), photos[kind.photos], "dlib-resnet")
        return sorted((work / "sets" / kind.name).rglob("*.*"))

    return make


def test_who_is_kept_for_the_figures_is_trained_on_nowhere(
    made: Callable[[str, detector_cloaks.Kind], list[Path]],
) -> None:
    for kind in detector_cloaks.KINDS:
        photos = made("train", kind)
        # Of all 20 who may be trained on, but for those of one photo, which is in the other list.
        assert len({photo.parent.name for photo in photos}) == (10 if kind.photos == "others" else 20), kind.name
        assert max(map(many, photos)) < 8, kind.name
    for kind in detector_cloaks.TEN:
        photos = made("unseen", kind)
        assert {many(photo) for photo in photos} == {10, 12}
        assert len(photos) == 10 * 10


def test_clean_photos_and_targets_are_of_others_too(work: Path) -> None:
    photos = {name: [p for each in parts for p in each] for name, parts in detector_cloaks.lists(work).items()}
    # Of these are the clean copies, and the first ones are targets.
    for name in ("first", "second", "varied"):
        assert max(map(many, photos[name])) < 8, name
    assert [len(photos[name]) for name in ("first", "second", "varied")] == [20, 10, 20]
    assert not {*photos["public"]} & {*photos["others"]}
    assert sorted(photos["sorted"]) == sorted(photos["public"])
    assert all(photo.is_file() for each in photos.values() for photo in each)


# ---------------------------------------------------------------- changed photos


def test_copies_of_a_photo_are_changed_alike(tmp_path: Path) -> None:
    photo = faceless((40, 30))
    for name in ("clean/ann/0.jpg.png", "clean/ann/1.png", "cloaked/ann/0.png", "cloaked/bob/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        photo.save(tmp_path / name)
    (tmp_path / "clean" / "ann" / "notes.txt").write_text("no photo")
    for folder in ("clean", "cloaked"):
        change_photos("grain", tmp_path / folder, tmp_path / "grain" / folder)
        change_photos("resize:0.5", tmp_path / folder, tmp_path / "half" / folder)
    shown = {
        str(path.relative_to(tmp_path / "grain")): np.array(Image.open(path))
        for path in (tmp_path / "grain").rglob("*.png")
    }
    clean, other = shown.pop("clean/ann/0.jpg.png.png"), shown.pop("clean/ann/1.png.png")
    cloaked, bob = shown.pop("cloaked/ann/0.png.png"), shown.pop("cloaked/bob/0.png.png")
    assert not shown
    assert np.array_equal(clean, cloaked)
    assert not np.array_equal(clean, np.array(photo))
    assert not np.array_equal(clean, other)
    assert not np.array_equal(clean, bob)
    assert {Image.open(path).size for path in (tmp_path / "half").rglob("*.png")} == {(20, 15)}
    assert not list((tmp_path / "half").rglob("*.txt*"))
