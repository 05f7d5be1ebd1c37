"""Cutting chips and embedding them."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from _toolio.compute.memory import Batch
from _toolio.streams.inputs import Item
from conftest import faceless, saved
from facetools.embeddings.chips import chip_of, chips_of
from facetools.embeddings.embedder import Embedder
from facetools.extractors.extractor import Extractor
from facetools.extractors.factory import open_extractor
from facetools.faces.face import Face
from facetools.faces.finder import Finder
from facetools.intake import Intake
from facetools.photos.codec import decode_photo

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return open_extractor("dlib-resnet", CPU)


@pytest.fixture(scope="module")
def intakes(real_people: dict[str, list[bytes]]) -> list[Intake]:
    """Two photos each of three people, and one of nobody."""
    finder, found = Finder(CPU), []
    for name, photos in list(real_people.items())[:3]:
        for number, data in enumerate(photos):
            photo = decode_photo(data, name)
            faces = tuple(finder.find([photo.pixels])[0][:1])
            found.append(Intake(Item(f"in/{name}/{number}.jpg", f"{name}/{number}.jpg"), data, photo, faces, (0,)))
    data = saved(faceless(), "PNG")
    return [*found[:2], Intake(Item("in/none.png", "none.png"), data, decode_photo(data, "x"), (), ()), *found[2:]]


def embed(intakes: list[Intake], extractor: Extractor, batch: int) -> tuple[list[dict], np.ndarray, dict]:  # type: ignore[type-arg]
    embedder = Embedder(extractor, batch=Batch(batch), file=Path("e.safetensors"))
    records = [fields for intake in intakes for fields in embedder.add(intake)]
    return records, *embedder.finish()


def test_row_k_is_face_k_whatever_the_batch(intakes: list[Intake], extractor: Extractor) -> None:
    records, rows, made = embed(intakes, extractor, 8)
    assert rows.dtype == np.float32
    assert rows.shape == (6, 128)
    assert [record["row"] for record in records] == [0, 1, None, 2, 3, 4, 5]
    assert records[2] == {
        "row": None, "path": "in/none.png", "relative": "none.png", "sha256": intakes[2].digest, "face": None,
        "reason": "no face found",
    }  # fmt: skip
    faces = [intake for intake in intakes if intake.faces]
    for row, intake, said in zip(rows, faces, made["rows"], strict=True):
        with torch.inference_mode():
            alone = extractor.network(chip_of(intake.photo.pixels, intake.faces[0], extractor))[0].numpy()
        np.testing.assert_allclose(row, alone, atol=1e-5)
        assert said == {
            "path": intake.item.path, "relative": intake.item.relative, "sha256": intake.digest, "face": 0
        }  # fmt: skip
    for batch in (1, 4):
        again_records, again, again_made = embed(intakes, extractor, batch)
        np.testing.assert_allclose(again, rows, atol=1e-5)
        assert (again_records, again_made) == (records, made)
    assert made["extractor"] == {"name": "dlib-resnet", "sha256": extractor.sha256, "distance": "euclidean"}
    assert made["alignment"] == extractor.alignment


def test_photos_of_one_person_are_closest(intakes: list[Intake], extractor: Extractor) -> None:
    _, rows, _ = embed(intakes, extractor, 8)
    distances = {(a, b): np.linalg.norm(rows[a] - rows[b]) for a, b in itertools.combinations(range(6), 2)}
    same = [distance for (a, b), distance in distances.items() if a // 2 == b // 2]
    other = [distance for (a, b), distance in distances.items() if a // 2 != b // 2]
    assert max(same) < min(other)


def test_nothing_to_embed(intakes: list[Intake], extractor: Extractor) -> None:
    records, rows, made = embed([intakes[2]], extractor, 8)
    assert (len(records), rows.shape, made["rows"]) == (1, (0, 128), [])


def test_chips_are_written_as_they_are_embedded(intakes: list[Intake], extractor: Extractor) -> None:
    intake = intakes[0]
    (output,) = chips_of(intake, extractor)
    assert output.data is not None
    assert output.relative == f"{intake.item.relative}.face0.png"
    chip = np.array(Image.open(io.BytesIO(output.data)))
    exact = chip_of(intake.photo.pixels, intake.faces[0], extractor)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(chip - exact).max() <= 0.51
    (record,) = output.described
    # Cut once more by what the record says, the chip stays what it is.
    again = chip_of(chip, Face((0, 0, 1, 1), 1.0, np.array(record["landmarks"])), extractor)
    np.testing.assert_allclose(again[0].permute(1, 2, 0).numpy() * 255, chip, atol=0.01)
    (none,) = chips_of(intakes[2], extractor)
    assert (none.data, none.described[0]["reason"]) == (None, "no face found; nothing written")
