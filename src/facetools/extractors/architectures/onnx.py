"""Any ONNX graph that turns chips into embeddings, run and differentiated by PyTorch (https://onnx.ai)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from _toolio.errors import in_one_line
from facetools.extractors.graphs.graph import Graph
from facetools.extractors.graphs.model import read_model, sides_of
from facetools.extractors.graphs.network import FAILURES, GraphNetwork
from facetools.extractors.graphs.operators.registry import MOST_VALUES
from facetools.extractors.graphs.reference import EVALUATOR, reference_embedding
from facetools.extractors.settings import Settings

SETTINGS = Settings((112, 112), "arcface-112")
REQUIRES = ("onnx",)

TUNED = "tuned."
"""Prefix of the names of fine-tuned weights, which override those of the graph."""

_NEAR = 1e-3
"""Largest relative distance of an embedding from the one that onnx's own evaluator computes."""


class Verification(NamedTuple):
    """What computed the embedding of a chip that ours equals; or None, and why nothing did."""

    by: str | None
    why_not: str | None = None


class OnnxNetwork(nn.Module):
    """A graph with the interface of all extractors.

    Parameters
    ----------
    graph
        Its computation.
    channels_last
        The graph wants [B, height, width, 3].
    one_by_one
        The graph works on a single chip; a batch is taken apart.
    """

    def __init__(self, graph: GraphNetwork, *, channels_last: bool, one_by_one: bool) -> None:
        super().__init__()
        self.graph = graph
        self._channels_last, self._one_by_one = channels_last, one_by_one

    def forward(self, x: Tensor) -> Tensor:
        """Embed prepared chips, float32 [B, 3, height, width]: float32 [B, D], as the graph computes them."""
        x = self.ordered(x)
        rows = [self.graph(part) for part in (torch.split(x, 1) if self._one_by_one else (x,))]
        if any(sum(side > 1 for side in row.shape[row.ndim > 1 :]) > 1 for row in rows):
            raise ValueError(f"its output is {list(rows[0].shape)}, not one row of numbers a chip")
        return torch.cat([row.reshape(1 if self._one_by_one else len(x), -1) for row in rows])

    def ordered(self, x: Tensor) -> Tensor:
        """Return chips, [B, 3, height, width], in the graph's own order of axes."""
        return x.permute(0, 2, 3, 1) if self._channels_last else x


