"""Find architectures by their file names."""

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
    """Interface of a module of ``facetools.extractors.architectures``."""

    SETTINGS: Settings
    """Usual settings of its networks. ``settings_of(state, options)``, where a module has it, is more exact."""

    def network(self, state: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> torch.nn.Module:
        """Build the network from tensors under the architecture's own names.

        It maps chips as ``SETTINGS`` prepares them to float [B, D]. Its size (depth, width, embedding) is read from
        the tensors' names and shapes; ``options`` holds what these do not determine, {} for most. ValueError if no
        network of this architecture has such tensors.
        """

    # ``tuned(state, network)``, where a module has it, returns the tensors to save of a network that was built from
    # ``state`` and then fine-tuned. Elsewhere they are the network's own.

    def canonical(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Rename tensors of known layouts to the architecture's own names.

        Unknown names stay as they are; tensors that no embedding needs (a classifier's head, batch counters) are
        dropped. Prefixes such as ``module.`` have been removed.
        """


@cache
def architectures() -> tuple[str, ...]:
    """Return the names of all architectures, sorted."""
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(package.__path__)))


def find_architecture(name: str) -> Architecture:
    """Return an architecture's module, imported when it is needed.

    Raises
    ------
    UsageError
        No architecture has this name; the message lists those that exist.
    """
    if name not in architectures():
        raise UsageError(f"architecture {name}: not known; choose from {', '.join(architectures())}")
    return cast("Architecture", importlib.import_module(f"{package.__name__}.{name.replace('-', '_')}"))
