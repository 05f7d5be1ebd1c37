"""A progress bar is drawn on a terminal and nowhere else, and changes nothing about the items."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest

from _toolio.cli.progress import close_with, track


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_pipe_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(iter("abc"), "reading", 3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_without_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert list(track(range(3), "reading")) == [0, 1, 2]


@pytest.mark.parametrize("total", [None, 3])
def test_on_a_terminal_a_bar_is_drawn_on_stderr(
    total: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    assert list(track("abc", "reading photos", total)) == ["a", "b", "c"]
    assert "reading photos" in screen.getvalue()
    assert ("3/3" if total else "3/?") in screen.getvalue()
    assert capsys.readouterr().out == ""


def test_items_are_drawn_one_at_a_time() -> None:
    drawn = []

    def items() -> Iterator[int]:
        for number in range(3):
            drawn.append(number)
            yield number

    tracked = track(items(), "reading")
    assert drawn == []
    assert next(tracked) == 0
    assert drawn == [0]


def test_an_error_of_the_items_is_raised_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    for stream in (io.StringIO(), Screen()):
        monkeypatch.setattr(sys, "stderr", stream)
        tracked = track(items(), "reading")
        assert next(tracked) == 1
        with pytest.raises(ValueError, match="broken"):
            next(tracked)


def test_a_closing_line_is_for_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    close_with("3 photos")
    assert capsys.readouterr() == ("", "")
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    close_with("3 photos")
    assert screen.getvalue() == "3 photos\n"
    monkeypatch.setattr(sys, "stderr", None)
    close_with("3 photos")
    assert capsys.readouterr().out == ""
