"""The image pyramid of the face finder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facetools.faces import mtcnn, pyramid
from facetools.faces.face import Face
from facetools.faces.pyramid import Level, cut_crops, join_tiles, lay_out, tiles_of
from facetools.faces.windows import Windows, roi_align


@pytest.mark.parametrize("first", [(250, 250), (120, 333), (400, 90), (13, 12)])
def test_pictures_lie_side_by_side_and_their_windows_are_known(first: tuple[int, int]) -> None:
    sizes = [first]
    while min(smaller := (round(sizes[-1][0] * 0.709), round(sizes[-1][1] * 0.709))) >= 12:
        sizes.append(smaller)
    layout = lay_out(tuple(sizes))
    assert [side % 32 for side in layout.size] == [0, 0], "few sizes for all photos"
    owner = np.full(layout.size, -1)
    for number, ((top, left), (height, width)) in enumerate(zip(layout.corners, sizes, strict=True)):
        assert (top % 2, left % 2) == (0, 0)
        part = owner[top : top + height, left : left + width]
        assert part.shape == (height, width), "inside the whole"
        assert (part == -1).all(), "on nothing else"
        part[:] = number
    # A window belongs to a picture where all of its 12x12 pixels do.
    for (row, column), number in np.ndenumerate(layout.picture_of):
        seen = owner[2 * row : 2 * row + 12, 2 * column : 2 * column + 12]
        whole = seen.min() == seen.max() and seen.min() >= 0
        if number >= 0:
            top, left = layout.corners[number]
            height, width = sizes[number]
            # P-Net rounds up: the last window of an odd side reaches one line beyond.
            assert (2 * row - top + 11 <= height) and (2 * column - left + 11 <= width)
        else:
            assert not whole


def test_crops_come_from_the_coarsest_level_that_is_fine_enough() -> None:
    fine = torch.full((2, 3, 80, 80), 200, dtype=torch.uint8)
    coarse = torch.full((2, 3, 40, 40), 100, dtype=torch.uint8)
    fine[1] = 50
    levels = [Level(fine, (1.0, 1.0), proposes=False), Level(coarse, (0.5, 0.5), proposes=True)]
    boxes = np.array([[10, 10, 70, 70], [20, 20, 44, 44], [20, 20, 44, 44], [60, 60, 100, 100]], np.float32)
    windows = Windows(boxes, np.array([0, 0, 1, 0]), np.ones(4, np.float32))
    crops, order = cut_crops(levels, windows, 24)
    crops = crops[order.argsort()]
    assert crops.shape == (4, 3, 24, 24)
    assert (crops[0] == 100 - mtcnn.GREY).all()
    assert (crops[1] == 200 - mtcnn.GREY).all()
    assert (crops[2] == 50 - mtcnn.GREY).all()
    # Mid-grey beyond the photo.
    torch.testing.assert_close(crops[3][:, :10, :10], torch.full((3, 10, 10), 200 - mtcnn.GREY))
    assert (crops[3][:, -8:, -8:] == 0).all()


def test_crops_are_those_of_the_whole_level(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is not read is not filled: here with NaN, which would be seen in any crop.
    monkeypatch.setattr(pyramid, "_SMALL", 0)
    monkeypatch.setattr(torch, "empty", lambda *shape, **how: torch.full(*shape, torch.nan, **how))
    rng = np.random.default_rng(0)
    photos = torch.from_numpy(rng.integers(0, 256, (2, 90, 120, 3), dtype=np.uint8)).permute(0, 3, 1, 2)
    whole = photos.contiguous() - mtcnn.GREY
    corners = rng.uniform(-60, 140, (200, 2)).astype(np.float32)
    cases = [np.array([[-10.1, -10.1, -0.1, -0.1]] * 2)]  # of which the last sample counts as one on the border
    for start in range(0, 200, 2):  # two at a time: about them much is left out
        cases.append(np.concatenate([some := corners[start : start + 2], some + rng.uniform(8, 40, (2, 1))], 1))
    for boxes in cases:
        windows = Windows(boxes.astype(np.float32), rng.integers(0, 2, 2), np.ones(2, np.float32))
        crops, order = cut_crops([Level(photos, (1.0, 1.0), proposes=True)], windows, 24)
        placed = np.concatenate([windows.photo[order, None], windows.boxes[order]], 1).astype(np.float32)
        assert torch.equal(crops, roi_align(whole, torch.from_numpy(placed), 24))


@pytest.mark.parametrize("size", [(250, 250), (900, 2700), (3000, 9000), (1, 700), (10, 768)])
def test_one_tile(size: tuple[int, int]) -> None:
    (tile,) = tiles_of(*size)
    assert (tile.left, tile.top, tile.right, tile.bottom) == (0, 0, size[1], size[0])


@pytest.mark.parametrize("size", [(3000, 20_000), (1000, 3001), (60_000, 700), (1, 9000), (400, 2000)])
def test_each_face_lies_in_a_tile_of_its_own(size: tuple[int, int]) -> None:
    tiles, across = tiles_of(*size), min(size)
    assert len(tiles) <= max(size) / (2 * max(across, 256)) + 2
    spans = [(tile.left, tile.right) if size[1] > size[0] else (tile.top, tile.bottom) for tile in tiles]
    assert (spans[0][0], spans[-1][1]) == (0, max(size))
    for middle in np.linspace(across / 2, max(size) - across / 2, 97):
        (own,) = [k for k, tile in enumerate(tiles) if tile.first <= middle < tile.last]
        assert spans[own][0] <= middle - across / 2
        assert middle + across / 2 <= spans[own][1]


def test_faces_of_tiles_are_joined() -> None:
    tiles = tiles_of(300, 1500)
    assert [tile.left for tile in tiles] == [0, 600]

    def face(left: float, confidence: float, width: float = 100) -> Face:
        return Face((left, 10.0, left + width, 130.0), confidence, np.full((5, 2), left))

    first = [face(20, 0.9), face(640, 0.9), face(730, 0.99)]
    second = [face(42, 0.8), face(132, 0.7), face(700, 0.95, 150)]
    joined = join_tiles(tiles, [first, second])
    # Both see those at 640 and 730: each counts as its own tile has it.
    assert [(each.box[0], each.confidence) for each in joined] == [(1300, 0.95), (20, 0.9), (640, 0.9), (732, 0.7)]
    assert joined[0].landmarks.tolist() == [[1300, 700]] * 5
