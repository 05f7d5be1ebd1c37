"""Packages that export names of their modules without importing these before they are used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def exporter(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's ``__getattr__`` (PEP 562).

    ``from facetools.detector import open_detector`` then works, and a command's help, which imports the package on
    its way to a light module, still imports no torch.

    Parameters
    ----------
    package
        Its name.
    modules
        Exported name to the module below the package that defines it.
    """

    def export(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return export


def quiet_torch() -> None:
    """Keep torch from logging on stderr how other libraries register their types with it.

    torchao, which transformers imports where it is installed, does so in a way that newer versions of torch warn of.
    """
    import logging

    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
