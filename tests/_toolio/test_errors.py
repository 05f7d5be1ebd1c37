"""Failures name parameters: as Python spells them from a library, as options from a command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from _toolio.errors import InputError, ToolError, UsageError, in_one_line, of_the_whole_run, param, spell_parameters
from _toolio.streams.records import error_fields


@pytest.fixture
def options() -> Iterator[None]:
    spell_parameters({"held_out": "--held-out", "base": "BASE"})
    yield
    spell_parameters({})


def test_a_library_says_the_parameter() -> None:
    error = UsageError(f"{param('held_out')} 1.0: leaves nobody to train on")
    assert (str(error), error.message) == ("held_out 1.0: leaves nobody to train on",) * 2


@pytest.mark.usefixtures("options")
def test_a_command_says_the_option() -> None:
    error = InputError(f"{param('held_out')} and {param('base')}, {param('unknown')}", kind="x")
    assert error.message == "--held-out and BASE, unknown"
    assert error_fields(error)["error"] == {"kind": "x", "message": "--held-out and BASE, unknown"}
    with pytest.raises(ToolError, match=r"^--held-out and BASE, unknown$"), of_the_whole_run():
        raise error


@pytest.mark.parametrize("text", ["held_out", "<held_out>", "{held_out}", "--held-out", "\ue0b0held out\ue0b1"])
def test_nothing_else_is_taken_for_a_parameter(text: str, options: None) -> None:
    assert ToolError(f"{text}.jpg: broken").message == f"{text}.jpg: broken"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("detect --in . -0", "-0 is for paths on stdin; give --in -"),
        ("detect --in - --in -", "--in - can be given once"),
        ("align --in . --out deep", "--out deep: lies in --in ., whose files it would add to; name a folder elsewhere"),
        ("embed --in . --out made", "--out made: exists; use --force to replace it"),
        ("embed --in . --out made --force", "--out made: is no safetensors file, and --force replaces no other;"
         " name another file"),
        ("plot --kind histogram --out x", "--out x: is drawn as PNG, SVG or PDF; name a .png, .svg or .pdf file"),
        ("train-extractor --epochs 1 --in . --out x", "x.checkpoint: exists; use --resume to go on from it, or --force"
         " to start again"),
    ],
)  # fmt: skip
def test_what_the_plumbing_refuses_is_said_in_options(arguments: str, message: str, tmp_path: Path) -> None:
    for name in ("made", "x.checkpoint"):
        (tmp_path / name).write_text("something else")
    done = subprocess.run(
        [sys.executable, "-m", "facetools", *arguments.split()],
        cwd=tmp_path, capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"facetools: error: {message}\n")


def test_a_command_line_spells_its_options() -> None:
    """A real command, to its end: what a library raises by the parameter's name, its user reads as an option."""
    code = (
        "import sys\n"
        "from _toolio.errors import UsageError, param\n"
        "from facetools.commands import detect\n"
        "def refuse(*_, **__): raise UsageError(f\"{param('min_face')} and {param('inputs')}: no\")\n"
        "detect.open_photos = refuse\n"
        "from facetools.cli import main\n"
        "sys.argv = ['facetools', 'detect', '--in', '.']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=1200, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "facetools: error: --min-face and --in: no\n")


def test_errors_of_libraries_in_one_line() -> None:
    assert in_one_line(ValueError("a\n  b\tc")) == "a b c"
    assert len(in_one_line(ValueError("x" * 1000))) == 300
    assert in_one_line(ZeroDivisionError()) == "ZeroDivisionError"
