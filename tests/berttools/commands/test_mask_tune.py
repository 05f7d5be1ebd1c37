"""``berttools mask-tune``: what is learned, what is written, and bad input."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from berttools.checkpoints.files import open_checkpoint
from berttools.classifier.inference import Inference
from berttools.classifier.model import open_model
from berttools.mask_tuning import pipeline
from berttools.mask_tuning.masked_linear import MaskedLinear
from berttools.masks.base import check_base
from berttools.masks.file import open_mask
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
USUAL = ("--batch", "8", "--max-steps", "40", "--evaluate-every", "20", "--lr", "1e-2", "--score-lr", "0.5")


def words(base: Path, train: Path, dev: Path | None = None) -> list[str | Path]:
    return ["mask-tune", "--base", base, "--train", train, *(["--dev", dev] if dev else []), *USUAL]


def refused(done: Run, message: str, code: int = 1) -> None:
    """One line on stderr that says it, and nothing on stdout."""
    assert (done.code, done.out) == (code, b"")
    assert done.err.startswith("berttools: error: ")
    assert done.err.count("\n") == 1
    assert message in done.err


def keeps_of(path: Path, base: Path) -> dict[str, Any]:
    mask, checkpoint = open_mask(path), open_checkpoint(base)
    return {
        name: mask.keep(name, checkpoint.flat(stored))
        for name, stored in check_base(mask.fingerprint, checkpoint).items()
    }


def noted_runs(patched: pytest.MonkeyPatch) -> list[pipeline.MaskTuneRun]:
    """Return a list that runs add themselves to."""
    runs: list[pipeline.MaskTuneRun] = []
    begin = pipeline.MaskTuneRun.__init__

    def noted(run: pipeline.MaskTuneRun, *arguments: Any, **more: Any) -> None:
        runs.append(run)
        begin(run, *arguments, **more)

    patched.setattr(pipeline.MaskTuneRun, "__init__", noted)
    return runs


def test_what_was_measured_is_what_apply_mask_writes(
    berttools: Berttools, base: Path, train: Path, dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = noted_runs(monkeypatch)
    out = tmp_path / "a.mask"
    done = berttools(*words(base, train, dev), "--initial-sparsity", "0.2", "--refit-head", "--out", out)
    assert (done.code, other_warnings(done.err)) == (0, "")
    last = done.records[-1]
    assert last["refitted"] in (True, False)
    assert last["score"] == pytest.approx(last["accuracy"], abs=1e-6)
    assert berttools("apply-mask", base, out, "--out", tmp_path / "applied").code == 0
    applied = open_model(tmp_path / "applied")
    [run] = runs
    assert run.dev is not None
    cpu = torch.device("cpu")
    logits = [Inference(each, cpu).logits(run.dev.texts) for each in (run.classifier, applied)]
    assert logits[0].tobytes() == logits[1].tobytes()
    assert Inference(applied, cpu).measure(run.dev)["loss"] == last["dev_loss"]

    # Besides masks there is the head, and nothing else.
    mask = open_mask(out)
    assert sorted(mask.dense) == ["classifier.bias", "classifier.weight"]
    assert len(mask.names) == last["matrices"] == 18
    zeroed = sum(int((~keep).sum()) for keep in keeps_of(out, base).values())
    assert last["zeroed"] == zeroed
    assert last["sparsity"] == pytest.approx(zeroed / last["weights"])
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "applied" / "model.safetensors")
    for name, keep in keeps_of(out, base).items():
        assert after[name].tobytes() == np.where(keep, before[name.removeprefix("bert.")], np.float32(0)).tobytes()
    assert mask.made["recipe"]["initial_sparsity"] == 0.2
    assert mask.made["figures"]["score"] == pytest.approx(last["score"], abs=1e-6)


@pytest.mark.slow
@needs_minilm
@needs_glue
def test_a_mask_learns_what_its_head_alone_does_not(berttools: Berttools, tmp_path: Path) -> None:
    lines = (GLUE / "sst2" / "train.jsonl").read_text().splitlines(keepends=True)
    train, dev = tmp_path / "train.jsonl", tmp_path / "dev.jsonl"
    train.write_text("".join(lines[:2000]))
    dev.write_text("".join(lines[2000:2300]))
    usual = ["mask-tune", "--base", minilm(), "--train", train, "--dev", dev, "--batch", "16", "--max-steps", "60"]
    # The rates of docs/results/masks.md: at slower ones so few steps learn or not as the draws fall.
    usual += ["--initial-sparsity", "0.1", "--score-lr", "0.2", "--lr", "1e-3"]
    learned = berttools(*usual, "--out", tmp_path / "a.mask").records[-1]
    alone = ["--score-lr", "1e-9", "--initial-sparsity", "0"]
    still = berttools(*usual, *alone, "--out", tmp_path / "b.mask").records[-1]
    assert still["zeroed"] == 0 or still["inference"] == "draw"
    assert 0.005 < learned["sparsity"] < 0.5
    assert learned["score"] > max(0.65, still["score"] + 0.05)


@pytest.mark.parametrize("method", ["bernoulli", "threshold", "topk"])
@pytest.mark.parametrize("pattern", ["free", "2:4", "row", "head"])
def test_every_method_goes_with_every_pattern(
    berttools: Berttools, base: Path, train: Path, dev: Path, tmp_path: Path, method: str, pattern: str
) -> None:
    out = tmp_path / "a.mask"
    some = ["--method", method, "--pattern", pattern, "--group", "Q,K,V,AO", "--score-lr", "0.3", "--out", out]
    some += [] if pattern == "2:4" else ["--initial-sparsity", "0.5" if pattern == "head" else "0.25"]
    done = berttools(*words(base, train, dev), *some, "--code", "bits")
    assert done.code == 0, done.err
    keeps = keeps_of(out, base)
    assert len(keeps) == 12
    for name, keep in keeps.items():
        if pattern == "2:4":
            assert (keep.reshape(-1, 4).sum(1) == 2).all()
        elif method == "topk" and pattern == "free":
            assert (~keep).sum() == 64
        elif pattern == "row":
            assert np.isin(keep.sum(1), (0, keep.shape[1])).all()
            assert method != "topk" or (~keep.any(1)).sum() == 4
        elif pattern == "head":
            across = keep.T if ".output." in name else keep
            assert np.isin(across.reshape(2, -1).sum(1), (0, across.size // 2)).all()
            assert method != "topk" or (~keep).sum() == keep.size / 2
    assert not all(keep.all() for keep in keeps.values())
    assert ("score_of_draw" in done.records[-1]) == (method == "bernoulli")


def test_topk_reaches_its_target(berttools: Berttools, base: Path, train: Path, dev: Path, tmp_path: Path) -> None:
    some = ["--method", "topk", "--target-sparsity", "0.5", "--out", tmp_path / "a.mask"]
    # Of measurements only those count that were made at the target, whatever the others' scores.
    every = ["--max-steps", "20", "--evaluate-every", "2", "--patience", "1"]
    found = berttools(*words(base, train, dev), *every, *some).records
    assert found[-1]["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert found[-1]["step"] >= 16
    assert max(record["score"] for record in found if record["step"] >= 16) == found[-1]["score"]


def test_what_is_masked_and_what_becomes_of_the_pooler(
    berttools: Berttools, base: Path, train: Path, tmp_path: Path
) -> None:
    def made(*more: str) -> tuple[set[str], set[str]]:
        out = tmp_path / "a.mask"
        done = berttools(*words(base, train), "--max-steps", "2", *more, "--force", "--out", out)
        assert done.code == 0, done.err
        mask = open_mask(out)
        return set(mask.names), set(mask.dense) - {"classifier.weight", "classifier.bias"}

    layer = "bert.encoder.layer.1.attention.self"
    pooler = {"bert.pooler.dense.weight"}
    assert made("--layers", "1", "--group", "Q,K") == ({f"{layer}.query.weight", f"{layer}.key.weight"}, set())
    assert made("--only", r"1\.attention\.self\.value", "--pooler", "mask")[0] == {f"{layer}.value.weight"} | pooler
    assert made("--layers", "1", "--pooler", "dense")[1] == pooler | {"bert.pooler.dense.bias"}
    assert made("--layers", "1", "--pooler", "dense", "--freeze", "pooler")[1] == set()
    assert made("--layers", "1", "--pooler", "mask", "--freeze", "pooler")[0].isdisjoint(pooler)
    line = b'{"name":"encoder.layer.0.output.dense.weight"}\n'
    done = berttools(*words(base, train), "--only", "-", "--force", "--out", tmp_path / "a.mask", stdin=line)
    assert (done.code, open_mask(tmp_path / "a.mask").names) == (0, ["bert.encoder.layer.0.output.dense.weight"])


def test_resuming_gives_what_an_uninterrupted_run_gives(
    berttools: Berttools, base: Path, train: Path, dev: Path, tmp_path: Path, cut_off: CutOff
) -> None:
    usual = [*words(base, train, dev), "--seed", "5", "--initial-sparsity", "0.1", "--refit-head"]
    whole = berttools(*usual, "--out", tmp_path / "whole.mask")
    with cut_off(before=30):
        cut = berttools(*usual, "--out", tmp_path / "cut.mask")
    assert (cut.code, cut.out) == (130, b"".join(whole.out.splitlines(True)[:1]))
    again = [*usual, "--out", tmp_path / "cut.mask", "--resume"]
    refused(berttools(*again, "--initial-sparsity", "0.2"), "made with other recipe (initial_sparsity was 0.1", 2)
    done = berttools(*again)
    assert done.code == 0, done.err
    assert done.out.replace(b"cut.mask", b"whole.mask") == whole.out
    assert (tmp_path / "cut.mask").read_bytes() == (tmp_path / "whole.mask").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.mask", "whole.mask"]


def test_accumulating_changes_no_draw(
    berttools: Berttools, base: Path, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, int, bytes]] = []
    keep = MaskedLinear.keep

    def seen(self: MaskedLinear) -> torch.Tensor:
        found = keep(self)
        if self.training:
            drawn.append((self._draws.step, self._index, found.numpy().tobytes()))
        return found

    monkeypatch.setattr(MaskedLinear, "keep", seen)
    some = ["--max-steps", "2", "--accumulate", "3", "--initial-score", "0.1", "--score-lr", "1e-9"]
    assert berttools(*words(base, train), *some, "--out", tmp_path / "a.mask").code == 0
    counts = Counter(drawn)
    assert set(counts.values()) == {3}
    assert {(step, index) for step, index, _ in counts} == {(step, index) for step in range(2) for index in range(18)}
    assert len({bits for _, _, bits in counts}) == len(counts)


def test_a_teacher_is_learned_from(berttools: Berttools, base: Path, train: Path, dev: Path, tmp_path: Path) -> None:
    tuned = ["finetune", "--base", base, "--train", train, "--epochs", "10", "--lr", "1e-2"]
    assert berttools(*tuned, "--out", tmp_path / "teacher").code == 0
    plain = berttools(*words(base, train, dev), "--out", tmp_path / "a.mask")
    taught = berttools(*words(base, train, dev), "--distill", tmp_path / "teacher", "--out", tmp_path / "b.mask")
    assert (taught.code, other_warnings(taught.err)) == (0, "")
    assert taught.records[0]["loss"] != plain.records[0]["loss"]
    other = make_tuned(base, tmp_path / "other", ("red", "green"))
    done = berttools(*words(base, train), "--distill", other, "--out", tmp_path / "c.mask")
    refused(done, "knows the labels red, green, and --train has 0, 1")


def taught_by(berttools: Berttools, teacher: Path, student: Path, train: Path, *more: str) -> Any:
    """Learn from a teacher; return the texts and the teacher's logits of them that the run had."""
    with pytest.MonkeyPatch.context() as patched:
        runs = noted_runs(patched)
        out = ["--max-steps", "2", "--score-lr", "9", "--out", train.parent / "a.mask"]
        done = berttools(*words(student, train), "--distill", teacher, *more, *out)
    assert (done.code, other_warnings(done.err)) == (0, "")
    assert runs[0].train.teacher_logits is not None
    return runs[0].train


