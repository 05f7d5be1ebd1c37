"""Faces of known people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from _toolio.errors import ToolError
from conftest import faceless
from embedding_files import write
from facetools.embeddings.people import embed_people, people_of, read_people
from facetools.extractors.extractor import Extractor
from facetools.extractors.settings import Settings


class Mean(torch.nn.Module):
    """An extractor's network: the mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, chips: torch.Tensor) -> torch.Tensor:
        """Embed."""
        return chips.mean((2, 3)) * self.scale


MEAN = Extractor("mean", "mean", Mean(), Settings((32, 32), "arcface"), 3, "a" * 64)


def test_the_largest_face_of_each_photo_counts(tmp_path: Path) -> None:
    path = write(tmp_path, names=("a/1.jpg", "a/1.jpg", "b/1.jpg"))
    path = Path(str(path).replace(".jsonl", ".safetensors"))
    with pytest.raises(ToolError, match="is in it twice"):
        read_people(str(path), "")
    faces = read_people(str(write(tmp_path)), "")
    assert people_of(faces) == ["a", "a", "b", "b"]
    assert faces.values.tolist() == np.arange(12.0).reshape(4, 3).tolist()


def test_photos_are_embedded_and_those_without_a_face_left_out(people_folder: Path) -> None:
    first, second, *others = sorted(people_folder.iterdir())
    for each in others:
        for photo in each.iterdir():
            photo.unlink()
    faceless().save(first / "none.png")
    (second / "notes.txt").write_text("no photo by name")
    faces = embed_people(str(people_folder), MEAN)
    assert people_of(faces) == [first.name] * 2 + [second.name] * 2
    assert faces.values.shape == (4, 3)
    assert faces.distance == "cosine"
    (second / "broken.jpg").write_bytes(b"no photo")
    with pytest.raises(ToolError, match=r"broken\.jpg"):
        embed_people(str(people_folder), MEAN)
    for photo in people_folder.rglob("*.*"):
        photo.unlink()
    faceless().save(first / "none.png")
    with pytest.raises(ToolError, match="no face in any of its photos"):
        embed_people(str(people_folder), MEAN)
