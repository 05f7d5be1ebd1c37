"""Masks that are learned: a real score for each weight of a frozen matrix, and which weights it keeps in a step.

A masked layer gives ``x (W * m)^T + b``. ``W`` and ``b`` stay as they are; ``m`` in {0, 1} follows from the scores
``s`` by a method, and the gradient goes straight through what has none:

========= ======================================= =================== ==================================================
method    m, in training                          dL/ds               source
========= ======================================= =================== ==================================================
bernoulli 1 with probability sigmoid(s)           dL/dm * sigmoid'(s) Radiya-Dixit and Wang 2020, arXiv 2004.14129
threshold 1 where s > 0                           dL/dm               Zhao et al. 2020, arXiv 2004.12406 (s is theirs
                                                                      less their threshold)
topk      1 for the k largest of a matrix         dL/dm               Ramanujan et al. 2020, arXiv 1911.13299
========= ======================================= =================== ==================================================

with dL/dm = W * (dL/dy^T x). What is kept for good is s > 0, or the k largest, or one stored draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from _toolio.errors import ToolError
from berttools.kernels.available import is_fused, kernels_for, triton_kernels
from berttools.mask_tuning.recipe import Method, Pattern, Recipe

_BLOCK = 1 << 17  # weights whose scores, bits and products fit a core's cache together
_STEPS = 65536  # of a probability: a draw takes 16 random bits
_WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a value


@dataclass(slots=True)
class Draws:
    """What all masks of a model depend on besides their scores.

    Attributes
    ----------
    seed
        Decides the draws.
    steps
        Steps in all, of which topk's sparsity depends.
    step
        The step that is being made; the draws of training are its own.
    stored
        The step whose draws are kept for good; None for scores above zero.
    """

    seed: int
    steps: int
    step: int = 0
    stored: int | None = None

    @property
    def progress(self) -> float:
        """Share of the steps that are made."""
        return self.step / self.steps

    def key(self, step: int, index: int) -> int:
        """Give what the draws of a step and a matrix begin from; 63 bits."""
        return int(np.random.SeedSequence([self.seed, step, index]).generate_state(1, np.uint64)[0]) >> 1

    def bits(self, step: int, index: int, count: int, device: torch.device) -> Tensor:
        """Give random integers, the same whenever they are asked for: by seed, step and matrix; int16 [count]."""
        if device.type == "cpu":
            key = np.random.SeedSequence([self.seed, step, index]).generate_state(2, np.uint64)
            raw = np.random.Philox(key=key).random_raw(-(-count // 4))
            return torch.from_numpy(raw.view(np.int16)[:count])
        generator = torch.Generator(device).manual_seed(self.key(step, index))
        return torch.randint(-_STEPS // 2, _STEPS // 2, (count,), dtype=torch.int16, generator=generator, device=device)


def draw(scores: Tensor, bits: Tensor, keep: Tensor) -> None:
    """Fill ``keep`` (bool) with draws of probability sigmoid(scores), to 1/65536; all flat, of one length."""
    for start in range(0, len(scores), _BLOCK):
        part = slice(start, start + _BLOCK)
        torch.lt(bits[part], torch.sigmoid(scores[part]).mul_(_STEPS).sub_(_STEPS // 2), out=keep[part])


def largest(scores: Tensor, sparsity: float) -> Tensor:
    """Tell the largest scores, all but a share of them; of equals the first go first."""
    dropped = round(sparsity * scores.numel())
    keep = torch.ones(scores.numel(), dtype=torch.bool, device=scores.device)
    if dropped:
        flat = scores.flatten()
        limit = _smallest(flat, dropped)
        keep = flat > limit
        # Of those on the limit as many stay as there is room for.
        spare = scores.numel() - dropped - int(keep.sum())
        if spare:
            keep[(flat == limit).nonzero()[-spare:, 0]] = True
    return keep.view_as(scores)


def _smallest(values: Tensor, k: int) -> float:
    """Give the k-th smallest, the first being 1."""
    if values.device.type == "cpu":  # numpy's selection is 20 times as fast as torch's there
        return float(np.partition(values.numpy(), k - 1)[k - 1])
    return float(values.sort().values[k - 1])  # kthvalue is one block's work on a GPU


def two_of_four(ranks: Tensor) -> Tensor:
    """Tell the two largest of each four in a row, bool of the same shape [rows, columns]."""
    fours = ranks.reshape(-1, 4)
    order = fours.argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(fours, dtype=torch.bool).scatter_(1, order[:, :2], value=True).view_as(ranks)


class _Product(torch.autograd.Function):
    """The masked product. What is kept for going back is a byte a weight, not the product of weights and mask."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scores: Tensor, layer: MaskedLinear, keep: Tensor) -> Tensor:
        ctx.save_for_backward(x, scores, keep)
        ctx.layer = layer
        return layer.product(x, keep)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, scores, keep = ctx.saved_tensors
        layer: MaskedLinear = ctx.layer
        to_x = gradient @ layer.masked(keep).to(gradient.dtype) if ctx.needs_input_grad[0] else None
        flat, inputs = gradient.flatten(0, -2), x.flatten(0, -2).to(gradient.dtype)
        to_mask = (flat.T @ inputs).float()
        return None if to_x is None else to_x.to(x.dtype), layer.to_scores(to_mask, scores), None, None


