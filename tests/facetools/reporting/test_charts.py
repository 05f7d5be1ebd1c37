"""Charts: the same bytes always, whatever the user's settings; every number where it belongs."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from _toolio.charts import label_of
from facetools.reporting.charts import COLOURS, MOST_BARS, Bar, Line, Panel, bar_chart, line_chart, parts

GROUPS = ["one", "$\\frac{ two_", "\u4eba\udcff" * 60]


def bars(value: float = 0.8) -> bytes:
    series = [("nn", [Bar(value, (value - 0.1, value + 0.1), 0.02), Bar(0.0, (0.0, 0.0), 0.0), None])]
    return bar_chart(GROUPS, [*series, ("linear", [Bar(1.0), None, Bar(0.3, None, 1.0)])], label="share", mark="floor")


def lines() -> bytes:
    shares = Panel("share", [Line("a", [1, 2, 3], [0.1, None, 1.0])], percent=True)
    return line_chart([shares, Panel("loss", [Line("b", [1, 2, 3], [4.0, 2.0, 1.0])])], x_label="epoch")


def widths(data: bytes, colour: str) -> int:
    """How many pixels of a colour the row of a chart has that holds most: a bar beside its interval."""
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    value = tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return int((pixels == value).all(2).sum(1).max())


@pytest.mark.parametrize("draw", [bars, lines])
def test_a_chart_is_a_png_that_tells_neither_when_nor_with_what_it_was_made(draw: Callable[[], bytes]) -> None:
    data = draw()
    assert data == draw()
    picture: Any = Image.open(io.BytesIO(data))
    picture.load()
    assert set(picture.info) <= {"dpi"}
    assert picture.getpixel((0, 0))[:3] == (255, 255, 255)


def test_bars_are_as_long_as_their_values() -> None:
    long, short = widths(bars(0.8), COLOURS[0]), widths(bars(0.4), COLOURS[0])
    assert long == pytest.approx(2 * short, rel=0.05)
    assert widths(bars(), COLOURS[1]) == pytest.approx(long / 0.8, rel=0.05), "1.0 fills the axis"


def test_settings_and_a_missing_home_change_no_byte_and_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 30\naxes.facecolor: red\nbackend: TkAgg\nsavefig.dpi: 20\n")
    (tmp_path / "file").write_bytes(b"")
    code = (
        "import sys; from facetools.reporting.charts import *\n"
        "data = bar_chart(['a'], [('nn', [Bar(0.5, (0.4, 0.6), 0.1)])], label='share', mark='floor')\n"
        "assert not any('pyplot' in name or 'tkinter' in name for name in sys.modules)\n"
        "sys.stdout.buffer.write(data)"
    )
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path / "file" / "none")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, cwd=tmp_path, env=environment, timeout=1200
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == bar_chart(["a"], [("nn", [Bar(0.5, (0.4, 0.6), 0.1)])], label="share", mark="floor")


def test_drawing_leaves_the_settings_of_others_alone() -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 17}):
        bars()
        assert matplotlib.rcParams["font.size"] == 17


def test_labels_fit() -> None:
    assert label_of("short") == "short"
    assert label_of("") == ""
    broken = label_of("word " * 40).split("\n")
    assert len(broken) == 2
    assert broken[1].endswith("…")
    assert all(len(line) <= 18 for line in broken)
    assert "\\x1b" in label_of("\x1b[31m")


@pytest.mark.parametrize(("groups", "series"), [(1, 1), (100, 1), (7, 12), (3, 200), (0, 0)])
def test_no_group_is_lost_between_charts(groups: int, series: int) -> None:
    dealt = parts(groups, series)
    assert [group for part in dealt for group in part] == list(range(groups))
    assert all(len(part) == 1 or len(part) * series <= MOST_BARS for part in dealt)
