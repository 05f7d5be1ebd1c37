"""The networks of MTCNN."""

from __future__ import annotations

import torch

from facetools.faces import mtcnn


def test_pnet_has_the_shape_that_it_promises():
    pnet, _, _ = mtcnn.load(torch.device("cpu"))
    for height in range(12, 20):
        score, box = pnet(torch.zeros(1, 3, height, 31))
        assert score.shape == (1, (height - 1) // 2 - 4, 11)
        assert box.shape == (1, 4, (height - 1) // 2 - 4, 11)
