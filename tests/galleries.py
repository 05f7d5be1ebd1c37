"""Galleries of made-up embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from _toolio.streams.inputs import Item
from facetools.evaluation.gallery import Gallery

PEOPLE, EACH, WIDTH = 8, 10, 16
"""Of the gallery that ``tests/facetools/evaluation/conftest.py`` makes: people, photos of each, length of a row."""


def crowd(seed: int = 0) -> tuple[list[str], list[str], np.ndarray]:
    """Eight people of ten photos each whose clouds overlap."""
    rng = np.random.default_rng(seed)
    names = [f"p{person}/{number}.jpg" for person in range(8) for number in range(10)]
    rows = np.repeat(rng.normal(size=(8, 6)), 10, 0) + 0.7 * rng.normal(size=(80, 6))
    return names, [name[:2] for name in names], rows.astype(np.float32)


def gallery_of(rows: np.ndarray, names: Sequence[str], top: str = "clean") -> Gallery:
    return Gallery("e", "d", "euclidean", tuple(Item(f"{top}/{name}", name) for name in names), rows)
