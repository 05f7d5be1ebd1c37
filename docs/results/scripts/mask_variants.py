"""Try what ``berttools mask-tune`` does not do: one change to how masks are learned, measured and not stored.

Usage: python docs/results/scripts/mask_variants.py VARIANT=VALUE <options of mask-tune>

Tunes as ``mask-tune`` with these options would, and prints the same records; a mask file that it writes lacks what the
variant adds. Variants:

- ``row-scale=RATE``: each row of a masked matrix has a factor, learned at this rate from 1 on.
- ``row-norm=1``: each row of a masked matrix is scaled to the norm that it has in the base.
- ``hard-from=SHARE``: no draws after this share of the steps; scores above zero, with the same gradient.
- ``sharper=FACTOR``: scores are multiplied before draws, by 1 at first and by this at the end, geometrically.
- ``momentum=FACTOR``: scores move by momentum over a gradient that is divided by its matrix's running RMS, not each by
  its own as in Adam; the score's learning rate times this.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from berttools.cli import main
from berttools.mask_tuning import convert, masked_linear
from berttools.tuning import trainer
from berttools.tuning.config import ParamGroup

NAMES = ("row-scale", "row-norm", "hard-from", "sharper", "momentum")
SCALES = "row_scale"


class Variant(masked_linear.MaskedLinear):
    """A masked layer with one change."""

    name, value = "", 1.0

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        if self.name == "row-scale":
            self.row_scale = nn.Parameter(torch.ones(len(self.weight)))

    @property
    def _sharpness(self) -> float:
        return float(self.value**self._draws.progress) if self.name == "sharper" else 1.0

    def keep(self) -> Tensor:
        """Return the mask: in training scores above zero from some step on, if that is the variant."""
        hard = self.name == "hard-from" and self.training and self._draws.progress >= self.value
        return self._spread(self._deterministic()) if hard else super().keep()

    def _drawn(self, step: int) -> Tensor:
        kept = self.scores.data
        self.scores.data = kept * self._sharpness
        found = super()._drawn(step)
        self.scores.data = kept
        return found

    def to_scores(self, to_mask: Tensor, scores: Tensor) -> Tensor:
        """Return the scores' gradient, but for a factor that is the same for all."""
        return super().to_scores(to_mask, scores * self._sharpness if self.name == "sharper" else scores)

    def masked(self, keep: Tensor) -> Tensor:
        """Return the weights that stay, with the norms of the base's rows if that is the variant."""
        found = super().masked(keep)
        if self.name != "row-norm":
            return found
        before, now = (torch.linalg.vector_norm(each, dim=1, keepdim=True) for each in (self.weight.detach(), found))
        scaled: Tensor = found * (before / now.clamp_min(1e-12))
        return scaled

    def forward(self, x: Tensor) -> Tensor:
        """Multiply, and scale if that is the variant."""
        found = super().forward(x)
        if self.name != "row-scale":
            return found
        bias = torch.zeros(()) if self.bias is None else self.bias
        scaled: Tensor = (found - bias) * self.row_scale + bias
        return scaled


def unmask_scaled(model: nn.Module, scores: Mapping[str, str]) -> Any:
    """Unmask a model as ``unmask_model``, and keep the rows' factors in its weights."""
    scales = {name: model.get_submodule(name.rpartition(".")[0]).get_parameter(SCALES).detach() for name in scores}
    keeps = unmask(model, scores)
    for name, scale in scales.items():
        model.get_parameter(name).data.mul_(scale[:, None])
    return keeps


class VariantTrainer(trainer.Trainer):
    """A trainer that tunes rows' factors too, or moves scores by momentum."""

    def __init__(self, classifier: Any, tuned: Any, *arguments: Any, **more: Any) -> None:
        scales = [name for name, _ in classifier.model.named_parameters() if name.endswith(SCALES)]
        groups = {**more.pop("groups", {}), **dict.fromkeys(scales, ParamGroup(Variant.value))}
        super().__init__(classifier, [*tuned, *scales], *arguments, groups=groups, **more)
        if Variant.name == "momentum":
            named = zip(self._updated.names, self._tuned, strict=True)
            scored = [each for name, each in named if name.endswith(".scores")]
            self._adam, self._momentum = self._optimizer.step, Momentum(scored)
            self._optimizer.step = self._both  # type: ignore[method-assign, assignment]

    def _both(self) -> None:
        rates = {id(each): group["lr"] for group in self._optimizer.param_groups for each in group["params"]}
        self._momentum.step(rates)
        self._adam()


class Momentum:
    """Adam with one second moment a tensor."""

    def __init__(self, tensors: list[nn.Parameter]) -> None:
        self._tensors, self._steps = tensors, 0
        self._first = [torch.zeros_like(each) for each in tensors]
        self._second = [torch.zeros(()) for _ in tensors]

    @torch.no_grad()
    def step(self, rates: Mapping[int, float]) -> None:
        """Update the tensors, and leave no gradient to any other optimiser."""
        self._steps += 1
        for tensor, first, second in zip(self._tensors, self._first, self._second, strict=True):
            assert tensor.grad is not None
            first.lerp_(tensor.grad, 0.1)
            second.lerp_(tensor.grad.square().mean(), 0.001)
            size = (second / (1 - 0.999**self._steps)).sqrt().clamp_min(1e-30)
            tensor.sub_(first / (1 - 0.9**self._steps) / size, alpha=rates[id(tensor)] * Variant.value)
            tensor.grad = None


if __name__ == "__main__":
    Variant.name, _, given = sys.argv.pop(1).partition("=")
    if Variant.name not in NAMES:
        sys.exit(f"{Variant.name} is none of {', '.join(NAMES)}")
    Variant.value = float(given)
    convert.MaskedLinear = Variant  # type: ignore[attr-defined]
    trainer.Trainer = VariantTrainer  # type: ignore[misc]
    if Variant.name == "row-scale":
        unmask, convert.unmask_model = convert.unmask_model, unmask_scaled
    sys.argv[0:1] = ["berttools", "mask-tune"]
    main()
