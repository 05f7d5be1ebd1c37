"""What ``berttools maskdiff`` does between its options and its records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.errors import ToolError, of_the_whole_run
from _toolio.streams.records import error_fields
from berttools.checkpoints.groups import By

if TYPE_CHECKING:
    from berttools.checkpoints.spots import Spot
    from berttools.masks.file import Mask

PLACE = ("mask", "mask_b", "by", "layer", "group", "name", "shape")
ONE = ("weights", "zeroed", "bytes", "bits_per_weight", "tensors", "code", "dense_bytes", "file_bytes")
TWO = (
    "sparsity_a",
    "sparsity_b",
    "weights",
    "hamming",
    "overlap",
    "overlap_expected",
    "z",
    "tensors",
    "left_out_a",
    "left_out_b",
    "reason",
)

Fields = dict[str, Any]


class Run:
    """One mask, or every two of several, as records.

    Parameters
    ----------
    by
        What a record is about.
    heatmap
        Whether it will be drawn.
    """

    def __init__(self, by: By, *, heatmap: bool) -> None:
        self._by = by
        self._divided = heatmap or by in (By.tensor, By.group)
        self._panels: list[tuple[str, Mapping[Spot, Any]]] = []

    def records(self, paths: Sequence[Path], base: Path | None) -> Iterator[Fields]:
        """Open the masks and count."""
        from berttools.checkpoints.files import open_checkpoint
        from berttools.masks.file import open_mask
        from berttools.masks.overlap import contents, overlaps

        masks = [open_mask(path) for path in paths]
        opened = open_checkpoint(base) if base else None
        if len(masks) == 1:
            with of_the_whole_run():
                counted = list(contents(masks[0], opened, divided=self._divided))
            yield from self._of(masks[0], None, counted)
            return
        with of_the_whole_run():
            found = overlaps(masks, opened)
        for (one, other), pair in found.items():
            yield from self._of(masks[one], masks[other], pair.counted)
            for spot, error in pair.refused:
                named = {"mask": masks[one].path, "mask_b": masks[other].path}
                place = {"name": spot.name, "layer": spot.layer, "group": spot.group} if spot.name else {}
                yield {**named, **place, **error_fields(error)}

    def _of(self, one: Mask, other: Mask | None, counted: Sequence[tuple[Spot, Any]]) -> Iterator[Fields]:
        from berttools.masks.overlap import added_up

        named = {"mask": one.path, **({"mask_b": other.path} if other else {})}
        if any(spot.name for spot, _ in counted):
            self._panels.append((" · ".join(path.name for path in named.values()), added_up(counted, "cell")))
        for spot, found in added_up(counted, self._by).items():
            place: Fields = {"by": self._by.value}
            keys = [key for key in ("name", "layer", "group") if self._by in (By.tensor, key)]
            place |= {key: getattr(spot, key) for key in keys}
            if spot.name:
                place["shape"] = spot.shape(one.shapes[spot.name])
            if spot.part:
                place["part"] = dict(zip(("axis", "start", "stop"), spot.part, strict=True))
            yield {**named, **place, **found.fields(), **self._about(one, other, spot)}

    def _about(self, one: Mask, other: Mask | None, spot: Spot) -> Fields:
        """Say what is known without counting: of one mask its code, of two how many matrices only one masks."""
        if not other:
            return _coded(one, spot, self._by)
        if self._by is not By.model:
            return {}
        left_out = {"left_out_a": _only_in(one, other), "left_out_b": _only_in(other, one)}
        return {key: value for key, value in left_out.items() if value}

    def draw(self, path: Path, kind: str, label: str) -> None:
        """Write the heat map.

        Raises
        ------
        ToolError
            No matrix has a group, or the file cannot be written.
        """
        from _toolio.files.atomic import atomic_write_bytes
        from berttools.checkpoints.spots import group_names
        from berttools.heatmap import draw_heatmap

        cells = [
            (title, {(s.layer, s.group): c.fields()[label] for s, c in some.items() if s.layer is not None and s.group})
            for title, some in self._panels
        ]
        if not any(each for _, each in cells):
            raise ToolError(f"--heatmap {path}: no matrix that is masked has a layer and a group")
        names = group_names([spot for _, some in self._panels for spot in some])
        atomic_write_bytes(path, draw_heatmap(cells, names, kind, label=label))


def _only_in(one: Mask, other: Mask) -> int:
    from berttools.checkpoints.spots import spots_of

    return sum(len(spots_of(name, shape)) for name, shape in one.shapes.items() if name not in other.shapes)


def _coded(mask: Mask, spot: Spot, by: By) -> Fields:
    """Say what only one mask's records say: of a matrix its code, of the whole file what else is in it."""
    if spot.name:
        return {"code": mask.codes[spot.name]}
    if by is not By.model:
        return {}
    figures = mask.figures()
    sizes = {"dense_bytes": figures["dense_bytes"], "file_bytes": figures["bytes"]}
    return {"code": figures["code"], **sizes, "masked_sha256": figures["masked_sha256"]}
