"""Configuration of scores of matrices. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from _toolio.choices import refuse_below_one
from _toolio.errors import UsageError, param
from berttools.tuning.config import TaskConfig


class Criterion(StrEnum):
    """What matrices are ranked by."""

    fisher = "fisher"
    """`berttools.layer_scores.gradients.fisher_norm`."""
    grad = "grad"
    """`berttools.layer_scores.gradients.gradient_times_weight`."""
    cosine = "cosine"
    """`berttools.layer_scores.similarity.layer_similarities`."""
    lift = "lift"
    """`berttools.layer_scores.principal_weights.principal_shares`."""

    @property
    def of_gradients(self) -> bool:
        """Whether it depends on the head, through the gradient of its loss."""
        return self in (Criterion.fisher, Criterion.grad)


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(TaskConfig):
    """What to score matrices by, and on which texts.

    As of ``TaskConfig``, whose ``train`` no texts are read of where ``by`` is ``lift``. Beside the attributes of that:

    Attributes
    ----------
    by
        The criterion.
    texts
        How many texts, drawn from ``train`` at random; all where it has fewer.
    batch
        Texts a pass: no score depends on it but for rounding, and ``fisher`` takes one at a time.
    fit_head
        Steps in which the head alone is tuned before gradients are taken.

    Raises
    ------
    UsageError
        If a choice is unknown, or ``texts`` or ``batch`` is less than 1.
    """

    train: str | None = None
    by: Criterion = Criterion.fisher
    texts: int = 256
    batch: int = 32
    fit_head: int = 0

    def __post_init__(self) -> None:
        """Convert choices and paths: as ``TaskConfig``."""
        super().__post_init__()
        self._convert_choices(by=Criterion)
        for name in ("texts", "batch"):
            refuse_below_one(getattr(self, name), name)

    def check(self) -> None:
        """Raise if the configuration cannot be run; nothing heavy is imported.

        Raises
        ------
        UsageError
            If parameters contradict each other.
        ToolError
            If ``base`` is no model's folder.
        """
        if self.train is None and self.by is not Criterion.lift:
            raise UsageError(f"{param('by')} {self.by} is measured on texts: give {param('train')}")
        if self.train is not None and self.by is Criterion.lift:
            raise UsageError(f"{param('by')} lift is of the weights alone, and reads no {param('train')}; leave it out")
        if self.fit_head and not self.by.of_gradients:
            raise UsageError(f"{param('fit_head')} goes with {param('by')} fisher or grad: {self.by} needs no head")
        self.check_task()
