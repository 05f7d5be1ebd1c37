"""Extractors: networks that turn an aligned face chip into an embedding. One file an architecture.

An architecture is a module of ``architectures``; its name is its file name. It has ``SETTINGS``, the usual settings of
its networks, ``network(state, options)``, which builds one from tensors under its own names, and ``canonical(state)``,
which maps tensors of other projects' layouts to these names. None is imported before it is needed.
"""

from typing import TYPE_CHECKING

from _toolio.lazy import exporter

if TYPE_CHECKING:
    from facetools.extractors.extractor import Extractor
    from facetools.extractors.factory import open_extractor, open_extractors
    from facetools.extractors.settings import Settings

__all__ = ["Extractor", "Settings", "open_extractor", "open_extractors"]

__getattr__ = exporter(
    __name__,
    {
        "Extractor": "extractor",
        "open_extractor": "factory",
        "open_extractors": "factory",
        "Settings": "settings",
    },
)
