"""Manual pages lie in the commands' files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from _toolio.cli.manual import EXIT_STATUS, Page, pages_of


def test_pages_are_found_by_the_commands_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "made_up_tool" / "commands"
    folder.mkdir(parents=True)
    for name in ("one", "two_words"):
        (folder / f"{name}.py").write_text(
            "from _toolio.cli.manual import Page\n"
            f"PAGE = Page(fields={{'score': 'of {name}'}}, examples=[], exit_status='0 always.')\n"
        )
    (folder / "no_page.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    pages = pages_of("made_up_tool", ["two-words", "one"])
    assert list(pages) == ["two-words", "one"]
    assert pages["two-words"] == Page({"score": "of two_words"}, [], "0 always.")
    with pytest.raises(AttributeError, match="PAGE"):
        pages_of("made_up_tool", ["no-page"])
    for name in [name for name in sys.modules if name.startswith("made_up_tool")]:
        del sys.modules[name]


def test_a_page_says_the_usual_exit_codes() -> None:
    page = Page(fields={}, examples=[("tool x", "does x.")])
    assert page.exit_status == EXIT_STATUS
    codes = ("0 all well", "1 failed", "2 usage", "3 some inputs failed")
    for code in (*codes, "129 terminal closed", "130 interrupted", "143 terminated"):
        assert code in page.exit_status
