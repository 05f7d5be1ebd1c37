"""Cloak photos against face recognition, measure whether it helps, and see through it."""

from typing import TYPE_CHECKING

from _toolio.lazy import exporter

if TYPE_CHECKING:
    from facetools.api.embeddings import match
    from facetools.api.faces import find_faces, read_photo
    from facetools.api.folders import evaluate, perturb
    from facetools.api.networks import open_detector, open_extractor

__all__ = ["evaluate", "find_faces", "match", "open_detector", "open_extractor", "perturb", "read_photo"]

__getattr__ = exporter(
    __name__,
    {
        "evaluate": "api.folders",
        "find_faces": "api.faces",
        "match": "api.embeddings",
        "open_detector": "api.networks",
        "open_extractor": "api.networks",
        "perturb": "api.folders",
        "read_photo": "api.faces",
    },
)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
