import itertools

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
from facetools.extractors.graphs.network import GraphNetwork
from facetools.extractors.graphs.reference import reference_embedding
from onnx_models import graph, model

CHIPS = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("opset", [9, 13, 18])
def test_normalisation_is_by_the_statistics_of_the_model(opset):
    numbers = [np.full(3, number, np.float32) for number in (3, 1, 0.5, 4)]
    made = model(("BatchNormalization", ["x", *"abcd"], ["y"]), weights=zip("abcd", numbers, strict=True), opset=opset)
    want = 3 * (CHIPS - 0.5) / (4 + 1e-5) ** 0.5 + 1
    assert torch.allclose(reference_embedding(made, CHIPS), want.flatten(1), atol=1e-6)


def test_what_the_evaluator_cannot_compute_is_none():
    assert reference_embedding(model(("Upsample", ["x", "x"], ["y"]), opset=9), CHIPS) is None


PADS = ([0] * 4, [1] * 4, [1, 1, 0, 0], [1, 0, 0, 1])
POOLED = [
    {"kernel_shape": [3, 2], "strides": strides, "pads": pads, "ceil_mode": ceil}
    for strides, pads, ceil in itertools.product(([2, 2], [3, 1]), PADS, (0, 1))
] + [
    {"kernel_shape": [3, 3], "strides": [2, 1], "auto_pad": pads} for pads in ("SAME_UPPER", "SAME_LOWER", "VALID")
]  # fmt: skip
REPLACED = {
    "AveragePool": [each | {"count_include_pad": counted} for each in POOLED for counted in (0, 1)],
    "MaxPool": [*POOLED, {"kernel_shape": [2, 2], "dilations": [2, 3], "pads": [1, 0, 0, 1]}],
    "Softmax": [{}, {"axis": 1}, {"axis": 2}, {"axis": -1}],
    "LogSoftmax": [{}, {"axis": 1}, {"axis": -1}],
    "LpNormalization": [{}, {"p": 1}, {"p": 1, "axis": 1}, {"p": 2, "axis": 2}],
    "LRN": [{"size": 3}, {"size": 5, "alpha": 0.1, "beta": 0.5, "bias": 2.0}],
}
WIDE = torch.randn(1, 3, 7, 9, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("opset", [11, 13, 19])
@pytest.mark.parametrize("operator", REPLACED)
def test_operators_are_computed_as_onnxruntime_does(operator, opset):
    runtime = pytest.importorskip("onnxruntime")
    for attributes in REPLACED[operator]:
        node, sides = (operator, ["x"], ["y"], attributes), tuple(WIDE.shape)
        made = model(node, opset=opset, sides=sides)
        session = runtime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
        (want,) = session.run(None, {"x": WIDE.numpy()})
        ours = GraphNetwork(graph(node, opset=opset, sides=sides))(WIDE)
        assert np.allclose(ours.numpy(), want, atol=1e-5), attributes
        assert np.allclose(reference_embedding(made, WIDE).numpy(), want.reshape(1, -1), atol=1e-5), attributes
