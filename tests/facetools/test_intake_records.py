"""Records of inputs that need no work."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from _toolio.errors import InputError
from _toolio.streams.inputs import Item
from _toolio.streams.records import RecordWriter
from facetools.intake import Finished, Refusal
from facetools.intake_records import hand_on, needing_work, without_reason
from facetools.workers.photos import Processed


def told(capfdbinary: Any) -> list[dict[str, Any]]:
    sys.stdout.flush()
    return [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("makes_files", "paths"), [(False, {"path": "a.jpg"}), (True, {"path": None, "source": "a.jpg"})]
)
def test_a_refused_input_is_an_error_record(
    capfdbinary: pytest.CaptureFixture[bytes], makes_files: bool, paths: dict[str, Any]
) -> None:
    with RecordWriter("t.c/1", "score", ()) as writer:
        hand_on(
            writer, Refusal(Item("a.jpg", "a.jpg", {"who": "me"}), InputError("no", kind="k")), makes_files=makes_files
        )
        assert writer.exit_code == 3
    error = {"kind": "k", "message": "no"}
    assert told(capfdbinary) == [{"score": None, "schema": "t.c/1", **paths, "error": error, "who": "me"}]


def test_what_was_said_before_is_said_again(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    before = {"moved": None, "schema": "t.b/1", "path": None, "reason": "no face found"}
    done = [{"score": 0.5, "path": "b.jpg", "face": n} for n in (0, 1)]
    with RecordWriter("t.c/1", "score", ()) as writer:
        hand_on(writer, Refusal(Item("a.jpg", "a.jpg", before), None))
        hand_on(writer, Finished(Item("b.jpg", "b.jpg"), done))
        assert writer.exit_code == 0
    assert told(capfdbinary) == [before, *({**record, "schema": "t.c/1"} for record in done)]


def test_what_needs_work_is_left(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    photo = Processed(Item("b.jpg", "b.jpg"), (), "made")
    refusal = Refusal(Item("a.jpg", "a.jpg"), InputError("no", kind="k"))
    with RecordWriter("t.c/1", "score", ()) as writer:
        assert list(needing_work(writer, [refusal, photo, refusal])) == [photo]
    assert [record["path"] for record in told(capfdbinary)] == ["a.jpg", "a.jpg"]


def test_a_reason_of_old_is_left_out() -> None:
    record = {"path": "a", "reason": "no face found"}
    assert without_reason(record) == {"path": "a"}
    assert record["reason"] == "no face found"