class MaskedLinear(nn.Module):
    """A linear layer whose weights are frozen, with a score for each of them, or for each group of them.

    In eval mode the mask is that which is kept for good; in training it is that of ``draws.step``.

    Parameters
    ----------
    layer
        The layer to mask; its weight [outputs, inputs] is used, not copied.
    recipe
        How.
    draws
        Where randomness comes from.
    index
        The layer's number among the masked ones.
    heads
        What is one head: so many rows (+) or columns (-) of the matrix together; 1 for single rows.
    """

    def __init__(self, layer: nn.Linear, recipe: Recipe, draws: Draws, index: int, heads: int = 1) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.recipe, self._draws, self._index, self._heads = recipe, draws, index, heads
        self.scores = nn.Parameter(self._first_scores())

    def extra_repr(self) -> str:
        """Say what it is."""
        return f"{tuple(self.weight.shape)}, {self.recipe.method}, {self.recipe.pattern}"

    # --- groups of weights -------------------------------------------------------------------------------------------

    def _gather(self, values: Tensor) -> Tensor:
        """Sum values of weights over what is kept together."""
        if self.recipe.pattern in (Pattern.free, Pattern.two_of_four):
            return values
        if self._heads < 0:
            return values.sum(0).reshape(1, -1, -self._heads).sum(2)
        return values.sum(1).reshape(-1, self._heads).sum(1, keepdim=True)

    def _spread(self, keep: Tensor) -> Tensor:
        """Say of each weight what was said of what it is kept together with."""
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
        if self.recipe.method is Method.topk:  # an order among equals to begin with: that of their sizes
            scores += (sizes / sizes.max().clamp_min(1e-30)) * min(1.0, self.recipe.initial_score)
        return scores

    # --- masks -------------------------------------------------------------------------------------------------------

    def keep(self) -> Tensor:
        """Tell which weights stay, bool [outputs, inputs]."""
        step = self._draws.step if self.training else self._draws.stored
        return self._spread(self._for_good() if step is None else self._drawn(step))

    def _for_good(self) -> Tensor:
        scores = self.scores.detach()
        if self.recipe.pattern is Pattern.two_of_four:
            return two_of_four(scores)
        if self.recipe.method is Method.topk:
            return largest(scores, self.recipe.sparsity_at(self._draws.progress))
        return scores > 0

    def _drawn(self, step: int) -> Tensor:
        scores = self.scores.detach()
        if self.recipe.method is not Method.bernoulli:
            return self._for_good()
        if self._fused and self._redraws:
            return cast(Tensor, triton_kernels().unpack_bits(self._packed(step), scores.shape))
        bits = self._draws.bits(step, self._index, scores.numel(), scores.device)
        if self.recipe.pattern is Pattern.two_of_four:
            # Score and logistic noise rank as the logarithm of odds does that a coin is heads.
            chance = (bits.float().add_(_STEPS / 2 + 0.5) / _STEPS).view_as(scores)
            return two_of_four(scores + torch.logit(chance))
        keep = torch.empty(scores.numel(), dtype=torch.bool, device=scores.device)
        draw(scores.flatten(), bits, keep)
        return keep.view_as(scores)

    @property
    def _fused(self) -> bool:
        """Whether products unpack the mask by themselves."""
        return self.recipe.pattern in (Pattern.free, Pattern.two_of_four) and kernels_for(self.weight) is not None

    @property
    def _redraws(self) -> bool:
        """Whether bits follow from scores and a counter one by one, so that nobody needs to keep them."""
        return self.recipe.method is Method.bernoulli and self.recipe.pattern is Pattern.free

    def _packed(self, step: int) -> Tensor:
        """Give a step's mask as packed bits."""
        if self._redraws:
            return cast(Tensor, triton_kernels().draw_bits(self.scores.detach(), self._draws.key(step, self._index)))
        return cast(Tensor, triton_kernels().pack_bits(self._drawn(step)))

    # --- products ----------------------------------------------------------------------------------------------------

    def masked(self, keep: Tensor) -> Tensor:
        """Give the weights that stay, bit for bit, and +0.0 for others, [outputs, inputs]."""
        weight = self.weight.detach()
        found = torch.empty_like(weight)
        # As whole numbers: 0 times what is infinite is 0 too, and it is quicker.
        words = _WORDS[weight.element_size()]
        source, target = weight.view(words), found.view(words)
        if weight.device.type != "cpu":
            torch.mul(source, keep, out=target)
            return found
        rows = max(1, _BLOCK // weight.shape[1])
        for start in range(0, len(weight), rows):  # whole matrices would leave the cache between one step and the next
            part = slice(start, start + rows)
            torch.mul(source[part], keep[part], out=target[part])
        return found

    def product(self, x: Tensor, keep: Tensor) -> Tensor:
        """Multiply with the weights that stay."""
        return F.linear(x, self.masked(keep), self.bias)

    def to_scores(self, to_mask: Tensor, scores: Tensor) -> Tensor:
        """Give the scores' gradient of dL/dy^T x, which is overwritten."""
        weight = self.weight.detach()
        smooth = self.recipe.method is Method.bernoulli
        if self.recipe.pattern in (Pattern.row, Pattern.head):
            found = self._gather(to_mask.mul_(weight))
            return found * _slope(scores) if smooth else found
        flat, weights, values = to_mask.view(-1), weight.reshape(-1), scores.detach().view(-1)
        for start in range(0, len(flat), _BLOCK):
            part = slice(start, start + _BLOCK)
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
        return cast(Tensor, _Product.apply(x, self.scores, self, keep))


def _slope(scores: Tensor) -> Tensor:
    """Give sigmoid's slope."""
    chance = torch.sigmoid(scores)
    return chance.mul_(1 - chance)


def mask_model(model: nn.Module, names: Iterable[str], recipe: Recipe, draws: Draws) -> dict[str, str]:
    """Put masked layers in the place of linear ones.

    Parameters
    ----------
    model
        A transformers model; changed in place.
    names
        The matrices to mask, such as ``bert.encoder.layer.0.attention.self.query.weight``.
    recipe, draws
        How.

    Returns
    -------
    dict
        Of each matrix's name that of its scores.

    Raises
    ------
    ToolError
        A matrix is of no linear layer, or the pattern does not fit it.
    """
    scores = {}
    config = getattr(model, "config", None)
    for index, name in enumerate(names):
        place = name.rpartition(".")[0]
        if not can_mask(model, name):
            raise ToolError(f"{name}: is not the matrix of a linear layer; leave it out", kind="not-linear")
        layer = cast(nn.Linear, model.get_submodule(place))
        together = _together(name, layer, recipe.pattern, config)
        masked = MaskedLinear(layer, recipe, draws, index, together)
        parent, _, own = place.rpartition(".")
        setattr(model.get_submodule(parent), own, masked)
        scores[name] = f"{place}.scores"
    return scores


def _together(name: str, layer: nn.Linear, pattern: Pattern, config: Any) -> int:
    from berttools.checkpoints.groups import layer_and_group

    rows, columns = (int(side) for side in layer.weight.shape)
    group = layer_and_group(name, (rows, columns)).group
    if pattern is Pattern.two_of_four and columns % 4:
        raise ToolError(f"--pattern 2:4: the rows of {name} are no multiple of 4", kind="bad-pattern")
    if pattern is not Pattern.head:
        return 1
    heads: int | None = getattr(config, "num_attention_heads", None)
    if group in ("K", "V"):  # of which several queries' heads may share one
        heads = getattr(config, "num_key_value_heads", None) or heads
    if group not in ("Q", "K", "V", "AO") or not heads or (columns if group == "AO" else rows) % heads:
        raise ToolError(
            f"--pattern head: {name} does not belong to attention heads; give --group Q,K,V,AO", kind="bad-pattern"
        )
    return -columns // heads if group == "AO" else rows // heads


def draws_of(device: torch.device, pattern: Pattern) -> str:
    """Name what draws come from: with another source, a seed means other masks."""
    if device.type == "cpu":
        return "numpy"
    return "triton" if is_fused(device) and pattern is Pattern.free and triton_kernels() is not None else "torch"


@torch.no_grad()
def unmask_model(model: nn.Module, scores: Mapping[str, str]) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Put plain layers back in the place of masked ones, without the weights that do not stay.

    Parameters
    ----------
    model
        As ``mask_model`` has left it, in eval mode; changed in place.
    scores
        As ``mask_model`` has given it.

    Returns
    -------
    dict
        Of each matrix which weights stay, bool [outputs, inputs].
    """
    keeps = {}
    for name in scores:
        place = name.rpartition(".")[0]
        masked = model.get_submodule(place)
        assert isinstance(masked, MaskedLinear)
        keep = masked.keep()
        outputs, inputs = masked.weight.shape
        layer = nn.Linear(inputs, outputs, bias=masked.bias is not None, device="meta")
        layer.weight = nn.Parameter(masked.masked(keep), requires_grad=False)
        layer.bias = masked.bias
        parent, _, own = place.rpartition(".")
        setattr(model.get_submodule(parent), own, layer)
        keeps[name] = keep.cpu().numpy()
    return keeps


def can_mask(model: nn.Module, name: str) -> bool:
    """Tell whether a parameter is the matrix of a linear layer."""
    place, _, leaf = name.rpartition(".")
    return leaf == "weight" and isinstance(model.get_submodule(place), nn.Linear)


def reaches_zero(recipe: Recipe, slopes: Iterable[float], rate: float) -> bool:
    """Tell whether Adam's steps, each about as long as its rate, can take a score across zero."""
    if recipe.method is Method.topk or recipe.pattern is Pattern.two_of_four:
        return True  # scores only have to change places
    return math.fsum(slopes) * rate > recipe.initial_score
