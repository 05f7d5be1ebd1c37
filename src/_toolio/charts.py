"""Chart style, figures without a display, and files whose bytes depend on the numbers alone.

A file looks the same whatever the user's matplotlib settings are, holds no date, and is drawn without a display.
"""

from __future__ import annotations

import io
import logging
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.errors import UsageError, param
from _toolio.files.overwriting import refuse_existing
from _toolio.words import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, FAINT = "#1a1a1a", "#d0d0d0"

WIDTH_IN = 4.0
"""Width of a chart: at the width of a phone its text of 9 points is still 9 pixels high."""

DPI = 240

_LABEL_CHARS = 18

_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "text.parse_math": False,  # a name may hold dollar signs
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "epsilon-tools",  # else names inside the file are drawn at random
    "pdf.fonttype": 42,  # journals refuse matplotlib's own, type 3
}

FORMATS: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""File formats of charts, each with the metadata to leave out: the date and the version of what drew it."""

_STARTS = {"png": (b"\x89PNG",), "svg": (b"<?xml", b"<svg"), "pdf": (b"%PDF",)}


@contextmanager
def style() -> Iterator[None]:
    """Apply the style of all charts inside the block, whatever the user's settings are, with nothing on stderr."""
    # It warns of a cache folder that it had to make elsewhere, and of letters that its font lacks.
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    import matplotlib

    # A backend is never changed here: a figure draws itself.
    settings: dict[Any, Any] = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith("backend")}
    settings |= _STYLE
    with warnings.catch_warnings(), matplotlib.rc_context(settings):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)


def new_figure(height_in: float, *, width_in: float = WIDTH_IN) -> Figure:
    """Return an empty figure that draws without a display; call it, and ``picture``, inside ``style``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def picture(figure: Figure, kind: str = "png") -> bytes:
    """Return a figure as the bytes of one of ``FORMATS``, without the date and the version of what drew it."""
    out = io.BytesIO()
    figure.savefig(out, format=kind, metadata=FORMATS[kind])
    return out.getvalue()


def form_of(path: Path, *, force: bool, named: str = param("out")) -> str:
    """Return the one of ``FORMATS`` that a file's suffix names, before any work is done for it.

    ``named`` is what the message calls the file: a `param`.

    Raises
    ------
    UsageError
        It has none of their suffixes, or cannot be written; or it exists, and ``force`` may not replace it.
    """
    form = path.suffix.lower()[1:]
    if form not in FORMATS:
        raise UsageError(f"{named} {path}: is drawn as PNG, SVG or PDF; name a .png, .svg or .pdf file")
    refuse_existing(path, force=force, named=named, kind=f"{form.upper()} file", starts=_STARTS[form])
    return form


def label_of(text: str, *, chars: int = _LABEL_CHARS, lines: int = 2) -> str:
    """Make a name fit beside an axis: broken into lines, cut with dots where there are too many."""
    broken = textwrap.wrap(printable(text), chars) or [""]
    if len(broken) > lines:
        broken = [*broken[: lines - 1], "".join(broken[lines - 1 :])[: chars - 1] + "…"]
    return "\n".join(broken)
