"""Linear layers with learned masks: a real score for each weight of a frozen matrix.

A masked layer computes ``x (W * m)^T + b``. ``W`` and ``b`` stay as they are; ``m`` in {0, 1} follows from the scores
``s`` by a method, whose gradient is that of the straight-through estimator:

========= ======================================= =================== ==================================================
method    m, in training                          dL/ds               source
========= ======================================= =================== ==================================================
bernoulli 1 with probability sigmoid(s)           dL/dm * sigmoid'(s) Radiya-Dixit and Wang 2020, arXiv 2004.14129
threshold 1 where s > 0                           dL/dm               Zhao et al. 2020, arXiv 2004.12406 (s is theirs
                                                                      less their threshold)
topk      1 for the k largest of a matrix         dL/dm               Ramanujan et al. 2020, arXiv 1911.13299
========= ======================================= =================== ==================================================

with dL/dm = W * (dL/dy^T x). The mask that is stored is s > 0, or the k largest, or one draw.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from berttools.kernels.available import kernels_for, triton_kernels
from berttools.mask_tuning.draws import BLOCK, LEVELS, Draws, draw
from berttools.mask_tuning.kept import largest, two_of_four
from berttools.mask_tuning.recipe import Distance, Method, Pattern, Recipe

_WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a value


class _Product(torch.autograd.Function):
    """The masked product. It saves a byte a weight for the backward pass, not the product of weights and mask."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scores: Tensor, bias: Tensor | None, layer: MaskedLinear, keep: Tensor) -> Tensor:
        ctx.save_for_backward(x, scores, keep)
        ctx.layer = layer
        return F.linear(x, layer.masked(keep), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, scores, keep = ctx.saved_tensors
        layer: MaskedLinear = ctx.layer
        to_x = gradient @ layer.masked(keep).to(gradient.dtype) if ctx.needs_input_grad[0] else None
        flat, inputs = gradient.flatten(0, -2), x.flatten(0, -2).to(gradient.dtype)
        to_mask = (flat.T @ inputs).float()
        to_bias = gradient.flatten(0, -2).float().sum(0) if ctx.needs_input_grad[2] else None
        return None if to_x is None else to_x.to(x.dtype), layer.to_scores(to_mask, scores), to_bias, None, None


class MaskedLinear(nn.Module):
    """A linear layer whose weights are frozen, with a score for each of them, or for each group of them.

    In eval mode the mask is the one that is stored; in training it is that of ``draws.step``.

    Parameters
    ----------
    layer
        The layer to mask; its weight [outputs, inputs] is used, not copied.
    recipe
        How scores make a mask.
    draws
        The source of randomness.
    index
        The layer's index among the masked ones.
    heads
        Rows (+) or columns (-) of the matrix that are one head; 1 for single rows.
    transposed
        Whether the model stores the matrix as [inputs, outputs]; it is [outputs, inputs] here in any case.
    """

    def __init__(
        self,
        layer: nn.Linear,
        recipe: Recipe,
        draws: Draws,
        index: int,
        heads: int = 1,
        *,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.transposed = transposed
        self.weight, self.bias = layer.weight, layer.bias
        self.recipe, self._draws, self._index, self._heads = recipe, draws, index, heads
        self.scores = nn.Parameter(self._first_scores())

    def extra_repr(self) -> str:
        """Return what ``print(model)`` shows of the layer."""
        return f"{tuple(self.weight.shape)}, {self.recipe.method}, {self.recipe.pattern}"

    # --- groups of weights -------------------------------------------------------------------------------------------

    def _gather(self, values: Tensor) -> Tensor:
        """Sum values of weights over each group."""
        if self.recipe.pattern in (Pattern.free, Pattern.two_of_four):
            return values
        if self._heads < 0:
            return values.sum(0).reshape(1, -1, -self._heads).sum(2)
        return values.sum(1).reshape(-1, self._heads).sum(1, keepdim=True)

    def _spread(self, keep: Tensor) -> Tensor:
        """Expand the mask of groups to that of weights."""
        if self.recipe.pattern in (Pattern.free, Pattern.two_of_four):
            return keep
        each = keep.repeat_interleave(abs(self._heads), 1 if self._heads < 0 else 0)
        return each.expand_as(self.weight).contiguous()

    def _first_scores(self) -> Tensor:
        sizes = self._gather(self.weight.detach().abs().float())
        if self.recipe.pattern is Pattern.two_of_four:
            keep = two_of_four(sizes)
        else:
            keep = largest(sizes, self.recipe.initial_sparsity)
        scores = torch.where(keep, self.recipe.initial_score, -self.recipe.initial_score)
        if self.recipe.distance is Distance.magnitude:
            # Adam moves all scores alike: small weights, whose masks change the product least, cross zero first.
            scores *= sizes / sizes.mean().clamp_min(1e-30)
        elif self.recipe.method is Method.topk:  # break ties by magnitude
            scores += (sizes / sizes.max().clamp_min(1e-30)) * min(1.0, self.recipe.initial_score)
        return scores

    # --- masks -------------------------------------------------------------------------------------------------------

    def keep(self) -> Tensor:
        """Return the mask, bool [outputs, inputs]; true for weights that stay."""
        step = self._draws.step if self.training else self._draws.stored
        return self._spread(self._deterministic() if step is None else self._drawn(step))

    def _deterministic(self) -> Tensor:
        scores = self.scores.detach()
        if self.recipe.pattern is Pattern.two_of_four:
            return two_of_four(scores)
        if self.recipe.method is Method.topk:
            return largest(scores, self.recipe.sparsity_at(self._draws.progress))
        return scores > 0

    def _drawn(self, step: int) -> Tensor:
        scores = self.scores.detach()
        if self.recipe.method is not Method.bernoulli:
            return self._deterministic()
        if self._fused and self._redraws:
            return cast(Tensor, triton_kernels().unpack_bits(self._packed(step), scores.shape))
        which = (step, self._index, scores.numel(), scores.device)
        if self.recipe.pattern is Pattern.two_of_four:
            # Score plus logistic noise is above zero with probability sigmoid(score): rank by it.
            chance = (self._draws.bits(*which).float().add_(LEVELS / 2 + 0.5) / LEVELS).view_as(scores)
            return two_of_four(scores + torch.logit(chance))
        keep = torch.empty(scores.numel(), dtype=torch.bool, device=scores.device)
        draw(scores.flatten(), self._draws.blocks(*which), keep)
        return keep.view_as(scores)

    @property
    def _fused(self) -> bool:
        """Whether a kernel multiplies with the packed mask."""
        return self.recipe.pattern in (Pattern.free, Pattern.two_of_four) and kernels_for(self.weight) is not None

    @property
    def _redraws(self) -> bool:
        """Whether bits follow from scores and a counter one by one, so that the backward pass draws them again."""
        return self.recipe.method is Method.bernoulli and self.recipe.pattern is Pattern.free

    def _packed(self, step: int) -> Tensor:
        """Return a step's mask as packed bits."""
        if self._redraws:
            return cast(Tensor, triton_kernels().draw_bits(self.scores.detach(), self._draws.key(step, self._index)))
        return cast(Tensor, triton_kernels().pack_bits(self._drawn(step)))

    # --- products ----------------------------------------------------------------------------------------------------

    def masked(self, keep: Tensor) -> Tensor:
        """Return the weights that stay, bit for bit, and +0.0 for others, [outputs, inputs]."""
        weight = self.weight.detach()
        found = torch.empty_like(weight)
        # As integers: 0 times an infinite weight is 0 too, and it is quicker.
        words = _WORDS[weight.element_size()]
        source, target = weight.view(words), found.view(words)
        if weight.device.type != "cpu":
            torch.mul(source, keep, out=target)
            return found
        rows = max(1, BLOCK // weight.shape[1])
        for start in range(0, len(weight), rows):  # whole matrices would leave the cache between one step and the next
            part = slice(start, start + rows)
            torch.mul(source[part], keep[part], out=target[part])
        return found

    def product(self, x: Tensor, keep: Tensor) -> Tensor:
        """Multiply with the weights that stay, [..., inputs] to [..., outputs]."""
        return F.linear(x, self.masked(keep), self.bias)

    def to_scores(self, to_mask: Tensor, scores: Tensor) -> Tensor:
        """Return the scores' gradient, given dL/dy^T x, which is overwritten."""
        weight = self.weight.detach()
        smooth = self.recipe.method is Method.bernoulli
        if self.recipe.pattern in (Pattern.row, Pattern.head):
            found = self._gather(to_mask.mul_(weight))
            return found * _slope(scores) if smooth else found
        flat, weights, values = to_mask.view(-1), weight.reshape(-1), scores.detach().view(-1)
        for start in range(0, len(flat), BLOCK):
            part = slice(start, start + BLOCK)
            flat[part] *= weights[part]
            if smooth:
                flat[part] *= _slope(values[part])
        return to_mask

    def forward(self, x: Tensor) -> Tensor:
        """Multiply, [..., inputs] to [..., outputs]."""
        if torch.is_grad_enabled() and self.training and self._fused:
            smooth, draw = self.recipe.method is Method.bernoulli, partial(self._packed, self._draws.step)
            product = triton_kernels().MaskedProduct.apply(
                x, self.scores, self.weight, self.bias, draw, smooth, self._redraws
            )
            return cast(Tensor, product)
        keep = self.keep()
        if not torch.is_grad_enabled():
            return self.product(x, keep)
        return cast(Tensor, _Product.apply(x, self.scores, self.bias, self, keep))


def _slope(scores: Tensor) -> Tensor:
    """Return the derivative of the sigmoid."""
    chance = torch.sigmoid(scores)
    return chance.mul_(1 - chance)
