"""Lines for people on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from _toolio.cli.messages import complain, note, warn


@pytest.mark.parametrize(("say", "kind"), [(complain, "error"), (warn, "warning"), (note, "note")])
def test_a_message_is_one_line_and_nothing_where_stderr_is_closed(
    say: Callable[[str, str], None],
    kind: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    say("facetools", "a\nb\x1b[2J.jpg: é")
    assert capsys.readouterr() == ("", f"facetools: {kind}: a\\nb\\x1b[2J.jpg: é\n")
    monkeypatch.setattr(sys, "stderr", None)
    say("facetools", "a.jpg")
