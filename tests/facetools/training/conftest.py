"""Faces to train on, and extractors, that several test files share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from _toolio.streams.inputs import Item
from facetools.extractors.architectures import dlib_resnet, mobilefacenet
from facetools.extractors.extractor import Extractor
from facetools.faces.finder import Finder
from facetools.intake import Intake
from facetools.photos.codec import decode_photo
from facetools.training.paired_faces import PairedFaces
from facetools.training.samples import Sample, make_sample
from small_networks import small_network

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def extractor() -> Extractor:
    """A small one; with these weights protection, its floor and clean accuracy are three different figures."""
    network = small_network(16, mobilefacenet.SETTINGS, seed=8).eval().requires_grad_(False)
    return Extractor("small", "mobilefacenet", network, mobilefacenet.SETTINGS, 16, "0" * 64)


@pytest.fixture(scope="session")
def faces(real_people: dict[str, list[bytes]]) -> PairedFaces:
    """Six people, two clean photos each; a "cloak" that is a pattern laid over the first one."""
    finder, samples, original, cloak = Finder(CPU), [], [], []
    for name, photos in list(real_people.items())[:6]:
        for number, data in enumerate(photos[:2]):
            photo = decode_photo(data, name)
            intake = Intake(
                Item(name, f"{name}/{number}.jpg"), data, photo, tuple(finder.find([photo.pixels])[0][:1]), (0,)
            )
            sample = make_sample(intake, mobilefacenet.SETTINGS)
            assert sample is not None
            original.append(len(samples))
            cloak.append(-1)
            samples.append(sample)
    for place in range(0, len(samples), 2):
        pattern = np.where(np.indices(samples[place].pixels.shape[:2]).sum(0) % 4 < 2, 40, -40)[..., None]
        pixels = np.clip(samples[place].pixels + pattern, 0, 255).astype(np.uint8)
        samples.append(replace(samples[place], pixels=pixels))
        original.append(place)
        cloak.append(0)
    return PairedFaces(tuple(samples), np.array(original), np.array(cloak), ("pattern",))


@pytest.fixture(scope="session")
def teacher() -> Extractor:
    """A small one that takes chips as dlib's does, and whose embeddings are longer than the student's."""
    network = small_network(24, dlib_resnet.SETTINGS).eval().requires_grad_(False)
    return Extractor("teacher", "dlib-resnet", network, dlib_resnet.SETTINGS, 24, "0" * 64)


@pytest.fixture(scope="session")
def samples(real_people: dict[str, list[bytes]], teacher: Extractor) -> list[Sample]:
    finder, found = Finder(CPU), []
    for name, photos in list(real_people.items())[:4]:
        for number, data in enumerate(photos[:2]):
            photo = decode_photo(data, name)
            faces = tuple(finder.find([photo.pixels])[0][:1])
            intake = Intake(Item(f"{name}/{number}.jpg", f"{name}/{number}.jpg"), data, photo, faces, (0,))
            found.append(make_sample(intake, mobilefacenet.SETTINGS, teacher.settings))
    return [sample for sample in found if sample is not None]
