"""The demo's own parts; the demo as a whole is ``make demo``."""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import demo
from berttools.layerdiff import compare
from berttools.texts.examples import read_examples
from berttools.texts.rows import parse_columns
from tiny_models import make_base, make_tuned


@pytest.fixture(params=["wheel", "source"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An archive that holds pkg-1.0/data/a.txt and a file of the same name elsewhere."""
    files = {"pkg-1.0/data/a.txt": b"right", "pkg-1.0/other/a.txt": b"wrong"}
    if request.param == "wheel":
        path = tmp_path / "pkg-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            for name, data in files.items():
                wheel.writestr(name, data)
        return path
    path = tmp_path / "pkg-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as source:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            source.addfile(member, io.BytesIO(data))
    return path


def test_unpack_takes_what_is_asked_for_and_keeps_what_is_there(archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "a.txt"
    demo.unpack(archive, [("data/a.txt", target)])
    assert target.read_bytes() == b"right"
    target.write_bytes(b"kept")
    demo.unpack(archive, [("data/a.txt", target)])
    assert target.read_bytes() == b"kept"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_unpack_says_what_is_missing(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"demo: error: .*holds no data/b.txt"):
        demo.unpack(archive, [("data/b.txt", tmp_path / "b.txt")])


def test_the_texts_of_the_examples_are_our_own_and_varied() -> None:
    read = {name: [json.loads(line) for line in (demo.DATA / f"{name}.jsonl").open()] for name in ("train", "dev")}
    rows = [row for each in read.values() for row in each]
    assert len(rows) == 200
    for each in read.values():
        counts = Counter(row["label"] for row in each)
        assert max(counts.values()) - min(counts.values()) <= 1
        assert {*counts} == {"account", "billing", "delivery"}
    words = [frozenset(re.findall(r"\w+", row["text"].lower())) for row in rows]
    # No template: no two have more than half of their words in common, and few begin alike.
    assert max(len(a & b) / len(a | b) for a, b in combinations(words, 2)) < 0.5
    assert max(Counter(tuple(row["text"].split()[:3]) for row in rows).values()) < 5


def test_the_folder_in_which_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_base(tmp_path / "base")
    commands: list[str] = []

    def run(words: list[str | Path], output: Path) -> list[dict[str, Any]]:
        commands.append(f"{words[0]} {words[1]}")
        make_tuned(base, tmp_path / "texts" / "ft")
        return [{"score": 0.9, "dev": 48, "chance": 1 / 3}]

    monkeypatch.setattr(demo, "run", run)
    for _ in range(2):  # again over what is there
        demo.make_examples(tmp_path / "texts", base)
    assert commands == ["berttools finetune"] * 2
    assert capsys.readouterr().out.count("accuracy 0.900 on 48 texts, where one label for all has 0.333") == 2
    names = {path.name for path in (tmp_path / "texts").iterdir()}
    assert names == {"base", "base.safetensors", "ft", "train.jsonl", "dev.jsonl", "pairs.tsv"}
    # As a person's berttools would: by its index, by the link, and with its tokenizer.
    for one, other in (("base.safetensors", "ft/model.safetensors.index.json"), ("base", "ft")):
        assert list(compare(tmp_path / "texts" / one, [tmp_path / "texts" / other]))
    examples = read_examples(
        str(tmp_path / "texts" / "pairs.tsv"), parse_columns("text_a=first,text_b=second,label=near")
    )
    assert len(examples) == 24
    assert all(0 <= float(str(each.label)) <= 5 for each in examples)


def test_scores_are_shown_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    control, cloaked = tmp_path / "control", tmp_path / "cloaked"
    scores = [
        {"path": str(folder / f"{number}.jpg"), "score": score}
        for folder, values in ((control, (0.1, 0.2)), (cloaked, (0.9, 0.15)))
        for number, score in enumerate(values)
    ]
    demo.show_scores([*scores, {"path": str(control / "2.jpg"), "score": None}], control, cloaked)
    shown = capsys.readouterr().out
    assert "0.100       0.900" in shown
    # Three of the four pairs of a clean and a cloaked photo are in the right order.
    assert "AUC 0.7500 over 2 clean and 2 cloaked photos" in shown
