"""What to compare and how; importing it needs no numpy."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from _toolio.errors import UsageError, param
from berttools.checkpoints.groups import By, Grouping, Part


@dataclass(frozen=True)
class Selection:
    """Which tensors to compare, and how they are named and grouped.

    Attributes
    ----------
    grouping
        The table of groups.
    only
        Searched for in names; None for all.
    group
        Groups; empty for all tensors.
    strip_prefix
        Prefixes to take off names.
    """

    grouping: Grouping = field(default_factory=Grouping)
    only: re.Pattern[str] | None = None
    group: frozenset[str] = frozenset()
    strip_prefix: tuple[str, ...] = ()

    def parts(self, name: str, shape: tuple[int, ...]) -> list[Part]:
        """Return the selected parts of a tensor; none where it is not selected."""
        if self.only is not None and not self.only.search(name):
            return []
        return [part for part in self.grouping.parts(name, shape) if not self.group or part.group in self.group]


@dataclass(frozen=True)
class LayerdiffConfig:
    """Configuration of `berttools.layerdiff.compare`.

    Attributes
    ----------
    selection
        Which tensors, and their groups.
    by
        What a record is about: one tensor, or all of a layer, a group or the model laid end to end.
    svd
        Singular values of which the share of the change's energy is added to each record; 0 for none.
    baseline
        Add the base's distance to a random initialisation of its config.json; needs torch and transformers.
    seed
        Of that initialisation.
    pairs
        Compare the fine-tuned models with each other too.
    device
        ``cpu``, which needs no torch; ``cuda``, ``cuda:N`` or ``auto``.
    processes
        To sum with on a CPU; None: one a core, up to 4. No result depends on it.
    """

    selection: Selection = field(default_factory=Selection)
    by: By = By.tensor
    svd: int = 0
    baseline: bool = False
    seed: int = 0
    pairs: bool = False
    device: str = "cpu"
    processes: int | None = None

    def __post_init__(self) -> None:
        if self.svd and self.by != By.tensor:
            raise UsageError(
                f"{param('svd')} {self.svd} is of single matrices: leave out {param('by')} {By(self.by).value}"
            )
