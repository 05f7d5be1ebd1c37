"""What the shipped detector is made and measured with: whose photos, the figures, changed photos."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import detector_cloaks
import detector_figures
import reference_thresholds
from change_photos import main as change_photos
from conftest import faceless

# ---------------------------------------------------------------- figures


def record(score: float, source: str, name: str, attack: str | None = None, side: float = 50) -> dict[str, object]:
    """A face of a photo of a source, at thresholds of a half and of 0.3."""
    label = "cloaked" if score >= 0.5 else "unclear" if score >= 0.3 else "clean"
    box = [0, 0, side, side - 10]
    return {"score": score, "label": label, "attack": attack, "path": f"{source}/{name}", "box": box}


def cells(shown: str, title: str) -> list[list[str]]:
    """The rows of a table, without intervals."""
    lines = shown.partition(title)[2].strip().splitlines()
    rows = [line.split("|")[1:-1] for line in takewhile(lambda line: line[:1] == "|", lines)]
    return [[re.sub(r" \(.*\)", "", cell.strip()) for cell in row] for row in rows][2:]


def test_the_figures_of_clean_photos_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ann/1.png", "ann/2.png", "bob/1.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        faceless((24, 24)).save(tmp_path / "photos" / name)
    for name in ("d.without-ann.safetensors", "d.without-bob.safetensors"):
        (tmp_path / name).write_bytes(b"")
    asked = []

    def detect(detector: Path, photos: Iterable[Path]) -> list[dict[str, object]]:
        asked.append((detector.name, [path.relative_to(tmp_path).as_posix() for path in photos]))
        scores = {"photos/ann/1.png": 0.6, "photos/ann/2.png": 0.4}
        return [
            record(scores.get(name, 0.1), str(tmp_path), name, side=500 if "bob" in name else 50)
            for name in asked[-1][1]
        ]

    monkeypatch.setattr(detector_figures, "detect", detect)
    figures = detector_figures.Figures(tmp_path)
    every = figures.clean_tables()
    shown = capsys.readouterr().out
    assert sorted(str(each["path"]) for each in every) == [
        f"{tmp_path}/photos/{name}" for name in ("ann/1.png", "ann/2.png", "bob/1.png")
    ]
    # A source's photos are scored by the detector that was trained without it, changed ones too.
    for detector, photos in asked:
        assert photos
        assert all(f"photos/{detector.split('-')[1].split('.')[0]}/" in photo for photo in photos)
    assert cells(shown, "nothing of it\n") == [
        ["ann", "2", "50.0%", "50.0%", "0.500", *["0.0%"] * 4],
        ["bob", "1", "0.0%", "0.0%", "0.100", *["0.0%"] * 4],
    ]
    assert cells(shown, "side in pixels\n") == [
        ["0 to 60", "2", "50.0%", "50.0%"],
        *([f"{low} to {high}", "0", "-", "-"] for low, high in ((60, 100), (100, 200), (200, 400))),
        ["over 400", "1", "0.0%", "0.0%"],
    ]


def test_a_site_reduces_wide_photos_alone() -> None:
    wide = detector_figures.site(np.zeros((30, 2160, 3), np.uint8))
    assert wide.shape == (15, 1080, 3)
    assert detector_figures.site(np.zeros((30, 1080, 3), np.uint8)).shape == (30, 1080, 3)


# ---------------------------------------------------------------- whose photos


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A source of people with one to nine photos, and a folder of two collections, one with cloaked photos too."""
    for number, photos in enumerate((1, 2, 7, 8, 9)):
        folder = tmp_path / "inputs" / "lfw.tar" / "lfw" / f"person{number}"
        folder.mkdir(parents=True)
        for photo in range(photos):
            faceless((24, 24), seed=number).save(folder / f"{photo}.jpg")
    for name in ("web/a.jpg", "web/b.png", "web/notes.txt", "studio/clean/c.jpg", "studio/fawkes-high/c.jpg"):
        path = tmp_path / "inputs" / "photos.tar" / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("no photo")
        else:
            faceless((24, 24)).save(path)
    return tmp_path


def test_who_is_kept_for_the_figures_is_trained_on_nowhere(work: Path) -> None:
    laid = detector_cloaks.lay_out(work, ["fawkes-high"])
    plain = [photo for photo in laid["lfw"] if "varied" not in photo]
    # Everybody's first photo comes before anybody's second; who has eight or more has none.
    assert {photo.split("/")[1] for photo in plain} == {"person0", "person1", "person2"}
    assert len({photo.split("/")[1] for photo in plain[:3]}) == 3
    assert len(plain) == 1 + 2 + 7
    assert {photo.split("/")[2] for photo in laid["lfw"] if "varied" in photo} <= {"person0", "person1", "person2"}
    assert (sorted(laid["web"]), laid["studio"]) == (["web/a.jpg", "web/b.png"], ["studio/clean/c.jpg"])
    assert all((work / "photos" / photo).is_file() for photos in laid.values() for photo in photos)
    assert detector_cloaks.lay_out(work, ["fawkes-high"]) == laid


def test_every_source_has_its_share_of_every_kind(work: Path) -> None:
    laid = detector_cloaks.lay_out(work, ["fawkes-high"])
    for kind in detector_cloaks.KINDS:
        drawn = detector_cloaks.draw(kind, laid)
        assert {photo.split("/")[0] for photo in drawn} == {"lfw", "web", "studio"}
        assert len(drawn) == len(set(drawn))


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


# ---------------------------------------------------------------- thresholds by clean scores


def test_nobody_is_judged_by_their_own_clean_faces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of forty people one has clean faces above all others': false alarms, as hers are in the other half."""

    def write(name: str, scores: dict[str, list[float]], power: float = 0.9) -> Path:
        about = {"attacks": {"lowkey": 1.0}, "power": power}
        lines = [
            json.dumps({"score": score, "relative": f"x/{who}/face/{n}.png", **about})
            for who, each in scores.items()
            for n, score in enumerate(each)
        ]
        (tmp_path / name).write_text("\n".join([*lines, json.dumps({"score": None, "relative": "x/a/b.png"})]))
        return tmp_path / name

    clean = {f"p{n:02}": [n / 100, n / 100 + 0.001] for n in range(39)} | {"odd": [0.8, 0.9]}
    files = [
        f"{name}={write(f'{name}.jsonl', {who: [score] for who in clean}, power)}"
        for name, score, power in (("high", 0.95, 0.9), ("middle", 0.6, 0.9), ("low", 0.0, 0.9), ("weak", 0.0, 0.0))
    ]
    reference_thresholds.main([str(write("clean.jsonl", clean)), *files])
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head == "| faces | n | 0.5% | 2.4% | 2.4%, by 40 and 40 clean faces |"
    found = {row[0]: row[1:] for row in ([cell.strip() for cell in line.split("|")[1:-1]] for line in rows)}
    assert found["clean"][:2] == ["80", "0.0% (0.0%-8.8%), 2.5%"]  # two scores lie from 0.5 to the threshold
    assert re.match(r"2\.5% \(0\.0%-7\.5%\), ", found["clean"][3])
    assert found["high"] == ["40", *["100.0% (91.2%-100.0%), 0.0%"] * 3]
    # The odd one's half is judged by the rest, the other half by hers: its middling faces are below her 0.9.
    assert re.match(r"50\.0% \(.*\), 50\.0%$", found["middle"][3])
    assert found["low"] == ["40", *["0.0% (0.0%-8.8%), 0.0%"] * 3]
    assert found["weak"] == ["40", *["0.0% (0.0%-8.8%), 100.0%"] * 3]
