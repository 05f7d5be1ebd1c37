"""An interrupted run says how far it came, where something of it is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from _toolio.cli.interrupts import resumable
from _toolio.cli.progress import track
from _toolio.files.checkpoint_names import fold_checkpoint
from _toolio.progress import count_kept
from _toolio.tensors.writer import write_safetensors

Told = Callable[..., str]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Told:
    """Return what is said where some work is interrupted."""

    def interrupted(
        work: Callable[[], object], *, resume: bool = False, by: type[BaseException] = KeyboardInterrupt
    ) -> str:
        with pytest.raises(by), resumable("tool", tmp_path / "x", resume=resume):
            work()
            raise by
        out, err = capsys.readouterr()
        assert out == ""
        return err

    return interrupted


def checkpoint(path: Path, **about: Any) -> None:
    write_safetensors(path, {}, about)


@pytest.mark.parametrize("by", [KeyboardInterrupt, SystemExit])
def test_items_that_are_kept_are_counted(told: Told, by: type[BaseException]) -> None:
    def some(wanted: int, total: int | None, *, resumes: bool = True) -> None:
        for number in track(range(80), "cloaking", total, resumes=resumes):
            if number == wanted:
                break

    assert told(lambda: some(12, 80), by=by) == "tool: stopped after 12 of 80; go on with resume\n"
    assert told(lambda: some(0, 80), by=by) == "", "what was begun is not done"
    assert told(lambda: some(12, 80, resumes=False), by=by) == "", "nothing of it is kept"
    assert told(lambda: some(99, 80), by=by) == "", "it came to its end"
    assert told(lambda: some(3, None), by=by) == "tool: stopped after 3; go on with resume\n"


def test_without_such_a_block_nothing_is_kept_of_a_count(told: Told) -> None:
    assert list(count_kept("abc", None)) == ["a", "b", "c"]
    assert told(lambda: None) == ""


def test_an_end_or_an_error_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with resumable("tool", tmp_path / "x", resume=False):
        next(count_kept("abc", 3))
    with pytest.raises(ValueError, match="broken"), resumable("tool", tmp_path / "x", resume=False):
        list(zip(range(2), count_kept("abc", 3), strict=False))
        raise ValueError("broken")
    assert capsys.readouterr() == ("", "")


def test_a_name_that_no_file_can_have_is_for_the_command_to_refuse(tmp_path: Path) -> None:
    with resumable("tool", tmp_path / ("x" * 300), resume=True):
        pass


def test_a_training_is_as_far_as_its_checkpoint(told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.checkpoint"
    assert told(lambda: checkpoint(path, epoch=3, step=60, arguments={"epochs": 1200})) == (
        "tool: stopped after 3 of 1,200 epochs; go on with resume\n"
    )
    assert told(lambda: None) == "", "it is another run's"
    assert told(lambda: None, resume=True) == "tool: stopped after 3 of 1,200 epochs; go on with resume\n"
    assert told(lambda: checkpoint(path, step=1, arguments={"steps": 1})) == (
        "tool: stopped after 1 of 1 step; go on with resume\n"
    )
    part = fold_checkpoint(path, 1)
    assert told(lambda: checkpoint(part, epoch=5, arguments={"epochs": 5, "folds": 2}), resume=True) == ""
    path.unlink()
    assert told(lambda: None, resume=True) == "tool: stopped after 5 of 15 epochs; go on with resume\n"
    monkeypatch.setenv("RANK", "1")
    assert told(lambda: None, resume=True) == "", "the leading process says it"
