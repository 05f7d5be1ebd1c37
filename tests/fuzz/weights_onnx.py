"""Damaged ONNX networks: converted and run, or an error of one line."""

from __future__ import annotations

import random
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from onnx import ModelProto, numpy_helper

from _toolio.errors import ToolError
from facetools.extractors.convert.convert import import_extractor
from facetools.extractors.graphs.operators import OPERATORS
from fuzzing import fuzz, mutated
from onnx_models import model

NAME = "onnx"
NUMBERS = (0, -1, 1, 2, 3, 7, 224, 4096, 2**31 - 1, 2**31, 2**62, -(2**63))
"""Sizes, axes and whatever else an integer says."""

SIDES = (1, 3, 16, 16)
"""Of chips."""


def _weight(*sides: int) -> Any:
    return np.linspace(-1, 1, int(np.prod(sides)), dtype=np.float32).reshape(sides)


@cache
def seeds() -> list[bytes]:
    """Return small networks that reach operators of every kind."""
    ends = (("GlobalAveragePool", ["c"], ["p"]), ("Flatten", ["p"], ["y"]))
    convolved = ("Conv", ["x", "w"], ["c"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]})
    weights = (("w", _weight(8, 3, 3, 3)),)
    shaped = (
        ("Shape", ["c"], ["s"]), ("Gather", ["s", "zero"], ["n"], {"axis": 0}), ("Unsqueeze", ["n", "zeros"], ["n1"]),
        ("Concat", ["n1", "rest"], ["shape"], {"axis": 0}), ("Reshape", ["c", "shape"], ["r"]),
        ("ReduceMean", ["r"], ["y"], {"axes": [2], "keepdims": 0}),
    )  # fmt: skip
    integers = (("zero", np.int64(0)), ("zeros", np.array([0])), ("rest", np.array([8, -1])))
    half = numpy_helper.from_array(np.array([0.5], np.float32))
    made = (
        ("ConstantOfShape", ["size"], ["k"], {"value": half}), ("Tile", ["k", "times"], ["t"]),
        ("Expand", ["t", "wide"], ["e"]),
        ("Range", ["zero", "three", "one"], ["i"]), ("Gather", ["e", "i"], ["g"], {"axis": 1}),
        ("Cast", ["g"], ["f"], {"to": 1}), ("GlobalAveragePool", ["x"], ["p"]), ("Flatten", ["p"], ["v"]),
        ("Gemm", ["v", "f"], ["y"], {"transB": 1}),
    )  # fmt: skip
    sizes = (("size", np.array([1, 4])), ("times", np.array([1, 12])), ("wide", np.array([8, 48])),
             ("zero", np.int64(0)), ("three", np.int64(3)), ("one", np.int64(1)))  # fmt: skip
    resized = (
        ("Resize", ["x", "", "scales"], ["u"], {"mode": "linear"}), ("Slice", ["u", "from", "to", "axes"], ["l"]),
        ("MaxPool", ["l"], ["m"], {"kernel_shape": [2, 2], "strides": [2, 2]}), ("Pad", ["m", "pads"], ["d"]),
        ("InstanceNormalization", ["d", "g", "b"], ["o"]), ("Relu", ["o"], ["c"]), *ends,
    )  # fmt: skip
    resizing = (
        ("scales", np.float32([1, 1, 2, 2])), ("from", np.array([0, 1])), ("to", np.array([8, 2**62])),
        ("axes", np.array([2, 3])), ("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1])),
        ("g", np.ones(3, np.float32)), ("b", np.zeros(3, np.float32)),
    )  # fmt: skip
    models = (
        model(convolved, *ends, weights=weights, sides=SIDES),
        model(convolved, *shaped, weights=(*weights, *integers), opset=13, sides=SIDES),
        model(*made, weights=sizes, sides=SIDES),
        model(*resized, weights=resizing, sides=SIDES),
    )
    return [each.SerializeToString() for each in models]


def _changed(found: Any, rng: random.Random) -> None:
    """Change one thing of a model: an attribute, an operator, an edge, a weight, the sides of the input, the opset."""
    node = rng.choice(found.graph.node)
    kind = rng.randrange(7)
    if kind == 0 and node.attribute:
        attribute = rng.choice(node.attribute)
        if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(NUMBERS)
        else:
            attribute.i = rng.choice(NUMBERS)
    elif kind == 1:
        node.op_type = rng.choice(sorted(OPERATORS))
    elif kind == 2 and node.input:
        names = [name for each in found.graph.node for name in (*each.input, *each.output)]
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif kind == 3 and node.input:
        node.input.pop() if rng.random() < 0.5 else node.input.append(rng.choice(("x", "", node.input[0])))
    elif kind == 4 and found.graph.initializer:
        weight = rng.choice(found.graph.initializer)
        if weight.data_type == 7 and rng.random() < 0.7:
            count = len(weight.raw_data) // 8
            numbers = np.array([rng.choice(NUMBERS) for _ in range(count)], np.int64)
            weight.raw_data = numbers.tobytes()
        elif weight.dims:
            weight.dims[rng.randrange(len(weight.dims))] = rng.choice(NUMBERS)
        else:
            weight.data_type = rng.randrange(24)
    elif kind == 5:
        side = rng.choice(found.graph.input[0].type.tensor_type.shape.dim)
        side.dim_value = rng.choice(NUMBERS)
    else:
        found.opset_import[0].version = rng.randrange(6, 27)


def try_one(rng: random.Random) -> str:
    """Damage a network, and convert it as import-extractor does, which runs it."""
    data = rng.choice(seeds())
    if rng.random() < 0.8:
        found = ModelProto.FromString(data)
        for _ in range(rng.choice((1, 1, 2, 3))):
            _changed(found, rng)
        data = found.SerializeToString()
    if rng.random() < 0.25:
        data = mutated(data, rng)
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        path = Path(folder) / "a.onnx"
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                import_extractor(path, Path(folder) / "a.safetensors")
        except ToolError as error:
            assert "\n" not in error.message.replace(folder, ""), error.message
            assert not (Path(folder) / "a.safetensors").exists()
            return "refused"
    return "read"


if __name__ == "__main__":
    sys.exit(fuzz(NAME, try_one))
