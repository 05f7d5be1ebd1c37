"""Records of comparisons: one a tensor, or one a layer, group or model."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from _toolio.compute.memory import Batch
from _toolio.streams.records import Record, error_fields
from berttools.checkpoints.files import Checkpoint, open_checkpoint
from berttools.checkpoints.groups import By
from berttools.checkpoints.lora import open_tuned
from berttools.checkpoints.model_folder import MODULES
from berttools.checkpoints.quantized import with_scales
from berttools.layerdiff.config import LayerdiffConfig
from berttools.layerdiff.diffs import TensorDiff, diff_checkpoints
from berttools.layerdiff.distances import Pair, TensorDistance
from berttools.layerdiff.matching import align_models, few_matched
from berttools.layerdiff.singular_values import energy_share
from berttools.layerdiff.sums import Summary, angles_by_cell, summarise

if TYPE_CHECKING:
    from berttools.heatmap import Cells
    from berttools.layerdiff import Observe

DISTANCES = ("l1", "mean_abs", "rel_l1", "l2", "rel_l2", "max_abs", "changed")
"""Fields of a record beside the angle."""
BASELINES = ("angle", "l1", "rel_l2")
"""Distances to the random initialisation, in fields that begin with ``baseline_``."""

Baseline = Mapping[Hashable, TensorDistance | None]
"""By `TensorDiff.key`, or by stack, layer and group of a `Summary`."""


class Panel(NamedTuple):
    """The picture of one pair.

    Attributes
    ----------
    title
        Of the two models.
    cells
        The angle of each layer and group.
    """

    title: str
    cells: Cells


class PairWorker:
    """Compare pairs of models. Models are opened as they are needed, and the baseline is made once.

    Parameters
    ----------
    base, tuned, config, observe
        As of `berttools.layerdiff.compare`.
    cells
        Groups by which a picture of each pair is to be drawn; None: there is none.
    device
        Where it computes, in place of the configuration's.
    """

    threads, per_call, device = 0, 1, None

    def __init__(
        self,
        base: Path | str,
        tuned: Sequence[Path | str],
        config: LayerdiffConfig,
        device: str,
        *,
        observe: Observe | None = None,
        cells: Sequence[str] | None = None,
    ) -> None:
        self.at_once = Batch(1)
        self._paths, self._observe, self._cells = [base, *tuned], observe, cells
        self._config = replace(config, device=device)
        self._models: dict[int, Checkpoint] = {}
        self._baseline: Baseline | None = None
        others = range(1, len(self._paths))
        self.pairs = [*((0, number) for number in others), *(combinations(others, 2) if config.pairs else ())]

    def open_all(self) -> None:
        """Open all models, so that a wrong one is known before any is compared; raises as `open_tuned`."""
        for number in range(len(self._paths)):
            self._model(number)

    def compare_all(self) -> Iterator[Record]:
        """Yield the records of every pair."""
        self.open_all()
        for pair in self.pairs:
            yield from (each for each in self([pair]) if not isinstance(each, Panel))

    def _model(self, number: int) -> Checkpoint:
        if number not in self._models:
            self._models[number] = self._open(number)
        return self._models[number]

    def _open(self, number: int) -> Checkpoint:
        path = self._paths[number]
        if number == 0:
            return with_scales(open_checkpoint(path))
        return with_scales(open_tuned(path, self._model(0), strip=self._config.selection.strip_prefix))

    def __call__(self, pairs: Sequence[tuple[int, int]]) -> Iterator[Record | Panel]:
        """Yield the records of pairs, given by the numbers of their models, base 0; behind each its picture."""
        for one, other in pairs:
            yield from self._compare(one, other)

    def _compare(self, one: int, other: int) -> Iterator[Record | Panel]:
        config, first, second = self._config, self._model(one), self._model(other)
        if config.baseline and self._baseline is None:
            self._baseline = baseline_of(self._model(0), config)
        named = {"base": first.path, "ft": second.path} if len(self._paths) > 2 else {}
        names = align_models(first, second, config.selection)
        diffs = diff_checkpoints(
            first, second, config.selection, processes=config.processes, device=config.device, names=names
        )
        seen = list[TensorDiff]()
        observed = self._observe(first, second, diffs) if self._observe else diffs
        kept = observed if self._cells is None else _kept_in(seen, observed)
        for record in records_of(kept, config, {} if one else self._baseline or {}):
            yield {"angle": None, **record, **named}
        if refused := few_matched(first, second, names):
            yield {"angle": None, **error_fields(refused), **named}
        if self._cells is not None:
            yield Panel(f"{_title(first)} → {_title(second)}", angles_by_cell(seen, self._cells))


def _title(model: Checkpoint) -> str:
    """Return what a model is called in a picture: inside a folder of sentence-transformers, as that folder."""
    path = model.path
    return path.parent.name if path.is_dir() and (path.parent / MODULES).is_file() else path.name


def _kept_in(kept: list[TensorDiff], diffs: Iterable[TensorDiff]) -> Iterator[TensorDiff]:
    for diff in diffs:
        kept.append(diff)
        yield diff


def baseline_of(base: Checkpoint, config: LayerdiffConfig) -> Baseline:
    """Return the distances of a base to a random initialisation of its configuration."""
    from berttools.layerdiff.random_init import random_init

    fresh = random_init(base, config.seed)
    diffs = list(diff_checkpoints(base, fresh, config.selection, processes=config.processes, device=config.device))
    if config.by == By.tensor:
        return {diff.key: diff.distance for diff in diffs}
    names = config.selection.grouping.names
    return {(each.stack, each.layer, each.group): each.distance for each in summarise(diffs, config.by, names)}


def records_of(diffs: Iterable[TensorDiff], config: LayerdiffConfig, baseline: Baseline) -> Iterator[Record]:
    """Yield the records of one pair of models: of a tensor as it is measured, of sums and their errors at the end."""
    kept = []
    for diff in diffs:
        if config.by == By.tensor:
            yield tensor_record(diff, config.svd) | _baseline_fields(baseline, diff.key)
            continue
        kept.append(diff)
        if diff.error:
            stack = {"stack": diff.stack} if diff.stack else {}
            yield {"name": diff.name, **stack, "layer": diff.layer, "group": diff.group, **error_fields(diff.error)}
    if config.by != By.tensor:
        for summary in summarise(kept, config.by, config.selection.grouping.names):
            yield summary_record(summary, config.by) | _baseline_fields(
                baseline, (summary.stack, summary.layer, summary.group)
            )


def tensor_record(diff: TensorDiff, svd: int = 0) -> Record:
    """Return the record of a tensor, with the share of the change in ``svd`` singular values if that is not 0."""
    found = diff.distance
    shape = diff.shape_ft if diff.shape_base is None else diff.shape_base
    dtype = diff.dtype_base or diff.dtype_ft
    record: Record = {"angle": found and found.angle, "name": diff.name}
    record |= {"stack": diff.stack} if diff.stack else {}
    record |= {"layer": diff.layer, "group": diff.group, "shape": shape}
    record |= _distance_fields(found)
    record["dtype"] = dtype
    extra = {
        "rounding_angle": diff.rounding_angle,
        "part": diff.part and dict(zip(("axis", "start", "stop"), diff.part, strict=True)),
        "name_ft": diff.name_ft if diff.name_ft != diff.name else None,
        "shape_ft": diff.shape_ft if diff.shape_ft != shape else None,
        "dtype_ft": diff.dtype_ft if diff.dtype_ft != dtype else None,
        "only_in": diff.only_in,
        "tied_to": diff.tied_to,
        "tied_base": diff.tied_base,
        "tied_ft": diff.tied_ft,
        "rows_common": diff.rows_common,
        "rows_new": diff.rows_new,
        "rows_gone": diff.rows_gone or None,
        "vocabulary": diff.vocabulary,
        "reason": diff.reason,
        "not_finite": _not_finite(found),
    }
    record |= {key: value for key, value in extra.items() if value is not None}
    if svd:
        record["svd_share"] = _energy_share(diff, svd)
    return record | (error_fields(diff.error) if diff.error else {})


def summary_record(summary: Summary, by: By) -> Record:
    """Return the record of tensors laid end to end."""
    found = summary.distance
    record: Record = {"angle": found.angle, "by": str(by)}
    record |= {"stack": summary.stack} if summary.stack else {}
    record |= {key: getattr(summary, key) for key in ("layer", "group") if key == by}
    record |= {"tensors": summary.tensors, "left_out": summary.left_out, "n": found.n} | _distance_fields(found)
    extra = {
        "rounding_angle": summary.rounding_angle,
        "only_in": summary.only_in,
        "rows_new": summary.rows_new,
        "rows_gone": summary.rows_gone or None,
        "vocabulary": summary.vocabulary,
        "reason": found.reason,
        "not_finite": _not_finite(found),
    }
    return record | {key: value for key, value in extra.items() if value is not None}


def _distance_fields(found: TensorDistance | None) -> Record:
    angle = None if found is None or found.angle is None else found.angle * math.pi
    return {"angle_rad": angle} | {key: getattr(found, key, None) for key in DISTANCES}


def _not_finite(found: TensorDistance | None) -> Record | None:
    counts = {key: getattr(found, key, 0) for key in ("nan_base", "inf_base", "nan_ft", "inf_ft")}
    return {key: count for key, count in counts.items() if count} or None


def _baseline_fields(baseline: Baseline, key: Hashable) -> Record:
    """Return the fields of a baseline; none where there is no baseline at all."""
    return {f"baseline_{each}": getattr(baseline.get(key), each, None) for each in BASELINES} if baseline else {}


def _energy_share(diff: TensorDiff, svd: int) -> float | None:
    pair = diff.measured.values if diff.measured else None
    if diff.shape_compared is None or not isinstance(pair, Pair):
        return None
    return energy_share(pair, diff.shape_compared, svd)
