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


def test_maps_are_pooled_as_torch_pools_them():
    for height in range(3, 12):
        maps = torch.randn(2, 5, height, 14 - height).contiguous(memory_format=torch.channels_last)
        assert torch.equal(mtcnn._pooled(maps), torch.nn.functional.max_pool2d(maps, 3, 2, ceil_mode=True))