def as_the_teacher_reads(teacher: Path, rows: list[dict[str, Any]]) -> Any:
    """Return a teacher's logits as transformers alone computes them, one text at a time."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(teacher).eval()
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    found = []
    for row in rows:
        texts_of = (row["text_a"], row["text_b"]) if "text_a" in row else (row["text"],)
        most = model.config.max_position_embeddings
        encoded = tokenizer(*texts_of, truncation=True, max_length=most, return_tensors="pt")
        with torch.no_grad():
            found.append(model(**encoded).logits[0].numpy())
    return np.array(found)


@pytest.mark.parametrize("pairs", [False, True])
def test_a_teacher_is_shown_what_it_reads_itself(berttools: Berttools, base: Path, tmp_path: Path, pairs: bool) -> None:
    student = make_base(tmp_path / "student", "distilbert")
    teacher = make_tuned(base, tmp_path / "teacher", change=0.3)
    # A vocabulary of its own, and a model that has but ten positions.
    tokenizer = json.loads((teacher / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["good"], vocabulary["the"] = vocabulary["the"], vocabulary["good"]
    (teacher / "tokenizer.json").write_text(json.dumps(tokenizer))
    weights = load_file(teacher / "model.safetensors")
    place = "bert.embeddings.position_embeddings.weight"
    weights[place] = np.ascontiguousarray(weights[place][:10])
    save_file(weights, teacher / "model.safetensors", {"format": "pt"})
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 10}))
    rows = texts(12, pairs=pairs)
    rows[0]["text_a" if pairs else "text"] = "the good film is very good and not bad it was a great day"
    train = write_lines(tmp_path / "t.jsonl", rows)
    data = taught_by(berttools, teacher, student, train, "--max-length", "8")
    assert all(text.types is None for text in data.texts)
    np.testing.assert_allclose(data.teacher_logits, as_the_teacher_reads(teacher, rows), atol=1e-5)


def test_masks_of_multi_label_data(berttools: Berttools, base: Path, tmp_path: Path) -> None:
    train, dev = (write_lines(tmp_path / f"{seed}.jsonl", several(30, seed=seed)) for seed in (0, 1))
    teacher = make_tuned(base, tmp_path / "teacher", ("good", "bad"), change=0.2)
    usual = ["mask-tune", "--base", base, "--train", train, "--dev", dev, "--max-steps", "6", "--refit-head"]
    usual += ["--score-lr", "2", "--distill", teacher, "--out", tmp_path / "a.mask"]
    refused(berttools(*usual), "knows the labels good, bad, and --train has bad, good (several a text)")
    config = json.loads((teacher / "config.json").read_text()) | {"problem_type": "multi_label_classification"}
    (teacher / "config.json").write_text(json.dumps(config))
    done = berttools(*usual)
    assert (done.code, done.records[-1]["metric"]) == (0, "micro-f1")
    last = done.records[-1]
    assert berttools("apply-mask", base, tmp_path / "a.mask", "--out", tmp_path / "applied").code == 0
    written = json.loads((tmp_path / "applied" / "config.json").read_text())
    assert written["problem_type"] == "multi_label_classification"
    assert written["label_thresholds"] == list(last["label_thresholds"].values())
    # Both ways to serve it say what was measured.
    for words in (["--model", tmp_path / "applied"], ["--base", base, "--mask", tmp_path / "a.mask"]):
        said = berttools("predict", *words, "--in", dev)
        judged = {record["metric"]: record["score"] for record in berttools("evaluate", stdin=said.out).records}
        assert judged == {name: pytest.approx(last[name], abs=1e-6) for name in ("micro-f1", "macro-f1", "accuracy")}


def test_a_teacher_of_other_outputs_is_refused(berttools: Berttools, base: Path, tmp_path: Path) -> None:
    train = write_lines(tmp_path / "t.jsonl", texts(12, numbers=True))
    one = make_tuned(base, tmp_path / "one", ())
    three = make_tuned(base, tmp_path / "three", ("a", "b", "c"))
    config = json.loads((three / "config.json").read_text())
    (three / "config.json").write_text(json.dumps({**config, "problem_type": "regression"}))
    usual = [*words(base, train), "--max-steps", "1", "--out", tmp_path / "a.mask"]
    refused(berttools(*usual, "--distill", three), "three: gives 3 numbers a text, and --base 1")
    assert berttools(*usual, "--distill", one).code == 0


def test_a_teacher_is_not_asked_again_where_all_is_done(
    berttools: Berttools, base: Path, train: Path, dev: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = make_tuned(base, tmp_path / "teacher")
    usual = [*words(base, train, dev), "--out", tmp_path / "a.mask", "--resume"]
    first = berttools(*usual, "--distill", teacher)
    assert first.code == 0
    # The text of its name is no part of what is compared, nor are files besides weights, config.json and tokenizer.
    moved = Path(shutil.copytree(teacher, tmp_path / "moved"))
    (moved / "README.md").write_text("mine")

    def asked(*_: Any) -> None:
        raise AssertionError("the teacher was asked")

    with monkeypatch.context() as patched:
        patched.setattr(pipeline.MaskTuneRun, "_teacher_logits", asked)
        again = berttools(*usual, "--distill", moved)
        assert (again.code, again.err, len(again.records)) == (0, "", 1)
        assert again.records[0] == first.records[-1]
        # Another teacher, or none, is another run.
        refused(berttools(*usual), "made with other teacher_sha256", 2)
        other = make_tuned(base, tmp_path / "other", change=0.02)
        refused(berttools(*usual, "--distill", other), "made with other teacher_sha256", 2)
        words_of = (moved / "tokenizer.json").read_text()
        (moved / "tokenizer.json").write_text(words_of.replace('"good"', '"gooey"'))
        refused(berttools(*usual, "--distill", moved), "made with other teacher_sha256", 2)
        (moved / "tokenizer.json").write_text(words_of)
        config = json.loads((moved / "config.json").read_text())
        (moved / "config.json").write_text(json.dumps(config | {"id2label": {"0": "1", "1": "0"}}))
        refused(berttools(*usual, "--distill", moved), "made with other teacher_sha256", 2)
        refused(berttools(*usual, "--distill", teacher, "--lr", "1e-5"), "made with other arguments", 2)


def test_a_cut_off_run_goes_on_with_its_own_teacher_only(
    berttools: Berttools, base: Path, train: Path, dev: Path, tmp_path: Path, cut_off: CutOff
) -> None:
    teachers = [make_tuned(base, tmp_path / f"teacher{n}", change=n / 100) for n in (1, 2)]
    usual = [*words(base, train, dev), "--out", tmp_path / "a.mask"]
    whole = berttools(*usual, "--distill", teachers[0])
    written = (tmp_path / "a.mask").read_bytes()
    (tmp_path / "a.mask").unlink()
    with cut_off():
        assert berttools(*usual, "--distill", teachers[0]).code == 130
    refused(berttools(*usual, "--resume", "--distill", teachers[1]), "made with other teacher_sha256", 2)
    refused(berttools(*usual, "--resume"), "made with other teacher_sha256", 2)
    done = berttools(*usual, "--resume", "--distill", teachers[0])
    assert (done.code, done.out) == (0, whole.out)
    assert (tmp_path / "a.mask").read_bytes() == written


def test_rates_that_cannot_reach_zero_are_told_of(
    berttools: Berttools, base: Path, train: Path, tmp_path: Path
) -> None:
    done = berttools(*words(base, train), "--score-lr", "0.01", "--out", tmp_path / "a.mask")
    assert done.code == 0
    halves = berttools(*words(base, train), "--score-lr", "0.01", "--pattern", "2:4", "--out", tmp_path / "b.mask")
    assert (halves.code, halves.err) == (0, "")
    assert "scores begin 5 away from 0 and move by their learning rates, which add up to 0.21: few" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "message", "code"),
    [
        (["--method", "topk"], "give --target-sparsity", 2),
        (["--target-sparsity", "0.5"], "--target-sparsity goes with --method topk", 2),
        (["--pattern", "2:4", "--initial-sparsity", "0.1"], "half of each matrix is zeroed", 2),
        (["--pattern", "head"], "give --group Q,K,V,AO", 1),
        (["--initial-sparsity", "1.5"], "--initial-sparsity", 2),
        (["--only", "LayerNorm"], "there is nothing to mask", 1),
        (["--only", "nowhere"], "--only nowhere: fits no tensor", 2),
        (["--layers", "99"], "--layers 99: the model has none such", 2),
        (["--distill", "nowhere"], "nowhere: no such folder", 1),
        (["--patience", "2"], "--patience needs texts to measure on", 2),
    ],
)
def test_what_cannot_be_is_refused(
    berttools: Berttools, base: Path, train: Path, tmp_path: Path, more: list[str], message: str, code: int
) -> None:
    refused(berttools(*words(base, train), *more, "--out", tmp_path / "a.mask"), message, code)
    assert list(tmp_path.iterdir()) == []


def test_no_part_of_a_matrix_is_masked(berttools: Berttools, train: Path, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "modernbert")
    tuned = make_tuned(base, tmp_path / "other")
    three = berttools("layerdiff", "--group", "Q,K,V", base, tuned).out.splitlines(True)[:3]
    out = ["--max-steps", "2", "--only", "-", "--out", tmp_path / "m"]
    done = berttools(*words(base, train), *out, stdin=three[1])
    refused(done, "rows 16 to 31 of model.layers.0.attn.Wqkv.weight, and masks are of whole matrices; give the name", 2)
    assert not (tmp_path / "m").exists()
    for lines in (three, [json.loads(three[1])["name"].encode()]):
        done = berttools(*words(base, train), *out, "--force", stdin=b"".join(lines))
        assert done.code == 0, done.err
        assert list(open_mask(tmp_path / "m").shapes) == ["model.layers.0.attn.Wqkv.weight"]


def untouched(path: Path) -> tuple[int, ...]:
    """Give what changes when a file is written or replaced, to the nanosecond, and not when it is read."""
    found = path.stat()
    return found.st_ino, found.st_mode, found.st_nlink, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def test_resuming_what_is_done_does_nothing(berttools: Berttools, base: Path, train: Path, tmp_path: Path) -> None:
    usual = [*words(base, train, train), "--initial-sparsity", "0.1", "--out", tmp_path / "a.mask"]
    first = berttools(*usual)
    written = untouched(tmp_path / "a.mask")
    again = berttools(*usual, "--resume")
    assert (again.code, again.err, len(again.records)) == (0, "", 1)
    assert again.records[0] == first.records[-1]
    assert untouched(tmp_path / "a.mask") == written
    refused(
        berttools(*usual, "--resume", "--initial-sparsity", "0.2"), "made with other recipe (initial_sparsity was", 2
    )
    refused(berttools(*usual, "--resume", "--refit-head"), "made with other recipe (refit_head was False", 2)
    refused(berttools(*usual, "--resume", "--layers", "1"), "made with other choice (layers was None, and is '1')", 2)
    # Cut off after the mask was written, and before its checkpoint was removed.
    checkpoint = tmp_path / "a.mask.checkpoint"
    shutil.copy(tmp_path / "a.mask", checkpoint)
    refused(berttools(*usual, "--resume", "--seed", "9"), "made with other arguments (seed was 0, and is 9)", 2)
    assert checkpoint.exists()
    assert berttools(*usual, "--resume").records == again.records
    assert not checkpoint.exists()
    (tmp_path / "a.mask").write_bytes(b"mine")
    refused(berttools(*usual, "--resume"), "a.mask")
    assert (tmp_path / "a.mask").read_bytes() == b"mine"


def test_nothing_that_is_read_is_replaced(berttools: Berttools, base: Path, train: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(base, tmp_path / "base"))
    teacher = make_tuned(base, tmp_path / "teacher")
    for folder, more in ((mine, []), (teacher, ["--distill", teacher])):
        weights = (folder / "model.safetensors").read_bytes()
        for command in (["mask-tune", *more], ["finetune", "--save", "delta"]):
            if command[0] == "finetune" and more:
                continue
            out = ["--out", folder / "model.safetensors", "--force"]
            done = berttools(*command, "--base", mine, "--train", train, "--max-steps", "1", *out)
            refused(done, "whose files it could replace", 2)
        assert (folder / "model.safetensors").read_bytes() == weights


def test_a_file_that_is_there_is_kept(berttools: Berttools, base: Path, train: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mask").write_bytes(b"mine")
    refused(berttools(*words(base, train), "--out", tmp_path / "a.mask"), "exists", 2)
    assert (tmp_path / "a.mask").read_bytes() == b"mine"


@pytest.mark.parametrize("kind", ["distilbert", "roberta", "electra", "modernbert"])
def test_every_architecture_is_masked(berttools: Berttools, train: Path, tmp_path: Path, kind: str) -> None:
    base = make_base(tmp_path / "base", kind)
    done = berttools(*words(base, train), "--max-steps", "3", "--initial-sparsity", "0.3", "--out", tmp_path / "a.mask")
    assert done.code == 0, done.err
    assert berttools("apply-mask", base, tmp_path / "a.mask", "--out", tmp_path / "applied").code == 0
    said = berttools("predict", "--model", tmp_path / "applied", "--in", train)
    assert (said.code, len(said.records)) == (0, len(train.read_text().splitlines()))
    assert done.records[-1]["sparsity"] == pytest.approx(0.3, abs=0.05)


def test_numbers_are_learned_too(berttools: Berttools, base: Path, tmp_path: Path) -> None:
    train = write_lines(tmp_path / "t.jsonl", texts(60, pairs=True, numbers=True))
    done = berttools(*words(base, train, train), "--out", tmp_path / "a.mask")
    assert (done.code, done.records[-1]["metric"]) == (0, "pearson")
    shutil.rmtree(tmp_path / "applied", ignore_errors=True)
    assert berttools("apply-mask", base, tmp_path / "a.mask", "--out", tmp_path / "applied").code == 0
    assert open_model(tmp_path / "applied").labels.regression


def test_several_processes_learn_the_masks_of_one(
    berttools: Berttools, warm_command: Callable[..., list[str]], base: Path, tmp_path: Path
) -> None:
    data = write_lines(tmp_path / "a.jsonl", texts(11))
    usual = ["mask-tune", "--base", base, "--train", data, "--dev", data, "--batch", "5", "--score-lr", "1"]
    usual += ["--max-steps", "6", "--device", "cpu", "--initial-score", "2"]
    alone = berttools(*usual, "--out", tmp_path / "1.mask")
    first, second = run_together(warm_command, [tmp_path] * 2, "berttools", *usual, "--out", tmp_path / "2.mask")
    assert (first.code, second.code) == (0, 0), first.err + second.err
    one, two = (keeps_of(tmp_path / f"{count}.mask", base) for count in (1, 2))
    # Sums in another order turn a score or two that lie on the edge.
    assert np.mean([np.mean(one[name] == two[name]) for name in one]) > 0.995
    assert 0.01 < alone.records[-1]["sparsity"] < 0.9
