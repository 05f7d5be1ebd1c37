"""``berttools score-layers``: what it refuses, and what it does without."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Run
from tiny_models import make_tuned, texts, write_lines

Berttools = Callable[..., Run]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--by fisher is measured on texts: give --train"),
        (
            ["--by", "lift", "--train", "{train}"],
            "--by lift is of the weights alone, and reads no --train",
        ),
        (["--by", "cosine", "--train", "{train}", "--fit-head", "2"], "--fit-head goes with --by fisher or grad"),
        (["--train", "{train}", "--columns", "spam=text"], "--columns"),
        (["--train", "{train}", "--base", "{tuned}", "--task", "regression"], "has a head of its own; give --new-head"),
    ],
)
def test_what_cannot_be_is_one_line(
    berttools: Berttools, base: Path, train: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    places = {"train": train, "tuned": make_tuned(base, tmp_path / "tuned")}
    done = berttools("score-layers", "--base", base, *(word.format(**places) for word in words))
    assert (done.code, done.out) == (2, b"")
    assert done.err.count("\n") == 1
    assert message in done.err


def test_labels_that_a_head_does_not_know_are_refused(berttools: Berttools, base: Path, tmp_path: Path) -> None:
    tuned = make_tuned(base, tmp_path / "tuned", ("bad", "good"))
    train = write_lines(tmp_path / "a.jsonl", [{"text": "a film", "label": label} for label in ("bad", "fine")])
    done = berttools("score-layers", "--base", tuned, "--train", train)
    assert (done.code, done.out) == (1, b"")
    assert "which the base's head knows; --new-head replaces it" in done.err
    assert berttools("score-layers", "--base", tuned, "--train", train, "--new-head").code == 0


def test_what_is_doubtful_about_labels_is_a_warning(berttools: Berttools, base: Path, tmp_path: Path) -> None:
    lines = [{**line, "label": ("neg", "Neg", "pos")[n % 3]} for n, line in enumerate(texts(9))]
    done = berttools(
        "score-layers", "--base", base, "--train", write_lines(tmp_path / "a.jsonl", lines), "--texts", "5"
    )
    assert done.code == 0
    assert done.err.startswith("berttools: warning: ")
    assert "Neg" in done.err


def test_weights_alone_need_no_torch(base: Path) -> None:
    code = (
        "import sys\nfrom berttools.cli import main\n"
        f"sys.argv = ['berttools', 'score-layers', '--base', {str(base)!r}, '--by', 'lift']\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert done.stdout.count(b"\n") == 18
