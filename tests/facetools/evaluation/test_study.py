"""Evaluations from Python, without the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from _toolio.cli.app import run_tool
from _toolio.errors import ToolError, UsageError
from embedding_files import write
from facetools.embeddings.files import read_embeddings
from facetools.evaluation.config import EvaluationConfig, ProtocolConfig
from facetools.evaluation.study import EvaluationStudy, Protection, UnusedPhoto

NAMES = [f"{person}/{number}.jpg" for person in ("ann", "bob", "cleo") for number in range(6)]


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(size=(3, 5)), 6, 0) + 0.5 * rng.normal(size=(18, 5))
    for name, moved in (("clean", 0.0), ("weak", 0.1), ("strong", 9.0)):
        write(tmp_path, name, names=NAMES, rows=(rows + moved).astype(np.float32), top=name, distance="euclidean")
    return tmp_path


def run(**settings: Any) -> list[Any]:
    return list(EvaluationStudy(EvaluationConfig(gallery="clean.jsonl", **settings)).run())


def test_results_of_each_person_then_of_all_for_each_combination(inputs: Path) -> None:
    done = run(cloaked=["weak.jsonl", "strong.jsonl"], classifier=["nn", "linear", "nn"])
    assert all(isinstance(each, Protection) and each.error is None for each in done)
    shown = [(each.combination.classifier, each.combination.cloaked, each.person) for each in done]
    groups = [("weak.jsonl",), ("strong.jsonl",), ("weak.jsonl", "strong.jsonl")]
    people = ["ann", "bob", "cleo", None]
    assert shown == [(name, group, person) for group in groups for name in ("nn", "linear") for person in people]
    summaries = {each.combination: each.fields for each in done if each.person is None}
    assert [fields["people"] for fields in summaries.values()] == [3] * 6
    weak, strong = (
        [fields["protection"] for each, fields in summaries.items() if each.cloaked == (name,)]
        for name in ("weak.jsonl", "strong.jsonl")
    )
    assert max(weak) < min(strong) == 1.0
    # A study can be run again.
    study = EvaluationStudy(EvaluationConfig(gallery="clean.jsonl", cloaked=["strong.jsonl"]))
    assert list(study.run()) == list(study.run())


def test_the_command_writes_what_the_study_yields(inputs: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    words = ["--gallery", "clean.jsonl", "--cloaked", "weak.jsonl", "--folds", "3", "--seed", "2"]
    with pytest.raises(SystemExit):
        run_tool("facetools", ["evaluate"], ["evaluate", *words])
    records = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    done = run(cloaked=["weak.jsonl"], protocol=ProtocolConfig(folds=3, seed=2))
    assert [list(record)[2:-1] for record in records] == [
        [key for key in each.fields if key != "protection"] for each in done
    ]
    assert [record["protection"] for record in records] == pytest.approx(
        [each.fields["protection"] for each in done], abs=1e-6
    )
    assert all("command" in record for record in records)


def test_copies_of_a_photo_are_no_second_photo(inputs: Path) -> None:
    rows = read_embeddings(inputs / "clean.safetensors").values.copy()
    rows[7] = rows[6]
    write(inputs, "clean", names=NAMES, rows=rows, top="clean", distance="euclidean")
    with pytest.raises(ToolError, match=r"clean/bob/0\.jpg and clean/bob/1\.jpg are one photo: a recogniser would"):
        run(cloaked=["weak.jsonl"])


def test_who_cannot_be_protected_is_a_result_with_an_error(inputs: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    write(inputs, "few", names=NAMES[:6], rows=rows, top="few", distance="euclidean")
    first, *others = run(cloaked=["few.jsonl"], protected=["bob", "ann"])
    assert (first.person, first.error.kind) == ("bob", "no-cloak")
    assert [each.person for each in others] == ["ann", None]


def test_people_are_protected_by_either_form_of_their_accents(inputs: Path) -> None:
    names = [name.replace("ann/", "Jose\u0301/") for name in NAMES]
    rows = np.random.default_rng(0).normal(size=(len(names), 5)).astype(np.float32)
    for name, moved in (("clean", 0.0), ("copies", 0.5)):
        write(inputs, name, names=names, rows=rows + moved, top=name, distance="euclidean")
    found = run(cloaked=["copies.jsonl"], protected=["Jos\u00e9", "Jose\u0301"])
    assert [each.person for each in found if isinstance(each, Protection)] == ["Jose\u0301", None]


def test_photos_without_a_counterpart_come_first(inputs: Path) -> None:
    names = [*NAMES, "dora/0.jpg"]
    rows = np.random.default_rng(1).normal(size=(19, 5)).astype(np.float32)
    write(inputs, "more", names=names, rows=rows, top="more", distance="euclidean")
    first, *others = run(cloaked=["more.jsonl"])
    assert isinstance(first, UnusedPhoto)
    assert first.fields == {"path": "more/dora/0.jpg", "input": "more.jsonl"}
    assert first.error is not None
    assert first.error.message.endswith("no clean photo of this name in clean.jsonl; add it, or give suffix")
    assert all(isinstance(each, Protection) for each in others)


def test_settings_are_checked_before_anything_is_read(inputs: Path) -> None:
    with pytest.raises(UsageError, match=r"^cloaked clean\.jsonl: is the gallery; name the cloaked copies"):
        EvaluationStudy(EvaluationConfig(gallery="clean.jsonl", cloaked=["clean.jsonl"]))
    with pytest.raises(ToolError, match=r"nowhere\.jsonl: no such file or folder"):
        EvaluationStudy(EvaluationConfig(gallery="clean.jsonl", cloaked=["nowhere.jsonl"]))


def test_parameters_are_named_as_python_names_them(inputs: Path) -> None:
    with pytest.raises(ToolError, match=r"^protected an: no such person in clean\.jsonl; is it ann\?"):
        run(cloaked=["weak.jsonl"], protected=["an"])
    with pytest.raises(ToolError, match=r"^folds 9: nobody has more than 6 photos"):
        run(cloaked=["weak.jsonl"], protocol=ProtocolConfig(folds=9))
