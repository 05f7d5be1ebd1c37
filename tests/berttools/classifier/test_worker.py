"""The worker of ``berttools predict``: windows of rows in, the same windows with predictions out."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import pytest

from _toolio.errors import InputError, ToolError
from berttools.classifier.predictor import Prediction, Predictor
from berttools.classifier.worker import PredictionWorker
from berttools.texts.rows import Columns, Row
from tiny_models import make_tuned

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = [
    Row("line 1", {"text": "good film"}),
    Row("line 2", {"text": "x", "error": {"kind": "k", "message": "m"}}),
    Row("line 3", {}, InputError("line 3: broken", kind="bad-record")),
]


def test_a_worker_of_another_process_predicts_the_same(base: Path, tmp_path: Path) -> None:
    opening = partial(PredictionWorker, make_tuned(base, tmp_path / "tuned"), {}, Columns({}), False, 2, None)
    windows = [ROWS, ROWS[:1]]
    here = list(opening("cpu")(windows))
    there = pickle.loads(pickle.dumps(list(pickle.loads(pickle.dumps(opening))("cpu")(windows))))
    assert [[row.where for row in window] for window, _ in there] == [["line 1", "line 2", "line 3"], ["line 1"]]
    # The row with an error of an earlier command has none.
    assert [len(found) for _, found in there] == [2, 1]
    (first, broken), (alone,) = there[0][1], there[1][1]
    assert isinstance(first, Prediction)
    assert first == alone == here[0][1][0]
    assert isinstance(broken, InputError)
    assert (broken.kind, broken.message) == ("bad-record", "line 3: broken")


def test_no_memory_for_one_text_ends_the_run_in_one_line(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: object) -> None:
        raise MemoryError

    worker = PredictionWorker(make_tuned(base, tmp_path / "tuned"), {}, Columns({}), False, 2, None, "cpu")
    monkeypatch.setattr(Predictor, "predict", too_much)
    with pytest.raises(ToolError, match=r"^cpu: out of memory; try a smaller batch, or a smaller max_length$"):
        list(worker([ROWS]))
