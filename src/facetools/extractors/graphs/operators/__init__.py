"""Operators of ONNX on PyTorch tensors, differentiable."""

from facetools.extractors.graphs.operators import (
    elementwise,
    indexing,
    layers,
    norms,
    pooling,
    reductions,
    resize,
    shapes,
)
from facetools.extractors.graphs.operators.registry import OPERATORS, Node

__all__ = [
    "OPERATORS",
    "Node",
    "elementwise",
    "indexing",
    "layers",
    "norms",
    "pooling",
    "reductions",
    "resize",
    "shapes",
]
