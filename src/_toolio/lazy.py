"""Import late, and quickly: packages that export names of modules which are not imported before they are used."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
        with uncollected():
            return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return export


_process_is_ours = False


def set_process_is_ours(ours: bool) -> None:
    """Set whether this process is a tool's, so that the collector may be told what to leave alone in all of it."""
    global _process_is_ours
    _process_is_ours = ours


@contextmanager
def uncollected() -> Iterator[None]:
    """Suspend the garbage collector inside a block that imports, as what it makes stays.

    The collector would look through all of it again and again, for a fifth of the time of importing typer, numpy or
    torch; in a tool's own process it does not look through it later either.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if _process_is_ours:
            gc.freeze()
        if was_on:
            gc.enable()


def quiet_torch() -> None:
    """Keep torch from logging on stderr how other libraries register their types with it.

    torchao, which transformers imports where it is installed, does so in a way that newer versions of torch warn of.
    """
    import logging

    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
