"""The paper as a Makefile, on a few people."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import example_makefiles
from example_makefiles import needs_make

pytestmark = needs_make
SMALL = {
    "DATA": "people",
    "MIN": "2",
    "GALLERY": "5",
    "PHOTOS": "2",
    "PROTECTED": "2",
    "PUBLIC": "7",
    "ATTACKS": "lowkey",
    "OPTIONS_lowkey": "--attack lowkey --set steps=2",
    "LEARN": "lowkey",
    "FOLDS": "2",
    "LEARN_lowkey": "7",
    "CLASSIFIERS": "nn",
    "COUNTERS": "none jpeg:75",
    "HYBRIDS": "top2",
    "ROBUST": "--epochs 1 --held-out 0.4 --max-clean-loss 100",
}
"""Two people protected of five; everybody else is public."""
make = partial(example_makefiles.make, "face-poisoning.mk", small=SMALL)


def times(folder: Path) -> dict[str, int]:
    made = (
        "protected/.made",
        "others/.made",
        "cloaks/lowkey.jsonl",
        "robust-dlib-resnet.jsonl",
        "results/lowkey.robust-dlib-resnet.jsonl",
    )
    return {name: (folder / "work" / name).stat().st_mtime_ns for name in made}


def test_the_paper_on_a_few_people(real_people: dict[str, list[bytes]], tmp_path: Path, warm_tools: Path) -> None:
    for name, photos in real_people.items():
        # One has photos below face/, as FaceScrub does, and one a blank in the name.
        folder = tmp_path / "people" / name.replace("_", " ", 1) / ("face" if name < "Ab" else ".")
        folder.mkdir(parents=True)
        for number, photo in enumerate(photos):
            (folder / f"{number}.jpg").write_bytes(photo)
    done = make(tmp_path, "-j2", tools=warm_tools)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "report" / "index.html").is_file()
    summaries = {}
    for path in (tmp_path / "work" / "results").glob("*.jsonl"):
        for record in map(json.loads, path.read_text().splitlines()):
            if "error" not in record and record["person"] is None:
                summaries[path.stem, record["classifier"], record["preprocess"]] = record
    assert set(summaries) == {
        ("lowkey.dlib-resnet", "nn", "none"),
        ("lowkey.robust-dlib-resnet", "nn", "none"),
        *(("lowkey.counter", "nn", step) for step in ("none", "jpeg:75")),
        ("lowkey.hybrid-dlib-resnet", "top2", "none"),
    }
    assert {record["people"] for record in summaries.values()} == {2}
    # The same photos by two ways: as embeddings, and as photos.
    same = ("protection", "floor", "others_accuracy")
    ways = [summaries[way, "nn", "none"] for way in ("lowkey.dlib-resnet", "lowkey.counter")]
    assert [ways[0][key] for key in same] == [ways[1][key] for key in same]
    # Nothing has changed: nothing is made.
    before = times(tmp_path)
    again = make(tmp_path)
    assert again.returncode == 0, again.stderr
    assert "facetools" not in again.stdout
    # A photo of somebody who is protected has changed: who is public has nothing to do with it.
    changed = next(path for path in (tmp_path / "work" / "protected").rglob("*.jpg"))
    original = next(path for path in (tmp_path / "people").rglob("*.jpg") if path.samefile(changed))
    os.utime(original)
    partly = make(tmp_path, "work/cloaks/lowkey.jsonl", "work/robust-dlib-resnet.jsonl", tools=warm_tools)
    assert partly.returncode == 0, partly.stderr[-2000:]
    after = times(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"protected/.made", "cloaks/lowkey.jsonl"}


def test_photos_of_one_name_never_replace_each_other(real_people: dict[str, list[bytes]], tmp_path: Path) -> None:
    for name, photos in real_people.items():
        for folder, photo in zip(("one", "two"), photos, strict=True):
            (tmp_path / "people" / folder / name).mkdir(parents=True)
            (tmp_path / "people" / folder / name / "same.jpg").write_bytes(photo)
    done = make(tmp_path, "work/gallery/.made")
    assert done.returncode == 2
    assert "are called same.jpg; rename" in done.stderr
    for name, photos in real_people.items():
        for folder, photo in zip(("one", "two"), photos, strict=True):
            assert (tmp_path / "people" / folder / name / "same.jpg").read_bytes() == photo


def test_data_without_photos_is_told(tmp_path: Path) -> None:
    (tmp_path / "people").mkdir()
    done = make(tmp_path)
    assert done.returncode == 2
    assert "no photos in people; give DATA=folder or DATA=file.tar" in done.stderr
