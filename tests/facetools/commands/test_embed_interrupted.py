"""``facetools embed`` that is interrupted while it prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from _toolio.streams.records import RecordWriter
from conftest import Run
from facetools.embeddings.files import read_embeddings


def test_it_says_that_the_file_is_whole_and_the_records_are_not(
    run_inside: Callable[..., Run], people_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, emit, printed = tmp_path / "e.safetensors", RecordWriter.emit, []

    def interrupted(self: RecordWriter, *fields: Any, **more: Any) -> None:
        if printed:
            raise KeyboardInterrupt
        printed.append(fields)
        emit(self, *fields, **more)

    words = ("facetools", "embed", people_folder, "--crops", "--out", out)
    with monkeypatch.context() as patch:
        patch.setattr(RecordWriter, "emit", interrupted)
        done = run_inside(*words)
    assert (done.code, len(done.records)) == (130, 1)
    assert done.err == (
        f"facetools: note: {out} is whole, but not all of its records were printed; the same with --force makes both"
        " again\n"
    )
    rows = len(read_embeddings(out).values)
    assert rows > 1
    again = run_inside(*words, "--force")
    assert (again.code, len(again.records)) == (0, rows)
