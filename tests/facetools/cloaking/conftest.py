"""A real face, its finder and an extractor, for all tests of cloaking."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cloaking_faces import CPU
from facetools.extractors.extractor import Extractor
from facetools.extractors.factory import open_extractor
from facetools.faces.face import Face
from facetools.faces.finder import Finder


@pytest.fixture(scope="package")
def extractor() -> Extractor:
    return open_extractor("dlib-resnet", CPU)


@pytest.fixture(scope="package")
def finder() -> Finder:
    return Finder(CPU)


@pytest.fixture(scope="package")
def portrait(face_photo: bytes) -> Image.Image:
    """The middle of a real photo: a face and little else."""
    return Image.open(io.BytesIO(face_photo)).convert("RGB").crop((50, 50, 200, 200))


@pytest.fixture(scope="package")
def face(portrait: Image.Image, finder: Finder) -> Face:
    return finder.find([np.array(portrait)])[0][0]
