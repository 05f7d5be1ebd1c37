"""Records of layerdiff, and those of a whole run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.cli.progress import track
from _toolio.errors import ToolError
from _toolio.streams.records import error_fields
from berttools.checkpoints.groups import By

if TYPE_CHECKING:
    from berttools.checkpoints.files import Checkpoint
    from berttools.layerdiff.compare import Choice, Summary, TensorDiff
    from berttools.layerdiff.distances import TensorDistance

DISTANCES = ("l1", "mean_abs", "rel_l1", "l2", "rel_l2", "max_abs", "changed")
BASELINES = ("angle", "l1", "rel_l2")
_PLACE = ("base", "ft", "by", "layer", "group", "name")
COLUMNS = (
    *(*_PLACE, "shape", "tensors", "l1", "rel_l2", "max_abs", "changed", "rounding_angle", "svd_share"),
    *("baseline_angle", "reason"),
)
CSV_FIELDS = (
    *(*_PLACE, "part", "shape", "tensors", "left_out", "n", "angle_rad", *DISTANCES, "dtype", "rounding_angle"),
    *("svd_share", *(f"baseline_{key}" for key in BASELINES), "name_ft", "shape_ft", "dtype_ft", "only_in"),
    *("tied_to", "not_finite", "reason", "error"),
)

Fields = dict[str, Any]
Place = tuple[Any, ...]


@dataclass
class Run:
    """One comparison or several, as records.

    Attributes
    ----------
    by
        What a record is about.
    svd
        Singular values to look at; 0 for none.
    device
        Where to add up.
    cells
        Title of each pair and its angles by layer and group; filled where `heatmap` is set.
    """

    choice: Choice
    by: By = By.tensor
    svd: int = 0
    device: str = "cpu"
    heatmap: bool = False
    cells: list[tuple[str, dict[tuple[int, str], float | None]]] = field(default_factory=list)

    def baseline(self, base: Checkpoint, seed: int) -> dict[Place, TensorDistance | None]:
        """Measure the base against a fresh initialisation: what a record is about, to the distance."""
        from berttools.layerdiff.compare import diff_checkpoints, summarise
        from berttools.layerdiff.random_init import random_init

        diffs = list(diff_checkpoints(base, random_init(base, seed), self.choice, device=self.device))
        if self.by is By.tensor:
            return {diff.key: diff.distance for diff in diffs}
        return {s[:2]: s.distance for s in summarise(diffs, self.by, self.choice.grouping.names)}

    def records(
        self, base: Checkpoint, ft: Checkpoint, baseline: Mapping[Place, TensorDistance | None], title: str
    ) -> Iterator[Fields]:
        """Compare two models; gives records without what all of one pair have in common."""
        from berttools.layerdiff.compare import diff_checkpoints, summarise

        kept = []
        diffs = diff_checkpoints(base, ft, self.choice, device=self.device)
        for diff in track(diffs, "comparing", len(base.tensors)):
            if self.by is not By.tensor or self.heatmap:
                kept.append(diff)
            if self.by is By.tensor:
                yield self._of_tensor(diff) | _compared(baseline.get(diff.key), bool(baseline))
            elif diff.error:
                yield {"name": diff.name, "layer": diff.layer, "group": diff.group, **error_fields(diff.error)}
        names = self.choice.grouping.names
        if self.by is not By.tensor:
            for summary in summarise(kept, self.by, names):
                yield _of_summary(summary, self.by) | _compared(baseline.get(summary[:2]), bool(baseline))
        if self.heatmap:
            found = {(s.layer, s.group): s.distance.angle for s in summarise(kept, "cell", names)}
            grid = {(layer, group): angle for (layer, group), angle in found.items() if layer is not None and group}
            self.cells.append((title, grid))

    def draw(self, path: Path, kind: str) -> None:
        """Write the heat map.

        Raises
        ------
        ToolError
            No matrix that was compared has a group, or the file cannot be written.
        """
        from _toolio.files.atomic import atomic_write_bytes
        from berttools.heatmap import draw_heatmap

        if not any(cells for _, cells in self.cells):
            raise ToolError(f"--heatmap {path}: no matrix that was compared has a layer and a group; see --group-map")
        atomic_write_bytes(path, draw_heatmap(self.cells, self.choice.grouping.names, kind))

    def _of_tensor(self, diff: TensorDiff) -> Fields:
        found = diff.distance
        shape = diff.shape_ft if diff.shape_base is None else diff.shape_base
        dtype = diff.dtype_base or diff.dtype_ft
        record: Fields = {"angle": found and found.angle, "name": diff.name}
        record |= {"layer": diff.layer, "group": diff.group, "shape": shape}
        record |= _distances(found)
        record["dtype"] = dtype
        extra = {
            "rounding_angle": diff.rounding_angle,
            "part": diff.part and {"axis": diff.part[0], "start": diff.part[1], "stop": diff.part[2]},
            "name_ft": diff.name_ft if diff.name_ft != diff.name else None,
            "shape_ft": diff.shape_ft if diff.shape_ft != shape else None,
            "dtype_ft": diff.dtype_ft if diff.dtype_ft != dtype else None,
            "only_in": diff.only_in,
            "tied_to": diff.tied_to,
            "reason": diff.reason,
            "not_finite": _not_finite(found),
        }
        record |= {key: value for key, value in extra.items() if value is not None}
        if self.svd:
            record["svd_share"] = self._share(diff)
        return record | (error_fields(diff.error) if diff.error else {})

    def _share(self, diff: TensorDiff) -> float | None:
        from berttools.layerdiff.distances import Pair
        from berttools.layerdiff.singular_values import energy_share

        pair = diff.measured.values if diff.measured else None
        if diff.shape_base is None or not isinstance(pair, Pair):
            return None
        return energy_share(pair, diff.shape_base, self.svd)


def _of_summary(summary: Summary, by: By) -> Fields:
    found = summary.distance
    record: Fields = {"angle": found.angle, "by": str(by)}
    record |= {key: getattr(summary, key) for key in ("layer", "group") if key == by}
    record |= {"tensors": summary.tensors, "left_out": summary.left_out, "n": found.n} | _distances(found)
    extra = {
        "rounding_angle": summary.rounding_angle,
        "reason": found.reason,
        "not_finite": _not_finite(found),
    }
    return record | {key: value for key, value in extra.items() if value is not None}


def _distances(found: TensorDistance | None) -> Fields:
    angle = None if found is None or found.angle is None else found.angle * math.pi
    return {"angle_rad": angle} | {key: getattr(found, key, None) for key in DISTANCES}


def _not_finite(found: TensorDistance | None) -> Fields | None:
    counts = {key: getattr(found, key, 0) for key in ("nan_base", "inf_base", "nan_ft", "inf_ft")}
    return {key: count for key, count in counts.items() if count} or None


def _compared(found: TensorDistance | None, wanted: bool) -> Fields:
    return {f"baseline_{key}": getattr(found, key, None) for key in BASELINES} if wanted else {}
