"""Find architectures by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, cast

from _toolio.errors import UsageError
from facetools.extractors import architectures as package
from facetools.extractors.settings import Settings

if TYPE_CHECKING:
    import torch


class Architecture(Protocol):
    """What a module of this package offers."""

    SETTINGS: Settings
    """What its networks usually want. ``settings_of(state, options)``, where a module has it, knows better."""

    def network(self, state: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> torch.nn.Module:
        """Build the network around these tensors: chips as ``SETTINGS`` prepares them -> float [B, D].

        The size (depth, width, embedding) is read from the tensors' names and shapes; ``options`` holds what they
        do not tell, {} for most. ValueError if no network of this architecture has such tensors.
        """

    # ``tuned(state, network)``, where a module has it, gives the tensors of a network that was built from ``state`` and
    # then tuned. Elsewhere they are the network's own.

    def canonical(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Bring tensors of a known layout under the architecture's own names.

        Names that it does not know stay as they are, and those that no embedding needs (a classifier's head,
        counters) go. Prefixes such as ``module.`` have been removed.
        """


@cache
def architectures() -> tuple[str, ...]:
    """List the architectures there are, by their files."""
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__)))


def find_architecture(name: str) -> Architecture:
    """Find an architecture by name.

    Raises
    ------
    UsageError
        There is none; the message lists those there are.
    """
    if name not in architectures():
        raise UsageError(f"architecture {name}: not known; choose from {', '.join(architectures())}")
    return cast("Architecture", importlib.import_module(f"{package.__name__}.{name.replace('-', '_')}"))
