import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
from facetools.extractors.graphs.reference import reference_embedding
from onnx_models import model

CHIPS = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("opset", [9, 13, 18])
def test_normalisation_is_by_the_statistics_of_the_model(opset):
    numbers = [np.full(3, number, np.float32) for number in (3, 1, 0.5, 4)]
    made = model(("BatchNormalization", ["x", *"abcd"], ["y"]), weights=zip("abcd", numbers, strict=True), opset=opset)
    want = 3 * (CHIPS - 0.5) / (4 + 1e-5) ** 0.5 + 1
    assert torch.allclose(reference_embedding(made, CHIPS), want.flatten(1), atol=1e-6)


def test_what_the_evaluator_cannot_compute_is_none():
    assert reference_embedding(model(("Upsample", ["x", "x"], ["y"]), opset=9), CHIPS) is None
