"""What all charts share: names of formats, bytes that depend on the numbers alone, labels that fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from _toolio.charts import FORMATS, form_of, label_of, new_figure, picture, style
from _toolio.errors import UsageError, param


def drawn(kind: str) -> bytes:
    with style():
        figure = new_figure(1.5)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 2], label="$a")
        axes.legend()
        return picture(figure, kind)


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_bytes_depend_on_the_numbers_alone(kind: str, start: bytes) -> None:
    import matplotlib

    first = drawn(kind)
    with matplotlib.rc_context({"font.size": 20, "axes.grid": False, "lines.linewidth": 9}):
        assert drawn(kind) == first
        assert matplotlib.rcParams["font.size"] == 20, "the user's settings are as they were"
    assert first.startswith(start)
    for word in (b"Matplotlib v", b"matplotlib version", b"CreationDate", b"<dc:date>", b"<dc:creator>"):
        assert word not in first


def test_a_file_has_the_form_that_its_name_says(tmp_path: Path) -> None:
    for name, form in (("a.png", "png"), ("a.SVG", "svg"), ("a.b.pdf", "pdf")):
        assert form_of(tmp_path / name, force=False) == form
        assert form in FORMATS
    for name in ("a.jpg", "png", ".png", "a"):
        with pytest.raises(UsageError, match=r"^grid .*: is drawn as PNG, SVG or PDF"):
            form_of(tmp_path / name, force=False, named=param("grid"))


def test_only_a_chart_of_the_form_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_bytes(b"<svg>")
    with pytest.raises(UsageError, match=r"out .*a.svg: exists; use force"):
        form_of(tmp_path / "a.svg", force=False)
    assert form_of(tmp_path / "a.svg", force=True) == "svg"
    (tmp_path / "a.svg").write_bytes(b"%PDF")
    with pytest.raises(UsageError, match="is no SVG file, and force replaces no other"):
        form_of(tmp_path / "a.svg", force=True)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("short", "short"),
        ("", ""),
        ("two words that break", "two words\nthat break"),
        ("one two three four five six", "one two\nthree fou…"),
        ("unbreakable0123456789", "unbreakabl\ne01234567…"),
        ("a\x1bb", "a\\x1bb"),
    ],
)
def test_labels_fit(text: str, label: str) -> None:
    found = label_of(text, chars=10)
    assert all(len(line) <= 10 for line in found.split("\n"))
    assert found == label


def test_importing_draws_and_loads_nothing() -> None:
    code = "import sys, _toolio.charts; print({'matplotlib', 'numpy'} & sys.modules.keys())"
    environment = {key: value for key, value in os.environ.items() if key != "DISPLAY"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "set()\n"
