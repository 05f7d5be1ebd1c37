"""Configuration of a mask tuning: that of a fine-tuning, and how masks are learned. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from _toolio.errors import UsageError, param
from berttools.mask_tuning.recipe import FIRST, RATES, Distance, Method, Pattern, Recipe
from berttools.masks import Code
from berttools.tuning.config import FinetuneConfig, Save


class Pooler(StrEnum):
    """What is tuned of the layer between encoder and head."""

    freeze = "freeze"
    dense = "dense"
    mask = "mask"


@dataclass(frozen=True, kw_only=True)
class MaskTuneConfig(FinetuneConfig):
    """Configuration of a mask tuning from files to a mask file.

    Beside those of ``FinetuneConfig``, whose ``learning_rate`` is here the head's and whose ``out`` is a file:

    Attributes
    ----------
    method, pattern, initial_sparsity, target_sparsity, distance
        As of ``Recipe``.
    initial_score
        Magnitude of scores at the beginning; None for the method's default.
    score_learning_rate
        The scores' peak learning rate; None for the method's default.
    pooler
        What is tuned of the layer between encoder and head.
    beside
        Patterns of names: what of the rest is tuned as it is, at the head's rate, and stored whole.
    refit_head
        Whether to tune the head again on the final mask, for a tenth of the steps.
    distill
        The folder of a fine-tuned model, the teacher of a distillation; None for none.
    code
        How the masks are coded in the file.
    """

    learning_rate: float = 1e-3
    save: Save = Save.delta
    method: Method = Method.bernoulli
    pattern: Pattern = Pattern.free
    initial_sparsity: float = 0.0
    target_sparsity: float | None = None
    initial_score: float | None = None
    score_learning_rate: float | None = None
    distance: Distance = Distance.even
    pooler: Pooler = Pooler.freeze
    beside: list[str] | None = None
    refit_head: bool = False
    distill: Path | None = None
    code: Code = Code.auto

    def __post_init__(self) -> None:
        """Convert choices and paths: as ``FinetuneConfig``."""
        super().__post_init__()
        self._convert_choices(method=Method, pattern=Pattern, distance=Distance, pooler=Pooler, code=Code)
        if self.distill is not None:
            object.__setattr__(self, "distill", Path(self.distill))
        if isinstance(self.beside, str):
            object.__setattr__(self, "beside", [self.beside])
        if self.save is Save.model:
            raise UsageError(f"{param('save')} model: what is written is a mask file; apply_mask makes a model of it")

    def check(self, *, writes: bool = True) -> Path:
        """Return the checkpoint's path, if the configuration can be run: as ``FinetuneConfig.check``."""
        from berttools.checkpoints.model_folder import check_folder
        from berttools.tuning.parameter_names import check_pattern

        for pattern in self.beside or ():
            check_pattern(pattern, "beside")
        method = f"{param('method')} topk"
        if self.target_sparsity is not None and self.method is not Method.topk:
            raise UsageError(f"{param('target_sparsity')} goes with {method}; {self.method} finds its own sparsity")
        sparsity, fours = self.initial_sparsity or self.target_sparsity, self.pattern is Pattern.two_of_four
        if self.method is Method.topk and not (sparsity or fours):
            raise UsageError(f"{method} zeroes as many weights as it is told to; give {param('target_sparsity')}")
        if fours and sparsity:
            raise UsageError(f"{param('pattern')} 2:4: half of each matrix is zeroed; give no sparsity")
        if self.distill:
            check_folder(self.distill)
        return super().check(writes=writes)

    @property
    def inputs(self) -> list[tuple[Path, str]]:
        """What is read, none of which may be replaced, with the parameter's name."""
        return super().inputs + ([(self.distill, "distill")] if self.distill else [])

    @property
    def rates(self) -> tuple[float, float | None]:
        """The head's peak learning rate, and None: scores have their own."""
        return self.learning_rate, None

    @property
    def score_rate(self) -> float:
        """The scores' peak learning rate."""
        return RATES[self.method] if self.score_learning_rate is None else self.score_learning_rate

    def recipe(self) -> Recipe:
        """Return how masks are learned."""
        first = FIRST[self.method] if self.initial_score is None else self.initial_score
        return Recipe(self.method, self.pattern, self.initial_sparsity, first, self.target_sparsity, self.distance)
