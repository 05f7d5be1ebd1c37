"""Heat maps of layers by groups, one panel a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from _toolio.charts import INK, label_of, new_figure, picture, style
from _toolio.errors import ToolError, param
from _toolio.files.atomic import atomic_write_bytes
from berttools.checkpoints.names.layers import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

ANGLE = "angle / π"
Cells = Mapping[tuple[Row, str], float | None]


def write_heatmap(
    path: Path,
    panels: Sequence[tuple[str, Cells]],
    groups: Sequence[str],
    kind: str = "png",
    *,
    label: str = ANGLE,
    if_empty: str = "no matrix has a layer and a group",
) -> None:
    """Write `draw_heatmap` to a file, whole or not at all.

    ``if_empty`` is what the error says where no panel has a cell.

    Raises
    ------
    ToolError
        No panel has a cell, or the file cannot be written.
    """
    if not any(cells for _, cells in panels):
        raise ToolError(f"{param('heatmap')} {path}: {if_empty}")
    atomic_write_bytes(path, draw_heatmap(panels, groups, kind, label=label))


def draw_heatmap(
    panels: Sequence[tuple[str, Cells]], groups: Sequence[str], kind: str = "png", *, label: str = ANGLE
) -> bytes:
    """Draw angles, or other numbers of 0 or more, as a PNG, SVG or PDF; panels share one scale, which begins at 0.

    Parameters
    ----------
    panels
        Each one's title, and its cells: layer and group to number. A cell without a value stays blank. Stacks are drawn
        in the order in which they come.
    groups
        The columns, in order; those that no cell has are left out.
    kind
        One of `_toolio.charts.FORMATS`.
    label
        What the numbers are.
    """
    groups = [group for group in groups if any(group == known for _, cells in panels for _, known in cells)]
    rows = {row: None for _, cells in panels for row, _ in cells}
    stacks = list(dict.fromkeys(_stack(row) for row in rows))
    layers = sorted(rows, key=lambda row: (stacks.index(_stack(row)), row[1] if isinstance(row, tuple) else row))
    top = max((value for _, cells in panels for value in cells.values() if value is not None), default=0.0) or 1.0
    with style():
        width = 0.62 * len(groups) + 0.5
        figure = new_figure(0.21 * len(layers) + 1.25, width_in=max(3.0, width * len(panels) + 1.0))
        row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, cells) in zip(row, panels, strict=True):
            image = _draw_panel(axes, cells, layers, groups, top)
            axes.set_title(label_of(title, chars=max(12, 9 * len(groups)), lines=3), fontsize=9)
        row[0].set_ylabel("layer")
        figure.colorbar(image, ax=list(row), label=label, format="%.2g")
        return picture(figure, kind)


def _stack(row: Row) -> str:
    return row[0] if isinstance(row, tuple) else ""


def _draw_panel(axes: Axes, cells: Cells, layers: Sequence[Row], groups: Sequence[str], top: float) -> AxesImage:
    values = [[cells.get((layer, group)) for group in groups] for layer in layers]
    shown = [[float("nan") if value is None else value for value in row] for row in values]
    image = axes.imshow(shown, vmin=0.0, vmax=top, cmap="cividis", aspect="auto")
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if value is not None:
                colour = INK if value > 0.55 * top else "white"
                axes.text(x, y, f"{value:.4f}", ha="center", va="center", color=colour, fontsize=6.5)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_yticks(
        range(len(layers)), [f"{row[0]} {row[1]}" if isinstance(row, tuple) else str(row) for row in layers]
    )
    axes.tick_params(length=0)
    axes.grid(visible=False)
    return image
