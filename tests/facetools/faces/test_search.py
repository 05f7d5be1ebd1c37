"""How faces are searched for, and which are taken."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from facetools.faces.face import Face
from facetools.faces.finder import THRESHOLDS
from facetools.faces.search import FaceSearch


def test_a_name_alone_is_a_search_with_the_finders_own_settings() -> None:
    assert FaceSearch.of("central") == FaceSearch("central", None, None, rotations=False)
    assert FaceSearch.of(search := FaceSearch("largest", 30.0)) is search


@pytest.mark.parametrize("faces", ["all", "largest", "central", "crop", "whole-photo"])
def test_crops_and_whole_photos_are_not_searched(faces: str) -> None:
    assert FaceSearch(faces).is_needed == (faces not in ("crop", "whole-photo"))


def test_arguments_leave_out_the_defaults_that_earlier_files_leave_out() -> None:
    assert FaceSearch().arguments == {"faces": "all", "min_face": None}
    every = FaceSearch("largest", 30.0, 0.0, rotations=True).arguments
    assert every == {"faces": "largest", "min_face": 30.0, "min_confidence": 0.0, "rotations": True}


def test_the_finder_is_opened_as_the_search_says() -> None:
    usual = FaceSearch("largest", 30.0).open_finder(torch.device("cpu"))
    other = FaceSearch(min_confidence=0.0, rotations=True).open_finder(torch.device("cpu"))
    assert (usual.thresholds, usual.rotations) == (THRESHOLDS, False)
    assert (other.thresholds, other.rotations) == ((*THRESHOLDS[:2], 0.0), True)


def test_the_smallest_face_depends_on_the_photo_unless_it_is_given() -> None:
    assert [FaceSearch().least_px(shape) for shape in ((48, 64, 3), (1240, 1650, 3))] == [20, 41.25]
    assert FaceSearch(min_face_px=30.5).least_px((1240, 1650, 3)) == 30.5


def test_one_face_or_all_are_taken() -> None:
    points = np.zeros((5, 2))
    found = [Face((0, 0, 40, 40), 0.99, points), Face((40, 40, 60, 60), 0.95, points)]
    taken = [FaceSearch(faces).choose(found, (100, 100, 3)) for faces in ("all", "largest", "central")]
    assert taken == [(0, 1), (0,), (1,)]


def test_it_imports_neither_numpy_nor_torch() -> None:
    code = "import sys, facetools.faces.search; sys.exit(bool({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
