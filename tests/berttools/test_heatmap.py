"""Heat maps: their files follow from the numbers alone, and one without a cell is refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from _toolio.errors import ToolError
from berttools.heatmap import draw_heatmap, write_heatmap

CELLS = {(0, "Q"): 0.1, (0, "V"): None, (1, "Q"): 0.3}


def test_the_same_numbers_are_the_same_picture() -> None:
    one = draw_heatmap([("a → b", CELLS)], ("Q", "K", "V"))
    assert one == draw_heatmap([("a → b", CELLS)], ("Q", "V")), "a group without a cell is no column"
    assert one != draw_heatmap([("a → b", {**CELLS, (1, "Q"): 0.2})], ("Q", "V"))
    with Image.open(io.BytesIO(one)) as image:
        single = image.size
    with Image.open(io.BytesIO(draw_heatmap([("a", CELLS), ("b", CELLS)], ("Q", "V")))) as image:
        assert image.size[0] > single[0], "a panel beside the other"


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_kinds_of_files(tmp_path: Path, kind: str, start: bytes) -> None:
    write_heatmap(tmp_path / "h", [("a", CELLS)], ("Q", "V"), kind, label="sparsity")
    assert (tmp_path / "h").read_bytes().startswith(start)


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"heatmap .*h: no matrix is masked"):
        write_heatmap(tmp_path / "h", [("a", {})], ("Q",), if_empty="no matrix is masked")
    assert not (tmp_path / "h").exists()


def test_two_stacks_have_rows_of_their_own() -> None:
    stacked = {(("encoder", 0), "Q"): 0.1, (("encoder", 1), "Q"): 0.2, (("decoder", 0), "Q"): 0.3}
    drawn = draw_heatmap([("a", stacked)], ("Q",), "svg").decode()
    places = [drawn.index(f"<!-- {row} -->") for row in ("encoder 0", "encoder 1", "decoder 0")]
    assert places == sorted(places), "stacks in the order in which they come"
