"""Windows of the face finder, and non-maximum suppression among them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from facetools.faces.face import Face
from facetools.faces.windows import Windows, moved, nms, roi_align, square, suppress, suppress_nested, with_others


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    areas = [(box[2:] - box[:2]).prod() for box in (a, b)]
    return float(shared / (sum(areas) - shared))


def test_squares_keep_the_middle_and_the_longer_side() -> None:
    boxes = np.array([[0, 0, 10, 20], [5, 5, 5, 5]], np.float32)
    assert square(boxes).tolist() == [[-5, 0, 15, 20], [4.5, 4.5, 5.5, 5.5]]


def test_offsets_count_in_widths_and_heights() -> None:
    boxes, offsets = (np.array([each], np.float32) for each in ([0, 0, 10, 20], [0.1, 0.2, -0.1, 0.5]))
    assert moved(boxes, offsets).tolist() == [[1, 4, 9, 30]]


def test_windows_are_chosen_together() -> None:
    boxes, score = np.arange(12, dtype=np.float32).reshape(3, 4), np.array([0.1, 0.2, 0.3], np.float32)
    windows = Windows(boxes, np.array([0, 0, 1]), score)
    chosen = windows[np.array([2, 0])]
    assert chosen.boxes[:, 0].tolist() == [8, 0]
    assert chosen.photo.tolist() == [1, 0]
    assert chosen.score.tolist() == pytest.approx([0.3, 0.1])


@pytest.mark.parametrize("groups", [1, 3])
def test_suppression_is_that_of_the_definition(groups: int) -> None:
    rng = np.random.default_rng(groups)
    corners = rng.uniform(-20, 60, (60, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (60, 2))], 1).astype(np.float32)
    group, score = rng.integers(0, groups, 60), rng.permutation(60).astype(np.float32) / 60
    kept: list[int] = []
    for n in np.argsort(-score):
        if all(group[n] != group[k] or overlap(boxes[n], boxes[k]) <= 0.5 for k in kept):
            kept.append(int(n))
    windows = Windows(boxes, group, score)
    assert 5 < len(kept) < 60
    assert suppress(windows, windows.photo, 0.5).tolist() == kept


def test_a_box_within_a_box_goes_too() -> None:
    boxes = np.array([[0.0, 0, 100, 100], [40, 40, 60, 60], [90, 0, 190, 100], [200, 0, 210, 10]])
    # The second lies in the first, though they share a twenty-fifth of their union.
    assert suppress_nested(boxes, np.array([0.9, 0.8, 0.7, 0.95]), 0.7) == [3, 0, 2]
    assert suppress_nested(boxes, np.array([0.8, 0.9, 0.7, 0.95]), 0.7) == [3, 1, 2]
    assert suppress_nested(np.empty((0, 4)), np.empty(0), 0.7) == []


def test_others_are_added_where_no_face_is() -> None:
    def face(box: tuple[float, float, float, float], confidence: float) -> Face:
        return Face(box, confidence, np.zeros((5, 2)))

    found = [face((0, 0, 10, 10), 0.8), face((2, 2, 10, 10), 0.75)]
    nested, beside = face((4, 4, 9, 9), 0.99), face((9, 9, 29, 29), 0.9)
    same, likelier = face((20, 100, 40, 120), 0.91), face((22, 100, 42, 120), 0.95)
    joined = with_others(found, [nested, same, beside, likelier])
    assert joined == [likelier, beside, *found]


def test_operators_are_torchvisions() -> None:
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
        "import sys, torch; from facetools.faces.windows import nms;"
        "kept = nms(torch.tensor([[0., 0, 9, 9], [0, 0, 9, 8]]), torch.tensor([0.1, 0.2]), 0.5).tolist();"
        "print(kept, 'torchvision.ops' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[1] False\n"
