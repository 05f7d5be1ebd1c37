import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
from onnx_models import graph


def test_names_are_numbers_and_what_is_not_needed_is_left_out():
    found = graph(
        ("Constant", [], ["two"], {"value_float": 2.0}),
        ("Bernoulli", ["x"], ["unused"]),
        ("Mul", ["x", "two"], ["z"]),
        ("Add", ["z", "w"], ["y"]),
        weights=[("spare", np.zeros(1)), ("w", np.ones(4, np.float32))],
    )
    assert [(node.operator, node.inputs, node.outputs) for node in found.nodes] == [
        ("Mul", ("chips", "value_0_0"), ("value_1_0",)),
        ("Add", ("value_1_0", "weight_1"), ("value_2_0",)),
    ]
    assert {name: value.tolist() for name, value in found.weights.items()} == {"value_0_0": 2.0, "weight_1": [1.0] * 4}
    assert (found.chips, found.embedding) == ("chips", "value_2_0")


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([("Add", ["x", "z"], ["y"]), ("Relu", ["y"], ["z"])], "in a circle or out of order: 'z' comes from nowhere"),
        ([("Relu", ["y"], ["y"])], "in a circle or out of order: 'y'"),
        ([("Relu", ["x"], ["y"]), ("Abs", ["x"], ["y"])], "computes 'y' twice"),
        ([("Relu", ["x"], ["x"]), ("Abs", ["x"], ["y"])], "computes 'x' twice"),
        ([("Relu", ["x"], ["z"])], "nothing in it computes its output"),
        (
            [("Magic", ["x"], ["y"])],
            r"cannot convert its operator Magic \(opset 18\), which onnx [0-9.]+ does not know; export with",
        ),
        ([("QuantizeLinear", ["x", "x"], ["y"])], r"Linear \(opset 18\); export the network before it is quantised"),
        ([("NonZero", ["x"], ["y"])], r"operator NonZero \(opset 18\); export the network only as far as"),
        (
            [("Relu", ["x"], ["y"], {"slope": 0.1})],
            r"operator Relu \(opset 18\) with 'slope', which onnx [0-9.]+ does not",
        ),
        ([("Constant", [], ["y"], {"value_string": "no"})], "a constant of no number"),
    ],
)
def test_graphs_that_are_not_read(nodes, words):
    with pytest.raises(ValueError, match=words):
        graph(*nodes)


@pytest.mark.parametrize(
    ("node", "opset", "words"),
    [
        ("RotaryEmbedding", 23, r"operator RotaryEmbedding \(opset 23\); export with opset 18"),
        ("SwiGLU", 28, r"operator SwiGLU \(opset 28\); export with opset 18"),
    ],
)
def test_operators_of_newer_opsets_name_the_one_that_can(node, opset, words):
    with pytest.raises(ValueError, match=words):
        graph((node, ["x"], ["y"]), opset=opset)


def test_attributes_of_newer_opsets_name_the_one_that_can():
    with pytest.raises(ValueError, match=r"Attention \(opset 25\) with 'left_window_size'; export with opset 18"):
        graph(("Attention", ["x", "x", "x"], ["y"], {"left_window_size": 2}), opset=25)


def test_reshapes_of_what_comes_from_the_chips_are_freed_and_no_others():
    found = graph(
        ("Reshape", ["x", "row"], ["flat"]),
        ("Reshape", ["w", "row"], ["bias"]),
        ("Reshape", ["flat", "whole"], ["again"], {"allowzero": 1}),
        ("Add", ["again", "bias"], ["y"]),
        weights=[("row", [1, -1]), ("whole", [1, 48]), ("w", np.ones(48, np.float32))],
    ).with_any_batch()
    shapes = [found.weights[node.inputs[1]].tolist() for node in found.nodes[:3]]
    assert shapes == [[0, -1], [1, -1], [-1, 48]]
    assert all(node.attributes == {} for node in found.nodes)
    assert all(isinstance(value, torch.Tensor) for value in found.weights.values())
