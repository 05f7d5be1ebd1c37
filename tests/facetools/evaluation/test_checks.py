"""Configurations that contradict themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from _toolio.errors import ToolError, UsageError
from facetools.evaluation.checks import check_config
from facetools.evaluation.config import EmbeddingConfig, EvaluationConfig


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("people", "cloaked", "people/inside"):
        (tmp_path / name).mkdir()
    for name in ("a.jsonl", "b.jsonl", "r.safetensors"):
        (tmp_path / name).touch()


def config(gallery: str = "people", cloaked: str = "cloaked", **settings: Any) -> EvaluationConfig:
    return EvaluationConfig(gallery=gallery, cloaked=[cloaked], **settings)


def test_what_can_be_evaluated_passes() -> None:
    check_config(config())
    check_config(config("a.jsonl", "-"))
    check_config(config("people", "people", suffix="_cloaked"))
    robust = EmbeddingConfig(robust="r.safetensors", preprocess=["jpeg:75"])
    check_config(config(classifier=["top2", "nn"], embedding=robust))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (config(""), "^gallery: is empty"),
        (config(cloaked="x.tar.gz"), r"^cloaked x\.tar\.gz: of archives \.tar is read"),
        (config("-", "-"), "^gallery and cloaked: - can be given once"),
        (config("people", "./people"), r"^cloaked \./people: is the gallery;"),
        (config("people", "people/inside"), "^cloaked people/inside: lies in gallery people; .* by suffix"),
        (config("people/inside", "people"), "^gallery people/inside: lies in cloaked people;"),
        (config("people", "a.jsonl"), r"^a\.jsonl: no photos, but people has them"),
        (config(classifier=["threshold"]), "^classifier threshold: needs a robust extractor; .* with robust"),
        (config("a.jsonl", "b.jsonl", classifier=["e2e"]), "^classifier e2e: learns from photos"),
        (config("a.jsonl", "b.jsonl", embedding=EmbeddingConfig(crops=True)), "^crops: faces are found in photos"),
        (config("a.jsonl", "b.jsonl", embedding=EmbeddingConfig(min_face=20.0)), "^min_face: faces are found"),
        (config("a.jsonl", "b.jsonl", embedding=EmbeddingConfig(extractor=["x"])), "^extractor: embeddings cannot"),
        (config(embedding=EmbeddingConfig(robust="r.safetensors")), r"^robust r\.safetensors: only top2 and threshold"),
        (
            config(classifier=["top2"], embedding=EmbeddingConfig(robust="dlib-resnet")),
            "^robust dlib-resnet: is the extractor too",
        ),
    ],
)
def test_contradictions_name_the_parameter(wrong: EvaluationConfig, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_config(wrong)


def test_inputs_that_do_not_exist() -> None:
    with pytest.raises(ToolError, match="nowhere: no such file or folder") as caught:
        check_config(config(cloaked="nowhere"))
    assert caught.value.exit_code == 1


def test_shards_are_to_be_gathered(tmp_path: Path) -> None:
    (tmp_path / "0001-of-0002.done").touch()  # the marker of a shard
    with pytest.raises(ToolError, match="is a folder of shards; name the records that `facetools gather` makes of it"):
        check_config(config("a.jsonl", str(tmp_path)))
