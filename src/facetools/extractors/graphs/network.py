"""A graph as a PyTorch network: nodes are computed one after another, by autograd's own functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from facetools.extractors.graphs.graph import Graph
from facetools.extractors.graphs.operators import OPERATORS, Node
from facetools.extractors.graphs.operators.registry import MOST_VALUES, together

# Which inputs of a layer are its weights. Statistics are no weights to tune.
_WEIGHTS = {
    "Add": (0, 1), "Attention": (), "BatchNormalization": (1, 2), "Conv": (1, 2), "ConvTranspose": (1, 2),
    "Einsum": (0, 1), "Gemm": (0, 1, 2), "GroupNormalization": (1, 2), "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2), "MatMul": (0, 1), "PRelu": (1,), "RMSNormalization": (1,),
}  # fmt: skip
_STATISTICS = {"BatchNormalization": (3, 4)}
_PASSING = ("Cast", "CastLike", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")

FAILURES = (RuntimeError, IndexError, TypeError, AttributeError, OverflowError, ZeroDivisionError)
"""What operators raise for inputs that are missing, of the wrong kind or too large; ValueError is their own word."""


class GraphNetwork(nn.Module):
    """A graph's computation.

    Parameters
    ----------
    graph
        Its weights of layers become parameters, other numbers buffers, under the graph's names.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._graph = graph
        self._indices: dict[str, Tensor] = {}
        weights, statistics = _reaching(graph, _WEIGHTS), _reaching(graph, _STATISTICS)
        for name, value in graph.weights.items():
            if not value.is_floating_point():
                self._indices[name] = value  # shapes and indices stay on the CPU, where they are read
            elif name in weights and name not in statistics and value.numel() > 1:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        self._in_layers = weights | statistics
        self._used = {graph.embedding, *(name for node in graph.nodes for name in node.inputs)}
        last = {name: number for number, node in enumerate(graph.nodes) for name in node.inputs}
        self._done = [
            [name for name in set(node.inputs) if last[name] == number] for number, node in enumerate(graph.nodes)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output for prepared chips, float32 and in the graph's own order of axes."""
        values: dict[str, Any] = {**self._indices, **self._parameters, **self._buffers, self._graph.chips: x}
        for _, _ in self._steps(values):
            pass
        out = values[self._graph.embedding]
        if not isinstance(out, Tensor):
            raise ValueError("its output is a list of tensors, not one")
        return out

    def check(self, x: Tensor) -> int:
        """Test that the graph runs on chips of a shape, without their values and without memory for them.

        Returns
        -------
        int
            Numbers of the largest convolution's input as a matrix, a column for each place of the window.

        Raises
        ------
        ValueError
            A node fails, or an output would have more than ``MOST_VALUES`` numbers.
        """
        floats = self.state_dict()
        values: dict[str, Any] = {name: v.to("meta") if name in self._in_layers else v for name, v in floats.items()}
        values |= {**self._indices, self._graph.chips: x.to("meta")}
        steps, unfolded = self._steps(values), 0
        for node in self._graph.nodes:
            try:
                weight = values.get(node.inputs[1]) if node.operator == "Conv" else None
                _, outputs = next(steps)
                if weight is not None:
                    unfolded = max(unfolded, outputs[0][:, 0].numel() * weight[0].numel() * node.get("group", 1))
            except ValueError as error:
                raise ValueError(_line(str(error))) from None
            except FAILURES as error:
                what = f"it does not run on chips of {'x'.join(map(str, x.shape))}: its operator {node.operator}"
                raise ValueError(_line(f"{what}: {error}")) from None
            for output in outputs:
                if isinstance(output, Tensor) and output.numel() > MOST_VALUES:
                    sides = "x".join(map(str, output.shape))
                    raise ValueError(f"the output of its operator {node.operator} is too large ({sides})")
        return unfolded

    def _steps(self, values: dict[str, Any]) -> Iterator[tuple[Node, tuple[Any, ...]]]:
        """Compute node after node, and drop each value behind its last use."""
        for node, done in zip(self._graph.nodes, self._done, strict=True):
            inputs = [values[name] if name else None for name in node.inputs]
            if node.operator in _WEIGHTS:
                inputs = _on_one_device(inputs)
            computed = OPERATORS[node.operator].function(node, *inputs)
            outputs = computed if isinstance(computed, tuple) else (computed,)
            if self._used.intersection(node.outputs[len(outputs) :]):
                raise ValueError(f"cannot convert its operator {node.operator} (opset {node.opset}): its other outputs")
            del inputs, computed
            for name in done:
                if name != self._graph.embedding:
                    values.pop(name, None)
            values.update((name, value) for name, value in zip(node.outputs, outputs, strict=False) if name)
            yield node, outputs


def _on_one_device(inputs: list[Any]) -> list[Any]:
    moved = iter(together(*(each for each in inputs if each is not None)))
    return [None if each is None else next(moved) for each in inputs]


def _reaching(graph: Graph, places: Mapping[str, tuple[int, ...]]) -> set[str]:
    """Return the names of values that reach certain inputs of layers as they are or in another shape."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        found.update(node.inputs[place] for place in places.get(node.operator, ()) if place < len(node.inputs))
        if node.operator in _PASSING and found.intersection(node.outputs):
            found.add(node.inputs[0])
    return found


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
