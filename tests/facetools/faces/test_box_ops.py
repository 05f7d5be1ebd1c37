"""torchvision's operators without torchvision."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from facetools.faces.box_ops import nms, roi_align


def test_they_are_torchvisions() -> None:
    ops = pytest.importorskip("torchvision.ops")
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(50, 2, generator=generator) * 40
    boxes = torch.cat([corners, corners + 4 + 20 * torch.rand(50, 2, generator=generator)], 1)
    scores = torch.rand(50, generator=generator)
    assert torch.equal(nms(boxes, scores, 0.3), ops.nms(boxes, scores, 0.3))
    pictures = torch.rand(2, 3, 50, 60, generator=generator)
    placed = torch.cat([torch.arange(50)[:, None] % 2, boxes], 1)
    theirs = ops.roi_align(pictures, placed, 7, sampling_ratio=1, aligned=True)
    assert torch.equal(roi_align(pictures, placed, 7), theirs)


def test_torchvision_is_not_imported() -> None:
    code = (
        "import sys, torch; from facetools.faces.box_ops import nms;"
        "kept = nms(torch.tensor([[0., 0, 9, 9], [0, 0, 9, 8]]), torch.tensor([0.1, 0.2]), 0.5).tolist();"
        "print(kept, 'torchvision.ops' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[1] False\n"
