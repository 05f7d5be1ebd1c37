"""``berttools predict`` and ``evaluate``: a filter each, and both together."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from berttools.classifier.inference import Inference
from conftest import Run
from tiny_models import make_tuned, texts, write_lines

Berttools = Callable[..., Run]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tuned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuned(base, tmp_path_factory.mktemp("tuned") / "tuned", ("bad", "good"), change=0.3)


def lines(*records: Any) -> bytes:
    return b"".join((each if isinstance(each, str) else json.dumps(each)).encode() + b"\n" for each in records)


def test_scores_are_those_of_transformers(berttools: Berttools, tuned: Path, dev: Path) -> None:
    from transformers import pipeline

    judge = pipeline("text-classification", model=str(tuned), top_k=None)
    rows = [json.loads(line) for line in dev.read_text().splitlines()]
    found = berttools("predict", "--model", tuned, "--in", dev)
    assert (found.code, found.err) == (0, "")
    for row, record, expected in zip(rows, found.records, judge([row["text"] for row in rows]), strict=True):
        chances = {each["label"]: each["score"] for each in expected}
        assert record["scores"] == pytest.approx(chances, abs=2e-6)
        assert record["label"] == expected[0]["label"]
        assert record["score"] == record["scores"][record["label"]]
        assert next(iter(record)) == "score"
        # What the input had passes through, and its label is called gold.
        assert (record["id"], record["text"], record["gold"]) == (row["id"], row["text"], row["label"])


def test_a_bad_line_is_a_record_and_the_others_keep_their_order(berttools: Berttools, tuned: Path) -> None:
    earlier = {"score": None, "id": 5, "error": {"kind": "other", "message": "of an earlier command"}}
    done = berttools(
        *("predict", "--model", tuned),
        stdin=lines(
            {"id": 1, "text": "a very long good text and story"}, {"id": 2, "text": ""}, "{broken", {"id": 4},
            earlier, {"id": 6, "text_a": "bad", "text_b": "film"}, {"id": 7, "text": "good"},
        ),
    )  # fmt: skip
    assert (done.code, done.err) == (3, "")
    kinds = [record["error"]["kind"] if "error" in record else None for record in done.records]
    assert kinds == [None, "empty-text", "bad-record", "no-text", "other", None, None]
    assert [record.get("id") for record in done.records] == [1, 2, None, 4, 5, 6, 7]
    assert "stdin, line 3: " in done.records[2]["error"]["message"]
    assert done.records[4] == earlier


def test_a_text_of_100000_tokens_is_cut_and_says_by_how_much(berttools: Berttools, tuned: Path) -> None:
    done = berttools("predict", "--model", tuned, stdin=lines({"text": "good " * 100_000}, {"text": "good " * 46}))
    assert (done.code, done.err) == (0, "")
    long, fits = done.records
    assert long["truncated"] == 100_000 + 2 - 48
    assert "truncated" not in fits
    assert long["scores"] == fits["scores"]
    shorter = berttools("predict", "--model", tuned, "--max-length", "10", stdin=lines({"text": "good " * 46}))
    assert shorter.records[0]["truncated"] == 38


def test_tables_and_several_inputs(berttools: Berttools, tuned: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("words,right\ngood film,good\nodd\n")
    (tmp_path / "b.jsonl").write_text('{"words":"dull day","right":"bad"}')
    words = ["predict", "--model", tuned, "--columns", "text=words,label=right"]
    done = berttools(*words, "--in", tmp_path / "a.csv", "--in", tmp_path / "b.jsonl")
    assert done.code == 3
    assert [(record.get("words"), record.get("gold")) for record in done.records] == [
        ("good film", "good"), (None, None), ("dull day", "bad"),
    ]  # fmt: skip
    assert done.records[1]["error"]["message"].endswith("a.csv, line 3: 1 columns, where there should be 2")


def test_model_and_files_without_options(berttools: Berttools, tuned: Path, dev: Path, tmp_path: Path) -> None:
    usual = berttools("predict", "--model", tuned, "--in", dev)
    assert berttools("predict", tuned, dev).out == usual.out
    assert berttools("predict", tuned, stdin=dev.read_bytes()).out == usual.out
    assert berttools("predict", "--batch", "4", tuned, "--in", dev).out == usual.out
    assert berttools("predict", dev, "--model", tuned).out == usual.out
    (tmp_path / "said.jsonl").write_bytes(usual.out)
    judged = berttools("evaluate", "--in", tmp_path / "said.jsonl")
    assert judged.code == 0
    assert berttools("evaluate", tmp_path / "said.jsonl", "--seed", "0").out == judged.out
    none = berttools("predict", "--base", tuned, dev)
    assert (none.code, none.err.startswith("berttools: error: give a model, or --base and --mask")) == (2, True)


def test_texts_of_the_command_line_and_of_a_txt(berttools: Berttools, tuned: Path, tmp_path: Path) -> None:
    expected = berttools("predict", tuned, stdin=lines({"text": "a good day"}, {"text": " a dull\tfilm"}))
    told = berttools("predict", tuned, "--text", "a good day", "--text", " a dull\tfilm")
    assert (told.code, told.out) == (0, expected.out)
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa good day\r\n\n   \n a dull\tfilm")
    assert berttools("predict", tuned, tmp_path / "a.txt").out == expected.out
    both = berttools("predict", tuned, tmp_path / "a.txt", "--text", "film")
    assert [record["text"] for record in both.records] == ["film", "a good day", " a dull\tfilm"]
    # A text that cannot be used is a record, as a line is, and is named by its number.
    empty = berttools("predict", tuned, "--columns", "text=words", "--text", "film", "--text", "")
    assert (empty.code, empty.records[0]["words"]) == (3, "film")
    assert empty.records[1]["error"] == {"kind": "empty-text", "message": "text 2: words is empty"}
    for words in (["evaluate"], ["finetune", "--base", tuned, "--out", tmp_path / "o", "--train"]):
        done = berttools(*words, tmp_path / "a.txt")
        assert (done.code, done.out) == (1, b"")
        assert "a.txt: a .txt has texts alone" in done.err


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("columns", "lacking"),
    [
        ("text=sentence,label=gold", "sentence"),
        ("text_a=first,text_b=other", "other"),
        ("text_a=one", "one"),
        ("text=first,label=right", "right"),
    ],
)
def test_a_column_that_is_not_there_is_named_beside_those_that_are(
    berttools: Berttools, base: Path, tmp_path: Path, ending: str, columns: str, lacking: str
) -> None:
    name = tmp_path / f"a.{ending}"
    row = {"first": "a good day", "second": "a film", "gold": "1"}
    name.write_text(f"{','.join(row)}\n{','.join(row.values())}\n" if ending == "csv" else json.dumps(row))
    words = ["finetune", "--base", base, "--train", name, "--columns", columns, "--out", tmp_path / "o"]
    done = berttools(*words)
    assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
    assert f"no {'column ' if f'no column {lacking}' in done.err else ''}{lacking}" in done.err
    assert " among first, second, gold" in done.err


def test_the_batch_changes_nothing(berttools: Berttools, tuned: Path, dev: Path) -> None:
    outs = [berttools("predict", "--model", tuned, "--batch", str(size), "--in", dev).out for size in (1, 5, 32)]
    assert outs[0] == outs[1] == outs[2]


def test_models_that_cannot_predict(berttools: Berttools, base: Path, tuned: Path, dev: Path, tmp_path: Path) -> None:
    bare = berttools("predict", "--model", base, "--in", dev)
    assert (bare.code, bare.out) == (1, b"")
    assert "has no head that labels texts; tune it with berttools finetune" in bare.err
    gone = berttools("predict", "--model", tmp_path / "gone", "--in", dev)
    assert (gone.code, gone.err.count("\n")) == (1, 1)
    headless = Path(shutil.copytree(tuned, tmp_path / "headless"))
    shutil.copy(base / "model.safetensors", headless / "model.safetensors")
    lacking = berttools("predict", "--model", headless, "--in", dev)
    assert (lacking.code, lacking.out) == (1, b"")
    assert "its weights lack classifier.bias" in lacking.err
    missing = berttools("predict", "--model", tuned, "--in", tmp_path / "none.jsonl")
    assert (missing.code, missing.err) == (1, f"berttools: error: {tmp_path / 'none.jsonl'}: no such file\n")


def test_a_model_that_says_no_number(berttools: Berttools, base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    broken = make_tuned(base, tmp_path / "broken")
    model = AutoModelForSequenceClassification.from_pretrained(broken)
    with torch.no_grad():
        model.classifier.bias.fill_(torch.nan)
    model.save_pretrained(broken)
    done = berttools("predict", "--model", broken, stdin=lines({"text": "good"}))
    assert done.code == 3
    assert done.records[0]["error"]["kind"] == "not-finite"


def test_predictions_are_judged(berttools: Berttools, tuned: Path, dev: Path) -> None:
    said = berttools("predict", "--model", tuned, "--in", dev)
    done = berttools("evaluate", stdin=said.out)
    assert done.code == 0
    assert done.err == (
        "berttools: warning: labels of texts are numbers, and classes have names: 0 for 'bad', 1 for 'good' is assumed;"
        " if that is wrong, write the names\n"
    )
    by_name = {record["metric"]: record for record in done.records}
    assert list(by_name) == ["accuracy", "f1", "macro-f1", "matthews"]
    names = ["bad", "good"]
    right = np.mean([names.index(record["label"]) == record["gold"] for record in said.records])
    assert by_name["accuracy"]["score"] == pytest.approx(right)
    low, high = by_name["accuracy"]["interval"]
    assert low < right < high
    assert {record["n"] for record in done.records} == {20}
    # F1 of the second class is high by itself where that is frequent: its chance level is beside it.
    gold = [record["gold"] for record in said.records]
    share = gold.count(1) / 20
    assert by_name["f1"]["chance"] == pytest.approx(2 * share / (1 + share))
    assert by_name["accuracy"]["chance"] == pytest.approx(max(share, 1 - share))
    assert by_name["matthews"]["chance"] == 0
    for record in done.records:
        assert record["labels"]["good"] == {
            "gold": gold.count(1),
            "predicted": sum(record["label"] == "good" for record in said.records),
            "right": sum(record["label"] == "good" and record["gold"] == 1 for record in said.records),
        }
    only = berttools("evaluate", "--metric", "f1", stdin=said.out)
    assert only.out == done.out.splitlines(True)[1]


def test_labels_of_any_tool_are_judged(berttools: Berttools, tmp_path: Path) -> None:
    words = write_lines(tmp_path / "a.jsonl", [{"label": a, "gold": b} for a, b in ("xx", "xy", "yy", "zz")])
    found = berttools("evaluate", "--in", words, "--metric", "accuracy").records
    assert (found[0]["score"], found[0]["classes"]) == (0.75, 3)
    numbers = write_lines(tmp_path / "b.jsonl", [{"label": n / 2, "gold": n**3} for n in range(9)])
    found = berttools("evaluate", "--in", numbers).records
    assert [record["metric"] for record in found] == ["pearson", "spearman"]
    assert found[0]["score"] < found[1]["score"] == 1
    same = write_lines(tmp_path / "c.jsonl", [{"label": 0.5, "gold": n} for n in range(3)])
    found = berttools("evaluate", "--in", same, "--metric", "pearson").records
    assert (found[0]["score"], found[0]["reason"]) == (None, "one side has one value only")


def test_records_that_cannot_be_judged(berttools: Berttools) -> None:
    good = {"label": 1, "gold": 1, "scores": {"0": 0.1, "1": 0.9}}
    failed = {"score": None, "error": {"kind": "empty-text", "message": "x"}}
    other = {"label": "a", "gold": "a", "scores": {"a": 1.0}}
    outside = {**good, "gold": 2}
    done = berttools("evaluate", stdin=lines(good, failed, {"label": 1}, other, outside, "{", {**good, "gold": 0}))
    assert (done.code, done.err) == (3, "")
    errors = [record["error"]["kind"] for record in done.records if "error" in record]
    assert errors == ["empty-text", "no-label", "mixed", "unknown-label", "bad-record"]
    judged = next(record for record in done.records if "metric" in record)
    assert (judged["n"], judged["score"]) == (2, 0.5)
    for stdin, message in ((b"", "no prediction that has a right label"), (lines({"label": 1}), "no prediction")):
        none = berttools("evaluate", stdin=stdin)
        assert none.code == 1
        assert message in none.err
    wrong = berttools("evaluate", "--metric", "pearson", stdin=lines(good))
    assert wrong.code == 2
    assert "--metric pearson: these predictions are judged by accuracy" in wrong.err


def test_predicting_again_keeps_the_right_label(berttools: Berttools, tuned: Path) -> None:
    rows = [{"text": row["text"], "label": row["label"]} for row in texts(5)]
    once = berttools("predict", "--model", tuned, stdin=lines(*rows))
    twice = berttools("predict", "--model", tuned, stdin=once.out)
    assert [record["gold"] for record in twice.records] == [row["label"] for row in rows]


def test_what_an_earlier_run_said_is_no_outcome_of_this_one(berttools: Berttools, tuned: Path) -> None:
    stale = {"score": 0.7, "label": "bad", "scores": {"x": 0.7}, "truncated": 99, "id": 1, "gold": 1}
    done = berttools("predict", "--model", tuned, stdin=lines({**stale, "text": "good"}, {**stale, "text": ""}))
    fits, empty = done.records
    assert ("truncated" in fits, set(fits["scores"]), fits["id"]) == (False, {"bad", "good"}, 1)
    assert set(empty) == {"score", "schema", "id", "gold", "text", "error"}
    cut = berttools("predict", "--model", tuned, stdin=lines({**stale, "text": "good " * 50})).records[0]
    assert cut["truncated"] == 4


@pytest.mark.parametrize(
    ("fields", "columns", "gold", "kept"),
    [
        ({"label": 1}, [], 1, {}),
        ({"label": 1, "gold": 0}, [], 0, {}),
        ({"label": 1, "gold": None}, [], 1, {}),
        ({"gold": 0}, ["label=gold"], 0, {}),
        ({"right": 1}, ["label=right"], 1, {}),
        ({"right": 1, "gold": 0}, ["label=right"], 0, {"right": 1}),
        ({"score": 0.5}, ["label=score"], 0.5, {}),
    ],
)
def test_gold_wins_over_a_label(
    berttools: Berttools, tuned: Path, fields: dict[str, Any], columns: list[str], gold: float, kept: dict[str, Any]
) -> None:
    words = [word for column in columns for word in ("--columns", column)]
    (record,) = berttools("predict", "--model", tuned, *words, stdin=lines({**fields, "text": "good"})).records
    assert record["gold"] == gold
    assert record["label"] in ("bad", "good")
    assert {key: record[key] for key in record if key == "right"} == kept


def test_bfloat16_is_what_one_asks_for(
    berttools: Berttools, tuned: Path, dev: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    plain = Inference.autocast

    def noted(self: Inference) -> Any:
        asked.append(self._half)
        return plain(self)

    monkeypatch.setattr(Inference, "autocast", noted)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr("_toolio.compute.precision._emulates_bfloat16", lambda: True)
    for words, half in (([], False), (["--precision", "float32"], False), (["--precision", "bfloat16"], True)):
        done = berttools("predict", "--model", tuned, "--in", dev, *words)
        assert (done.code, set(asked)) == (0, {half})
        slow = "emulates it, several times slower than float32; leave --precision out"
        assert (slow in done.err) == (half and not torch.cuda.is_available())
        asked.clear()


def test_memory_that_runs_out_is_one_line(
    berttools: Berttools, tuned: Path, dev: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*words: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.\nMore of it")

    monkeypatch.setattr(Inference, "forward", too_large)
    done = berttools("predict", "--model", tuned, "--in", dev)
    assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
    assert "out of memory; try a smaller --batch" in done.err


def test_a_batch_that_memory_does_not_suffice_for_is_halved(
    berttools: Berttools, tuned: Path, dev: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = berttools("predict", "--model", tuned, "--in", dev, "--batch", "2")
    forward = Inference.forward

    def at_most_2(self: Inference, model: Any, texts: Any, **more: Any) -> Any:
        if len(texts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.\nMore of it")
        return forward(self, model, texts, **more)

    monkeypatch.setattr(Inference, "forward", at_most_2)
    done = berttools("predict", "--model", tuned, "--in", dev, "--batch", "8")
    assert (done.code, len(done.records)) == (0, len(expected.records))
    for one, other in zip(done.records, expected.records, strict=True):
        assert one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    words = r"berttools: warning: out of memory: texts are labelled (\d) at a time from here on; --batch \1 begins so\n"
    assert re.fullmatch(words, done.err)


@pytest.mark.parametrize("nothing", [None, ""])
def test_an_empty_error_is_none(berttools: Berttools, tuned: Path, nothing: str | None) -> None:
    done = berttools("predict", "--model", tuned, stdin=lines({"text": "good", "error": nothing}))
    assert (done.code, done.records[0]["label"] in ("bad", "good"), "error" in done.records[0]) == (0, True, False)
    judged = berttools("evaluate", stdin=lines({"label": "a", "gold": "a", "error": nothing}))
    assert (judged.code, judged.records[0]["score"], judged.records[0]["n"]) == (0, 1.0, 1)


def test_a_table_of_labels_is_judged(berttools: Berttools, tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("label,gold\n1,1\n0,1\n")
    done = berttools("evaluate", "--in", tmp_path / "g.csv", "--metric", "accuracy")
    assert (done.code, [record["score"] for record in done.records]) == (0, [0.5])
    (tmp_path / "f.csv").write_text("label,gold\n1,1.0\n0,1\n")
    whole = berttools("evaluate", "--in", tmp_path / "f.csv")
    assert (whole.code, whole.records[0]["score"], whole.err.count("\n")) == (0, 0.5, 1)
    assert "evaluated as classes; as values with --metric pearson" in whole.err
    (tmp_path / "h.csv").write_text("label,text\n1,good\n")
    lacking = berttools("evaluate", "--in", tmp_path / "h.csv")
    assert lacking.code == 1
    assert "h.csv, line 1: no column gold among label, text; needed are label and gold" in lacking.err


def test_several_metrics(berttools: Berttools) -> None:
    stdin = lines({"label": 1, "gold": 1}, {"label": 0, "gold": 1})
    done = berttools("evaluate", "--metric", "matthews", "--metric", "accuracy", stdin=stdin)
    assert {record["metric"] for record in done.records} == {"accuracy", "matthews"}
    told = berttools("evaluate", "--help").out.decode()
    assert "Compute only this metric" in told
    assert "The metric that ranks" not in told


def test_each_task_is_judged_by_itself(berttools: Berttools) -> None:
    one = [{"label": "a", "gold": gold, "task": "one", "scores": {"a": 0.9, "b": 0.1}} for gold in "aab"]
    two = [{"label": n / 2, "gold": n**3, "task": "two"} for n in range(5)]
    mixed = [each for pair in zip(one, two, strict=False) for each in pair] + two[3:]
    done = berttools("evaluate", stdin=lines(*mixed))
    assert done.code == 0
    found = [(record["task"], record["metric"], record["n"]) for record in done.records]
    assert found == [
        *(("one", metric, 3) for metric in ("accuracy", "f1", "macro-f1", "matthews")),
        *(("two", metric, 5) for metric in ("pearson", "spearman")),
    ]
    alone = berttools("evaluate", stdin=lines(*two))
    for record, expected in zip(done.records[4:], alone.records, strict=True):
        assert {key: value for key, value in record.items() if key != "task"} == expected
    some = berttools("evaluate", "--metric", "accuracy", "--metric", "pearson", stdin=lines(*mixed))
    assert [(record["task"], record["metric"]) for record in some.records] == [("one", "accuracy"), ("two", "pearson")]
    # One task, or none, is one lump.
    lump = berttools("evaluate", "--metric", "accuracy", stdin=lines(*one, {**one[0], "task": None}))
    assert [(record["n"], "task" in record) for record in lump.records] == [(4, False)]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (["X=a", "X=b"], "--mask X=b: the task X is given twice"),
        (["a/x.mask.safetensors", "b/x.mask.safetensors"], "--mask b/x.mask.safetensors: the task x is given twice"),
        (["X="], "--mask X=: give TASK=FILE"),
    ],
)
def test_tasks_of_masks(berttools: Berttools, base: Path, masks: list[str], message: str) -> None:
    done = berttools("predict", "--base", base, *(word for mask in masks for word in ("--mask", mask)))
    assert (done.code, done.out) == (2, b"")
    assert done.err.startswith(f"berttools: error: {message}")


def test_a_number_keeps_its_digits(berttools: Berttools, base: Path, tmp_path: Path) -> None:
    model = make_tuned(base, tmp_path / "numbers", (), change=0.3)
    done = berttools("predict", "--model", model, stdin=lines(*({"text": text} for text in ("good", "bad film"))))
    assert done.code == 0
    for record in done.records:
        assert record["label"] == float(np.float32(record["label"])) != round(record["label"], 6)
        assert record["score"] == round(record["label"], 6)
