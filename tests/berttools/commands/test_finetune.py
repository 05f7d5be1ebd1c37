"""``berttools finetune`` and ``apply-delta``: what is written, what is the same, and bad input."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from _toolio.tensors.reader import read_metadata
from _toolio.tensors.writer import write_safetensors
from berttools.tuning import trainer as training
from conftest import Run
from several_processes import run_together
from tiny_models import (
    GLUE,
    make_base,
    make_tuned,
    minilm,
    needs_glue,
    needs_minilm,
    other_warnings,
    several,
    texts,
    write_lines,
)

Berttools = Callable[..., Run]
CutOff = Callable[..., AbstractContextManager[None]]
pytestmark = pytest.mark.usefixtures("one_thread")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(done: Run, message: str, code: int = 1) -> None:
    """One line on stderr that says it, and nothing on stdout."""
    assert (done.code, done.out) == (code, b"")
    assert done.err.startswith("berttools: error: ")
    assert done.err.count("\n") == 1
    assert message in done.err


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "electra", "modernbert"])
def test_every_architecture_is_tuned_stored_restored_and_predicts(
    berttools: Berttools, train: Path, dev: Path, tmp_path: Path, kind: str
) -> None:
    base = make_base(tmp_path / "base", kind)
    words = ["finetune", "--base", base, "--train", train, "--dev", dev, "--epochs", "2", "--lr", "1e-3"]
    words += ["--layers", "1-2"]
    whole = berttools(*words, "--out", tmp_path / "whole")
    delta = berttools(*words, "--save", "delta", "--out", tmp_path / "some.safetensors")
    assert (whole.code, other_warnings(whole.err), delta.code, other_warnings(delta.err)) == (0, "", 0, "")
    assert [record["epoch"] for record in whole.records[:-1]] == [1, 2]
    last, about = whole.records[-1], delta.records[-1]
    assert last["stored"] == last["parameters"] > about["stored"] == about["tuned"] > 0
    restored = berttools("apply-delta", base, tmp_path / "some.safetensors", "--out", tmp_path / "restored")
    assert (restored.code, restored.err) == (0, "")
    assert restored.records[0]["from_delta"] == about["stored"]
    assert files(tmp_path / "restored") == files(tmp_path / "whole")
    # What was not tuned is the base's, and what was has moved.
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "whole" / "model.safetensors")
    for name, value in after.items():
        twin = before.get(name.split(".", 1)[1])
        if twin is not None:
            moved = any(f".{layer}." in name for layer in (1, 2))
            assert (value != twin).any() == moved, name
    said = berttools("predict", "--model", tmp_path / "restored", "--in", dev)
    assert (said.code, said.err) == (0, "")
    right = np.mean([record["label"] == record["gold"] for record in said.records])
    assert right == pytest.approx(last["accuracy"])


def test_the_pipe_of_the_most_moved_tensors(
    berttools: Berttools, base: Path, train: Path, dev: Path, tmp_path: Path
) -> None:
    words = ["finetune", "--base", base, "--train", train, "--dev", dev, "--epochs", "1"]
    berttools(*words, "--out", tmp_path / "full")
    moved = berttools("layerdiff", base, tmp_path / "full")
    every = sorted(moved.out.splitlines(True), reverse=True)
    named = [line for line in every if json.loads(line)["group"]][:5]
    ranked = berttools("layerdiff", base, tmp_path / "full", "--matrices")
    assert sorted(ranked.out.splitlines(True), reverse=True)[:5] == named
    done = berttools(*words, "--only", "-", "--out", tmp_path / "few", stdin=b"".join(named))
    assert done.code == 0
    assert "no matrices" not in done.err
    tuned = json.loads((tmp_path / "few" / "berttools.json").read_text())["tuned"]
    assert tuned[-2:] == ["classifier.weight", "classifier.bias"]
    assert {name.removeprefix("bert.") for name in tuned[:-2]} == {json.loads(line)["name"] for line in named}
    # Without --matrices most of what moved furthest is biases: that is said, and still done.
    others = [line for line in every if not json.loads(line)["group"]][:4]
    words = [*words[:-1], "1", "--max-steps", "1", "--only", "-", "--out", tmp_path / "biases"]
    done = berttools(*words, stdin=b"".join([*others, *named[:3]]))
    assert done.code == 0
    assert "--only -: 4 of the 7 tensors that stdin names are biases, norms or embeddings" in done.err


def test_classes_of_a_table_that_only_look_like_numbers(berttools: Berttools, base: Path, tmp_path: Path) -> None:
    for name, count in (("train.csv", 20), ("dev.csv", 8)):
        lines = [f"{row['text']},{'010' if row['label'] else '007'}" for row in texts(count, seed=count)]
        (tmp_path / name).write_text("\n".join(["text,label", *lines]))
    words = ["finetune", "--base", base, "--train", tmp_path / "train.csv", "--dev", tmp_path / "dev.csv"]
    done = berttools(*words, "--max-steps", "2", "--out", tmp_path / "out")
    assert (done.code, other_warnings(done.err)) == (0, "")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "007", "1": "010"}
    said = berttools("predict", "--model", tmp_path / "out", "--in", tmp_path / "dev.csv")
    assert {record["label"] for record in said.records} <= {"007", "010"}
    judged = berttools("evaluate", "--metric", "accuracy", stdin=said.out)
    assert judged.code == 0
    assert judged.records[0]["score"] == pytest.approx(done.records[-1]["accuracy"], abs=1e-6)


def test_lists_of_classes_are_multi_label_data(berttools: Berttools, base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    train = write_lines(tmp_path / "train.jsonl", several(60))
    dev, other = (write_lines(tmp_path / f"{seed}.jsonl", several(30, seed=seed)) for seed in (1, 2))
    words = ["finetune", "--base", base, "--train", train, "--max-steps", "8", "--batch", "8", "--lr", "1e-2"]
    done = berttools(*words, "--dev", dev, "--save", "delta", "--out", tmp_path / "delta")
    assert (done.code, done.err) == (0, "")
    last = done.records[-1]
    assert (last["metric"], last["score"]) == ("micro-f1", pytest.approx(last["micro-f1"], abs=1e-6))
    assert last["score_at_half"] <= last["micro-f1"]
    assert berttools("apply-delta", base, tmp_path / "delta", "--out", tmp_path / "tuned").code == 0
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "tuned")
    assert model.config.problem_type == "multi_label_classification"
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert last["label_thresholds"] == dict(zip(("bad", "good"), model.config.label_thresholds, strict=True))
    # What was measured is what predict says, and evaluate counts.
    said = berttools("predict", "--model", tmp_path / "tuned", "--in", dev)
    for record in said.records:
        chosen = [name for name, least in last["label_thresholds"].items() if record["scores"][name] >= least]
        assert record["label"] == chosen
    judged = {record["metric"]: record for record in berttools("evaluate", stdin=said.out).records}
    for name in ("micro-f1", "macro-f1", "accuracy"):
        assert judged[name]["score"] == pytest.approx(last[name], abs=1e-6)
    # Its head is tuned on, and thresholds of other weights are not kept; nor is a list for a head of single classes.
    more = berttools(*words, "--base", tmp_path / "tuned", "--out", tmp_path / "more")
    assert more.code == 0
    config = json.loads((tmp_path / "more" / "config.json").read_text())
    assert ("label_thresholds" in config, config["problem_type"]) == (False, "multi_label_classification")
    single = make_tuned(base, tmp_path / "single", ("bad", "good"))
    lists = berttools(*words[:1], "--base", single, *words[3:], "--dev", other, "--out", tmp_path / "none")
    refused(lists, "train.jsonl, line 1: label is a list, and the model's labels are single classes")


def test_a_table_has_lists_in_cells_and_a_class_alone_is_one(berttools: Berttools, base: Path, tmp_path: Path) -> None:
    rows = [(each["text"], json.dumps(each["label"]).replace('"', '""')) for each in several(20)]
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f'{text},"{label}"\n' for text, label in rows))
    words = ["finetune", "--base", base, "--max-steps", "1"]
    lists = berttools(*words, "--train", tmp_path / "a.csv", "--out", tmp_path / "lists")
    assert (lists.code, lists.err) == (0, "")
    same = berttools(*words, "--train", write_lines(tmp_path / "a.jsonl", several(20)), "--out", tmp_path / "same")
    assert same.code == 0
    assert files(tmp_path / "lists")["model.safetensors"] == files(tmp_path / "same")["model.safetensors"]
    alone = write_lines(tmp_path / "alone.jsonl", texts(20))
    done = berttools(*words, "--train", alone, "--task", "multilabel", "--out", tmp_path / "alone")
    assert done.code == 0
    assert f"berttools: warning: {alone}: every text has one label, and none a list of several" in done.err


def test_numbers_in_strings_are_asked_about_before_anything_is_made(
    berttools: Berttools, base: Path, tmp_path: Path
) -> None:
    rows = [{**row, "label": str(row["label"])} for row in texts(20, numbers=True)]
    train, numbers = write_lines(tmp_path / "t.jsonl", rows), write_lines(tmp_path / "n.jsonl", texts(20, numbers=True))
    words = ["finetune", "--base", base, "--max-steps", "2"]
    said = f"labels are numbers in strings, such as {rows[0]['label']!r}; give --task regression for values, or --task"
    refused(berttools(*words, "--train", train, "--out", tmp_path / "out"), said)
    done = [
        berttools(*words, "--task", "regression", "--train", each, "--dev", each, "--out", tmp_path / each.stem)
        for each in (train, numbers)
    ]
    assert [each.code for each in done] == [0, 0]
    assert done[0].records[0] == done[1].records[0]
    named = berttools(*words, "--task", "classification", "--train", train, "--out", tmp_path / "named")
    assert named.code == 0
    config = json.loads((tmp_path / "named" / "config.json").read_text())
    assert sorted(config["id2label"].values()) == sorted({row["label"] for row in rows})


@pytest.mark.parametrize("save", ["model", "delta"])
def test_of_a_fused_matrix_only_the_part_is_tuned_that_a_record_names(
    berttools: Berttools, train: Path, dev: Path, tmp_path: Path, cut_off: CutOff, save: str
) -> None:
    base = make_base(tmp_path / "base", "modernbert")
    tuned = make_tuned(base, tmp_path / "other")
    line = berttools("layerdiff", "--group", "K", base, tuned).out.splitlines(True)[1]
    record = json.loads(line)
    assert record["part"] == {"axis": 0, "start": 16, "stop": 32}
    words = ["finetune", "--base", base, "--train", train, "--dev", dev, "--only", "-", "--epochs", "2"]
    words += ["--lr", "1e-2", "--weight-decay", "0.5", "--save", save]
    done = berttools(*words, "--out", tmp_path / "out", stdin=line)
    assert (done.code, other_warnings(done.err)) == (0, "")
    folder = tmp_path / "out"
    if save == "delta":
        folder = tmp_path / "restored"
        assert berttools("apply-delta", base, tmp_path / "out", "--out", folder).code == 0
    before, after = load_file(base / "model.safetensors"), load_file(folder / "model.safetensors")
    name = f"model.{record['name']}"
    was, now = before[record["name"]], after[name]
    assert was.shape == (48, 16)
    assert (was[16:32] != now[16:32]).mean() > 0.99
    assert was[:16].tobytes() == now[:16].tobytes()
    assert was[32:].tobytes() == now[32:].tobytes()
    assert all(value.tobytes() == before[key[6:]].tobytes() for key, value in after.items()
               if key.startswith("model.") and key != name)  # fmt: skip
    head = sum(value.size for key, value in after.items() if not key.startswith("model."))
    assert done.records[-1]["tuned"] == 16 * 16 + head
    made = json.loads((folder / "berttools.json").read_text())
    assert made["choice"]["parts"] == {name: [[0, 16, 32]]}

    with cut_off():
        assert berttools(*words, "--out", tmp_path / "again", stdin=line).code == 130
    other = line.replace(b'"start":16,"stop":32', b'"start":0,"stop":16')
    refused(berttools(*words, "--resume", "--out", tmp_path / "again", stdin=other), "made with other choice", 2)
    resumed = berttools(*words, "--resume", "--out", tmp_path / "again", stdin=line)
    assert (resumed.code, other_warnings(resumed.err)) == (0, "")
    if save == "delta":
        assert (tmp_path / "again").read_bytes() == (tmp_path / "out").read_bytes()
    else:
        assert files(tmp_path / "again") == files(folder)


def test_the_record_of_what_belongs_to_no_layer(berttools: Berttools, base: Path, train: Path, tmp_path: Path) -> None:
    tuned = make_tuned(base, tmp_path / "other")
    lines = berttools("layerdiff", "--by", "layer", base, tuned).out.splitlines(True)
    assert json.loads(lines[-1])["layer"] is None
    words = ["finetune", "--base", base, "--train", train, "--max-steps", "2", "--only", "-"]
    done = berttools(*words, "--out", tmp_path / "out", stdin=lines[-1])
    assert (done.code, done.err) == (0, "")
    names = json.loads((tmp_path / "out" / "berttools.json").read_text())["tuned"]
    assert names
    assert all("embeddings" in name or "pooler" in name or "classifier" in name for name in names)
    assert "bert.embeddings.word_embeddings.weight" in names


def test_texts_that_are_pairs_with_numbers(berttools: Berttools, base: Path, tmp_path: Path) -> None:
    rows = texts(40, pairs=True, numbers=True)
    table = ["one\ttwo\tnear", *(f"{row['text_a']}\t{row['text_b']}\t{row['label']}" for row in rows)]
    (tmp_path / "a.tsv").write_text("\n".join(table))
    columns = ["--columns", "text_a=one,text_b=two,label=near"]
    words = ["finetune", "--base", base, "--train", tmp_path / "a.tsv", "--dev", tmp_path / "a.tsv", *columns]
    done = berttools(
        *words, "--epochs", "40", "--lr", "1e-2", "--batch", "10", "--metric", "spearman", "--out", tmp_path / "out"
    )
    assert (done.code, done.err) == (0, "")
    last = done.records[-1]
    assert last["score"] == pytest.approx(last["spearman"], abs=1e-6)
    assert last["score"] > 0.7
    assert last["pearson"] > 0.7
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["problem_type"] == "regression"
    said = berttools("predict", "--model", tmp_path / "out", "--in", tmp_path / "a.tsv", *columns)
    judged = berttools("evaluate", stdin=said.out)
    by_name = {record["metric"]: record["score"] for record in judged.records}
    assert by_name["pearson"] == pytest.approx(last["pearson"], abs=1e-5)
    assert "scores" not in said.records[0]


def test_labels_that_are_words(berttools: Berttools, base: Path, tmp_path: Path) -> None:
    named = [{**row, "label": "good" if row["label"] else "bad"} for row in texts(30)]
    data = write_lines(tmp_path / "a.jsonl", named)
    berttools("finetune", "--base", base, "--train", data, "--epochs", "1", "--out", tmp_path / "out")
    said = berttools("predict", "--model", tmp_path / "out", "--in", data).records
    assert {record["label"] for record in said} <= {"good", "bad"}
    assert list(said[0]["scores"]) == ["bad", "good"]
    # Tuned on: the head that is there knows the same labels, and is not drawn anew.
    again = ["--base", tmp_path / "out", "--train", data, "--max-steps", "1", "--lr", "1e-9", "--out", tmp_path / "on"]
    assert berttools("finetune", *again).code == 0
    on = berttools("predict", "--model", tmp_path / "on", "--in", data).records
    assert [record["score"] for record in on] == pytest.approx([record["score"] for record in said], abs=1e-4)


def test_resuming_gives_what_an_uninterrupted_run_gives(
    berttools: Berttools, base: Path, train: Path, dev: Path, tmp_path: Path, cut_off: CutOff
) -> None:
    words = ["finetune", "--base", base, "--train", train, "--dev", dev, "--epochs", "3", "--batch", "7", "--seed", "5"]
    words += ["--evaluate-every", "4", "--accumulate", "2", "--group", "Q,I"]
    whole = berttools(*words, "--out", tmp_path / "whole")
    with cut_off(before=6):
        cut = berttools(*words, "--out", tmp_path / "cut")
    assert (cut.code, cut.out) == (130, b"".join(whole.out.splitlines(True)[:1]))
    assert not (tmp_path / "cut").exists()
    refused(berttools(*words, "--out", tmp_path / "cut"), "cut.checkpoint: exists; use --resume", 2)
    other = [*words, "--out", tmp_path / "cut", "--resume"]
    refused(berttools(*other, "--lr", "2e-4"), "learning_rate was 0.0001, and is 0.0002", 2)
    refused(berttools(*other, "--freeze", r"layer\.0"), "made with other tuned", 2)
    refused(berttools(*other, "--dev", train), "made with other dev_sha256", 2)
    done = berttools(*other)
    assert (done.code, other_warnings(done.err)) == (0, "")
    assert done.out.replace(b"/cut", b"/whole") == whole.out
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "whole"]


@pytest.mark.parametrize("command", ["finetune", "mask-tune"])
def test_a_checkpoint_that_is_not_whole_says_what_can_be_done(
    berttools: Berttools, base: Path, train: Path, tmp_path: Path, command: str, cut_off: CutOff
) -> None:
    words = [command, "--base", base, "--train", train, "--max-steps", "2", "--evaluate-every", "1", "--layers", "2"]
    words += ["--score-lr", "9"] if command == "mask-tune" else []
    checkpoint = tmp_path / "out.checkpoint"
    with cut_off():
        assert berttools(*words, "--out", tmp_path / "out").code == 130
    whole = checkpoint.read_bytes()
    for size in (0, 20, len(whole) - 1):
        checkpoint.write_bytes(whole[:size])
        done = berttools(*words, "--out", tmp_path / "out", "--resume")
        refused(done, "out.checkpoint: the checkpoint is empty, cut short or damaged; remove it to start again")
    checkpoint.unlink()
    assert berttools(*words, "--out", tmp_path / "out", "--resume").code == 0


@pytest.mark.parametrize("save", ["model", "delta"])
def test_resuming_what_is_done_does_nothing(
    berttools: Berttools, base: Path, train: Path, dev: Path, tmp_path: Path, save: str
) -> None:
    words = ["finetune", "--base", base, "--train", train, "--dev", dev, "--max-steps", "2", "--save", save]
    words += ["--out", tmp_path / "out"]
    first = berttools(*words)
    again = berttools(*words, "--resume")
    assert (first.code, again.code, again.err, len(again.records)) == (0, 0, "", 1)
    assert again.records[0] == first.records[-1]
    refused(berttools(*words, "--resume", "--lr", "1e-4"), "learning_rate was 5e-05, and is 0.0001", 2)
    refused(berttools(*words, "--resume", "--group", "Q"), "made with other choice (group was None, and is 'Q')", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_resuming_takes_an_empty_folder_where_a_run_does(
    berttools: Berttools, base: Path, train: Path, tmp_path: Path
) -> None:
    words = ["--base", base, "--train", train, "--max-steps", "2", "--resume", "--out", tmp_path / "out"]
    (tmp_path / "out").mkdir()
    for command in (["finetune", "--save", "delta"], ["mask-tune"]):
        refused(berttools(*command, *words), "out: is a folder; name a file in it", 2)
    done = berttools("finetune", *words)
    assert (done.code, done.err, len(done.records)) == (0, "", 2)
    again = berttools("finetune", *words)
    assert (again.code, again.err, len(again.records)) == (0, "", 1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").touch()
    refused(berttools("finetune", *words[:-1], tmp_path / "other"), "other: was not made by this command", 1)


def test_where_nothing_can_be_written_nothing_is_tuned(
    berttools: Berttools, base: Path, train: Path, tmp_path: Path
) -> None:
    words = ["finetune", "--base", base, "--train", train, "--max-steps", "1"]
    refused(berttools(*words, "--out", tmp_path / "no" / "such"), "no is no folder; make it first", 2)


def test_memory_that_runs_out_is_one_line_and_leaves_the_checkpoint(
    berttools: Berttools, base: Path, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["finetune", "--base", base, "--train", train, "--max-steps", "3", "--evaluate-every", "1"]
    steps = training.Trainer._step

    def too_large(self: Any, step: int) -> Any:
        if step == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nOf it 1 GiB is free.")
        return steps(self, step)

    monkeypatch.setattr(training.Trainer, "_step", too_large)
    done = berttools(*words, "--device", "cpu", "--out", tmp_path / "out")
    assert (done.code, len(done.records), done.err.count("\n")) == (1, 1, 1)
    assert done.err.startswith("berttools: error: cpu: out of memory; try a higher --accumulate, which changes no")
    assert [path.name for path in tmp_path.iterdir()] == ["out.checkpoint"]
    monkeypatch.setattr(training.Trainer, "_step", steps)
    assert berttools(*words, "--device", "cpu", "--out", tmp_path / "out", "--resume").code == 0


def test_resuming_without_texts_to_measure_on(
    berttools: Berttools, base: Path, train: Path, tmp_path: Path, cut_off: CutOff
) -> None:
    words = ["finetune", "--base", base, "--train", train, "--max-steps", "3", "--evaluate-every", "1", "--layers", "2"]
    whole = berttools(*words, "--out", tmp_path / "whole")
    with cut_off(saved=2):
        assert berttools(*words, "--out", tmp_path / "cut").code == 130
    held = read_metadata(tmp_path / "cut.checkpoint")["tuned"]
    # The weights and two moments and a count of each, and no second copy of the weights.
    assert len(load_file(tmp_path / "cut.checkpoint")) == 4 * len(held)
    done = berttools(*words, "--out", tmp_path / "cut", "--resume")
    assert done.out.replace(b"/cut", b"/whole") == whole.out
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(
    berttools: Berttools, base: Path, train: Path, tmp_path: Path
) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        out = ["--seed", str(seed), "--out", tmp_path / name]
        berttools("finetune", "--base", base, "--train", train, "--epochs", "1", *out)
    assert files(tmp_path / "one") == files(tmp_path / "again")
    weights = [files(tmp_path / name)["model.safetensors"] for name in ("one", "other")]
    assert weights[0] != weights[1]


def test_the_best_weights_are_written_and_patience_ends_the_run(
    berttools: Berttools, base: Path, train: Path, tmp_path: Path
) -> None:
    # Labels turned round: what is learned of them only makes the score on the right ones worse.
    turned = write_lines(tmp_path / "turned.jsonl", [{**row, "label": 1 - row["label"]} for row in texts(40)])
    words = ["finetune", "--base", base, "--train", turned, "--dev", train, "--lr", "1e-2", "--epochs", "9"]
    done = berttools(*words, "--patience", "2", "--out", tmp_path / "out")
    *rounds, last = done.records
    scores = [record["score"] for record in rounds]
    best = scores.index(max(scores))
    assert len(rounds) == best + 3 < 9
    assert (last["epoch"], last["score"]) == (rounds[best]["epoch"], max(scores))
    assert [record["best"] for record in rounds] == [score > max([-1, *scores[:n]]) for n, score in enumerate(scores)]
    said = berttools("predict", "--model", tmp_path / "out", "--in", train).records
    assert np.mean([record["label"] == record["gold"] for record in said]) == pytest.approx(max(scores))


def test_a_delta_of_another_base_or_tokenizer_is_refused(
    berttools: Berttools, base: Path, train: Path, tmp_path: Path
) -> None:
    delta = tmp_path / "d.safetensors"
    berttools("finetune", "--base", base, "--train", train, "--max-steps", "1", "--save", "delta", "--out", delta)
    other = make_base(tmp_path / "other", seed=1)
    refused(
        berttools("apply-delta", other, delta, "--out", tmp_path / "x"), "was made from another base: its sha256 is"
    )
    roberta = make_base(tmp_path / "roberta", "roberta")
    refused(berttools("apply-delta", roberta, delta, "--out", tmp_path / "x"), "was made from another base")
    same = Path(shutil.copytree(base, tmp_path / "same"))
    (same / "tokenizer.json").write_text((same / "tokenizer.json").read_text().replace('"good"', '"gooey"'))
    refused(berttools("apply-delta", same, delta, "--out", tmp_path / "x"), "with another tokenizer")
    weights = base / "model.safetensors"
    refused(berttools("apply-delta", base, weights, "--out", tmp_path / "x"), "is no delta")
    about = read_metadata(delta)
    write_safetensors(tmp_path / "bad.safetensors", {}, {key: about[key] for key in about if key != "from_base"})
    refused(
        berttools("apply-delta", base, tmp_path / "bad.safetensors", "--out", tmp_path / "x"), "from_base is missing"
    )
    assert not (tmp_path / "x").exists()
    # Where the same tensors lie in shards, they are the same base.
    sharded = Path(shutil.copytree(base, tmp_path / "sharded"))
    (sharded / "model.safetensors").rename(sharded / "m-1.safetensors")
    names = dict.fromkeys(load_file(sharded / "m-1.safetensors"), "m-1.safetensors")
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert berttools("apply-delta", sharded, delta, "--out", tmp_path / "x").code == 0


def test_a_base_in_bfloat16_and_with_a_prefix(berttools: Berttools, base: Path, train: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM

    half = Path(shutil.copytree(base, tmp_path / "half"))
    AutoModelForMaskedLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(half)
    words = ["finetune", "--base", half, "--train", train, "--max-steps", "2", "--layers", "2"]
    whole = berttools(*words, "--out", tmp_path / "whole")
    delta = berttools(*words, "--save", "delta", "--out", tmp_path / "d.safetensors")
    # A masked language model has no pooler: it is new, and so part of the head.
    assert whole.records[-1]["tensors"] == delta.records[-1]["tensors"] == 16 + 2 + 2
    berttools("apply-delta", half, tmp_path / "d.safetensors", "--out", tmp_path / "restored")
    assert files(tmp_path / "restored") == files(tmp_path / "whole")


@pytest.mark.parametrize("command", ["finetune", "mask-tune"])
def test_a_command_computes_reproducibly(
    berttools: Berttools, base: Path, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    seen: list[str] = []

    @contextmanager
    def noted(place: torch.device) -> Iterator[None]:
        seen.append(f"begins on {place}")
        yield
        seen.append("ends")

    monkeypatch.setattr("_toolio.compute.device.reproducible", noted)
    step = training.Trainer._step
    monkeypatch.setattr(training.Trainer, "_step", lambda self, number: seen.append("a step") or step(self, number))
    words = ["--base", base, "--train", train, "--max-steps", "1", "--device", "cpu", "--out", tmp_path / "out"]
    assert berttools(command, *words).code == 0
    assert seen == ["begins on cpu", "a step", "ends"]


def test_several_processes_tune_what_the_first_reads_from_stdin(
    berttools: Berttools, warm_command: Callable[..., list[str]], base: Path, tmp_path: Path
) -> None:
    # Of 11 texts, 5 a step, the last step has one: the other process has none.
    data = write_lines(tmp_path / "a.jsonl", texts(11))
    words = ["--base", base, "--train", data, "--dev", data, "--batch", "5", "--lr", "1e-3", "--device", "cpu"]
    alone = berttools("finetune", *words, "--out", tmp_path / "1")
    names = b"".join(name.encode() + b"\n" for name in load_file(base / "model.safetensors"))
    first, second = run_together(
        warm_command, [tmp_path, tmp_path], "berttools", "finetune", *words, "--only", "-", "--out", tmp_path / "2",
        stdin=names,
    )  # fmt: skip
    assert (first.code, second.code) == (0, 0), first.err + second.err
    losses = [[record["loss"] for record in each.records[:-1]] for each in (first, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(first.records) == len(alone.records) == 4
    one, two = (load_file(tmp_path / str(count) / "model.safetensors") for count in (1, 2))
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("train_lines", "dev_lines", "more", "message"),
    [
        ([{"text": "x", "label": 0}, {"text": "y"}], None, [], "a.jsonl, line 2: no label"),
        ([{"text": "x", "label": 0}, {"text": "", "label": 1}], None, [], "a.jsonl, line 2: text is empty"),
        (None, [{"text": "x", "label": 2}], [], "b.jsonl, line 1: label 2 is none of 0, 1, which --train"),
        (None, [{"text": "x", "label": "good"}], [], "b.jsonl, line 1: label 'good' is none of 0, 1, which --train"),
        (None, [{"text_a": "x", "text_b": "y", "label": 1}], [], "b.jsonl: holds pairs, and --train"),
        ([{"text": "x", "label": 0.5}, {"text": "y", "label": 10**400}], None, [], "line 2: label is too large"),
        ([{"text": "x", "label": 0.5}, {"text": "y", "label": 1e300}], None, [], "line 2: label is too large a number"),
        ([{"text": "x", "label": 0.5}, {"text": "y", "label": math.nan}], None, [], "a.jsonl, line 2: "),
        ([{"text": "x", "label": 1}, {"text": "y", "label": "a"}], None, [], "line 2: label 'a' is text, unlike 1"),
        (None, None, ["--layers", "99"], "--layers 99: the model has none such; its layers are 0 to 2"),
        (None, None, ["--freeze", "."], "nothing is left to tune"),
        ([{"text": "x", "label": 1}], None, [], "all labels are 1: there is nothing to learn"),
        (None, [], [], "b.jsonl: holds no example"),
        (None, None, ["--metric", "pearson"], "--metric pearson: the labels are classes; give one of accuracy"),
        (None, None, ["--only", "nothing"], "--only nothing: fits no tensor of the model"),
        (None, None, ["--layers", "2-3"], "--layers 3: the model has none such; its layers are 0 to 2"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_tuned_on(
    berttools: Berttools,
    base: Path,
    tmp_path: Path,
    train_lines: list[dict[str, Any]] | None,
    dev_lines: list[dict[str, Any]] | None,
    more: list[str],
    message: str,
) -> None:
    data = write_lines(tmp_path / "a.jsonl", texts(9) if train_lines is None else train_lines)
    dev = write_lines(tmp_path / "b.jsonl", texts(9) if dev_lines is None else dev_lines)
    done = berttools("finetune", "--base", base, "--train", data, "--dev", dev, *more, "--out", tmp_path / "out")
    refused(done, message, 2 if more else 1)
    assert not (tmp_path / "out").exists()


def test_a_name_on_stdin_that_no_model_has(berttools: Berttools, base: Path, train: Path, tmp_path: Path) -> None:
    words = ["finetune", "--base", base, "--train", train, "--out", tmp_path / "out", "--only", "-"]
    refused(
        berttools(*words, stdin=b"\nnonesuch.weight\n"), "stdin, line 2: the model has no tensor nonesuch.weight", 2
    )


def test_tables_that_lack_names_or_lines(berttools: Berttools, base: Path, tmp_path: Path) -> None:
    words = ["finetune", "--base", base, "--max-steps", "1", "--out", tmp_path / "out", "--train", tmp_path / "a.csv"]
    for table, message in (
        ("a good film,1\na bad film,0\n", "a.csv, line 1: no column text or text_a among a good film, 1; name them"),
        ("", "a.csv: holds no example"),
        ("\ufeff", "a.csv: holds no example"),
        ("text,label\n\nx,0.5\ny,nan\n", "a.csv, line 4: label 'nan'"),
    ):
        (tmp_path / "a.csv").write_text(table)
        refused(berttools(*words), message)
    (tmp_path / "a.csv").write_text("\ufefftext,label\n\na good film,1\n\na bad film,0\n")
    assert berttools(*words).code == 0


def test_a_label_outside_the_range_of_the_base(berttools: Berttools, base: Path, tmp_path: Path) -> None:
    tuned = make_tuned(base, tmp_path / "tuned", ("no", "maybe"))
    data = write_lines(tmp_path / "a.jsonl", [{"text": "x", "label": n} for n in (0, 1, 2)])
    words = ["finetune", "--base", tuned, "--train", data, "--max-steps", "1", "--out", tmp_path / "out"]
    refused(berttools(*words), "line 3: label 2 is none of no, maybe, which the base's head knows; --new-head")
    refused(berttools(*words, "--task", "regression"), "has a head of its own; give --new-head", 2)
    done = berttools(*words, "--new-head")
    assert (done.code, done.err) == (0, "")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["id2label"] == {"0": "0", "1": "1", "2": "2"}


def test_bases_that_are_none(berttools: Berttools, base: Path, train: Path, tmp_path: Path) -> None:
    def tried(folder: Path) -> Run:
        return berttools("finetune", "--base", folder, "--train", train, "--out", tmp_path / "out")

    def copy(name: str) -> Path:
        return Path(shutil.copytree(base, tmp_path / name))

    refused(tried(tmp_path / "gone"), "gone: no such folder; name a local model's folder")
    refused(tried(train), "train.jsonl: is no folder")
    (tmp_path / "empty").mkdir()
    refused(tried(tmp_path / "empty"), "empty: no config.json in it")
    for name, gone in (("t", "tokenizer.json"), ("w", "model.safetensors")):
        (copy(name) / gone).unlink()
    refused(tried(tmp_path / "t"), "no tokenizer in it")
    refused(tried(tmp_path / "w"), "none of model.safetensors, ")
    shards = copy("shards")
    (shards / "model.safetensors").unlink()
    (shards / "model.safetensors.index.json").write_text('{"weight_map":{"x":"model-1.safetensors"}}')
    refused(tried(shards), "model-1.safetensors: missing, one of 1 of 1 shards")
    other = copy("other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "distilbert"}))
    refused(tried(other), "config.json wants it of a DistilBertForSequenceClassification; are both of the same model?")
    (other / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    refused(tried(other), "its weights have no bert.encoder.layer.0.intermediate.dense.bias, or of another shape")
    (other / "config.json").write_text(json.dumps({"model_type": "nonesuch"}))
    refused(tried(other), "other: transformers cannot open it: ")


def test_outputs_that_are_not_replaced(berttools: Berttools, base: Path, train: Path, tmp_path: Path) -> None:
    words = ["finetune", "--base", base, "--train", train, "--max-steps", "1"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    refused(berttools(*words, "--out", tmp_path / "mine"), "is not empty; use --force", 2)
    refused(berttools(*words, "--out", tmp_path / "mine", "--force"), "thesis.txt in it is not of a model", 2)
    refused(berttools(*words, "--out", base, "--force"), "is the base", 2)
    refused(berttools(*words, "--out", tmp_path / "no" / "d.safetensors", "--save", "delta"), "make it first", 2)
    assert berttools(*words, "--out", tmp_path / "out").code == 0
    refused(berttools(*words, "--out", tmp_path / "out"), "is not empty; use --force", 2)
    before = files(tmp_path / "out")
    assert berttools(*words, "--seed", "9", "--out", tmp_path / "out", "--force").code == 0
    assert files(tmp_path / "out") != before


def test_what_the_options_cannot_be(berttools: Berttools, base: Path, train: Path, tmp_path: Path) -> None:
    words = ["finetune", "--base", base, "--train", train, "--out", tmp_path / "out"]
    for more, message in (
        (["--patience", "1"], "--patience needs texts to measure on"),
        (["--metric", "f1"], "--metric needs texts to measure on"),
        (["--only", "(("], "is no regular expression"),
        (["--group", "Z"], "'Z' is none of Q, K"),
        (["--layers", "9-8"], "say 8-11"),
        (["--lr", "nan"], "nan is not a finite number"),
        (["--columns", "words=x"], "'words' is none of text"),
        (["--only", "-", "--only", "-"], "stdin can be read once"),
    ):
        refused(berttools(*words, *more), message, 2)


def test_texts_that_are_too_long_are_counted(berttools: Berttools, base: Path, train: Path, tmp_path: Path) -> None:
    data = write_lines(tmp_path / "a.jsonl", [*texts(7), {"text": "good " * 100_000, "label": 1}])
    done = berttools(
        "finetune", "--base", base, "--train", data, "--dev", train, "--epochs", "1", "--out", tmp_path / "o"
    )
    assert (done.records[-1]["train_cut"], done.records[-1]["dev_cut"]) == (1, 0)


@needs_minilm
@needs_glue
def test_the_real_base_on_real_texts(berttools: Berttools, tmp_path: Path) -> None:
    lines = (GLUE / "sst2" / "train.jsonl").read_text().splitlines(True)
    (tmp_path / "a.jsonl").write_text("".join(lines[:32]))
    words = ["finetune", "--base", minilm(), "--train", tmp_path / "a.jsonl", "--dev", tmp_path / "a.jsonl"]
    words += ["--layers", "5", "--epochs", "10", "--batch", "8", "--lr", "1e-3"]
    whole = berttools(*words, "--out", tmp_path / "whole")
    assert (whole.code, whole.err) == (0, "")
    assert whole.records[-1]["accuracy"] > 0.9
    delta = berttools(*words, "--save", "delta", "--out", tmp_path / "d.safetensors")
    # A layer of MiniLM has 1,774,464 values, and the head 770.
    assert delta.records[-1]["stored"] == 1_774_464 + 770
    assert (tmp_path / "d.safetensors").stat().st_size < 7.2e6
    berttools("apply-delta", minilm(), tmp_path / "d.safetensors", "--out", tmp_path / "restored")
    assert files(tmp_path / "restored") == files(tmp_path / "whole")


@pytest.mark.parametrize("command", ["finetune", "mask-tune"])
def test_a_base_with_nan_is_named_and_no_learning_rate_blamed(
    berttools: Berttools, base: Path, train: Path, tmp_path: Path, command: str
) -> None:
    broken = Path(shutil.copytree(base, tmp_path / "broken"))
    tensors = {name: array.copy() for name, array in load_file(base / "model.safetensors").items()}
    (name,) = (name for name in tensors if name.endswith("layer.1.output.dense.weight"))
    tensors[name][0, 0] = np.nan
    write_safetensors(broken / "model.safetensors", tensors, format="pt")
    done = berttools(command, "--base", broken, "--train", train, "--out", tmp_path / "out")
    refused(done, f"{name} has 1 NaN of 512 values")
    assert "--lr" not in done.err
    assert not (tmp_path / "out").exists()