def network(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:
    """Build the network from ``graph``, the bytes of an ONNX file as uint8 [N].

    Tensors whose names begin with ``TUNED`` override its weights. ``options`` are those of :func:`options_of`, which
    is called where they are missing.

    Raises
    ------
    ValueError
        It is not an ONNX file, or one that cannot be run: its weights lie in other files, it has branches, loops,
        custom operators, or operators that are not read; or what was tuned is not a weight of it.
    ToolError
        The packages of the extra ``onnx`` are not installed.
    """
    model = _parse(state)
    options = options or options_of(state, settings_of(state, {}))
    built = _build(model, one_by_one=bool(options["one_by_one"]))
    if given := {key.removeprefix(TUNED): value for key, value in state.items() if key.startswith(TUNED)}:
        own = built.state_dict()
        if strange := [key for key in given if key not in own]:
            raise ValueError(f"{strange[0]} was tuned, and its graph has no such weight: tune the ONNX file again")
        built.load_state_dict({**own, **given})
    return built


def tuned(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors to save of a network built from ``state`` and then fine-tuned: graph and new weights."""
    weights = {key: value for key, value in network.state_dict().items() if value.is_floating_point()}
    return {"graph": state["graph"], **{f"{TUNED}{key}": value for key, value in weights.items()}}


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as they are: there is one, and it has one name."""
    return dict(state)


def settings_of(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> Settings:  # noqa: ARG001
    """Return the usual settings with the size of chips that the graph was exported for, if it is fixed."""
    height, width = _chip_size(_parse(state))
    return SETTINGS if height is None or width is None else Settings((height, width), SETTINGS.alignment)


def assumed_of(state: Mapping[str, Tensor], given: Collection[str]) -> list[str]:
    """Return the settings that neither the caller nor the graph says: whether they are right nothing here tests."""
    height, width = _chip_size(_parse(state))
    known = {*given, *(() if height is None or width is None else ("input_size",))}
    return [field.name for field in fields(Settings) if field.name not in known]


def options_of(state: Mapping[str, Tensor], settings: Settings) -> dict[str, Any]:
    """Test by running the graph whether it accepts batches once fixed sizes are freed.

    Exporters write the batch of their example, mostly 1, into the input and into reshapes. These are freed here.
    ``one_by_one`` is true where two chips together then have other embeddings than each alone, or fail.

    Raises
    ------
    ValueError
        It does not run on chips of this size.
    """
    model, chips = _parse(state), _chips(settings)
    height, width = settings.input_size
    alone = _build(model, one_by_one=True)
    alone.graph.check(alone.ordered(chips[:1]))
    with torch.inference_mode():
        try:
            apart = alone(chips)
        except FAILURES as error:
            raise ValueError(f"it does not run on chips of {height}x{width}: {in_one_line(error)}") from None
        try:
            together = _build(model, one_by_one=False)(chips)
        except (*FAILURES, ValueError):
            return {"one_by_one": True}
    return {"one_by_one": not _near(together, apart, 1e-4)}


def verify(state: Mapping[str, Tensor], settings: Settings) -> Verification:
    """Test that the graph is read rightly: onnx's own evaluator computes the same embedding of a chip.

    Raises
    ------
    ValueError
        It computes another one, or the graph does not run on chips of this size.
    """
    model, chips = _parse(state), _chips(settings)[:1]
    alone = _build(model, one_by_one=True)
    ordered = alone.ordered(chips)
    # The evaluator unfolds convolutions, which must not take all memory.
    if alone.graph.check(ordered) > MOST_VALUES:
        return Verification(None, "its convolutions are too large for onnx's own evaluator")
    reference = reference_embedding(model, ordered)
    if reference is None:
        return Verification(None, "onnx's own evaluator cannot compute it")
    with torch.inference_mode():
        if not _near(alone(chips), reference, _NEAR):
            raise ValueError("it is read wrongly: onnx's own evaluator computes another embedding; use another opset")
    return Verification(EVALUATOR)


def _chips(settings: Settings) -> Tensor:
    """Return two prepared chips at random."""
    return torch.rand(2, 3, *settings.input_size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _near(ours: Tensor, other: Tensor, share: float) -> bool:
    """Test whether numbers differ by at most a share of the largest; what is not finite is compared elsewhere."""
    if ours.shape != other.shape:
        return False
    return not bool((ours - other).abs().max() > share * other.abs().max())


def _build(model: Any, *, one_by_one: bool) -> OnnxNetwork:
    graph = Graph.of(model)
    freed = graph if one_by_one or sides_of(model)[0] is None else graph.with_any_batch()
    return OnnxNetwork(GraphNetwork(freed), channels_last=_is_channels_last(model), one_by_one=one_by_one)


def _parse(state: Mapping[str, Tensor]) -> Any:
    graph = state.get("graph")
    others = [key for key in state if key != "graph" and not key.startswith(TUNED)]
    if graph is None or graph.dtype != torch.uint8 or others:
        raise ValueError("no graph, or more than a graph, which is all that an ONNX file is")
    return read_model(graph.cpu().numpy().tobytes())


def _is_channels_last(model: Any) -> bool:
    return sides_of(model)[1] != 3


def _chip_size(model: Any) -> tuple[int | None, int | None]:
    """Return height and width of the input; None where any size is accepted."""
    first = 1 if _is_channels_last(model) else 2
    sides = sides_of(model)
    return sides[first], sides[first + 1]
