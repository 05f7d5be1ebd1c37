"""Embed faces; read and write files of embeddings; compute their distances."""

from typing import TYPE_CHECKING

from _toolio.lazy import exporter

if TYPE_CHECKING:
    from facetools.embeddings.distances import distances
    from facetools.embeddings.embedder import Embedder
    from facetools.embeddings.files import Embeddings, read_embeddings, write_embeddings

__all__ = ["Embedder", "Embeddings", "distances", "read_embeddings", "write_embeddings"]

__getattr__ = exporter(
    __name__,
    {
        "distances": "distances",
        "Embedder": "embedder",
        "Embeddings": "files",
        "read_embeddings": "files",
        "write_embeddings": "files",
    },
)
