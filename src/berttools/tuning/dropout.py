"""Dropout that follows the example: what is dropped does not depend on which examples are computed together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["ExampleDropout"]

_LEVELS = 65536  # of a probability: a draw takes 16 random bits
_NUMPY = {"cpu"}  # devices whose bits numpy draws: several times as fast there as torch
_EXAMPLE, _STEP, _TOGETHER = range(3)  # kinds of draws, each with seeds of its own


class ExampleDropout(TorchFunctionMode):
    """Draw the dropout of one forward pass by example.

    Inside the block ``torch.nn.functional.dropout`` and ``scaled_dot_product_attention`` draw what they drop from
    the seed, the step, the example's number and the order of the calls. The same example is dropped alike whichever
    examples are beside it, in whatever order, in whichever process, if all passes of a step are padded to the same
    length. A value is dropped with probability p, rounded to 1/65536, and what is kept is multiplied by the inverse of
    the probability with which it is.

    Which values belong to an example follows from the shape of what is dropped:

    1. Its first dimension is as long as there are examples: each row is of one example, and has draws of its own
       (hidden states, attention weights, poolers).
    2. No dimension is: the values belong to no example (DeBERTa's relative positions), or are a flat list of tokens
       (ModernBERT without padding). One draw a step, by position, is shared by all passes of that shape.
    3. Another dimension is: time comes first (XLNet), or a length is so by chance. One draw for the pass follows from
       its examples together, in any order.

    So the gradients of several passes add up to those of one pass over all examples in case 1, and in case 2 for values
    that belong to no example. They do not for flat lists of tokens, in case 3, where values that all examples share
    have a first dimension as long as there are examples, and for randomness of another origin (``torch.bernoulli``,
    ``alpha_dropout``, ``nn.MultiheadAttention``), which is left to torch's generators.

    On a CPU the bits are those of numpy's Philox, a stream an example. Elsewhere they are of a generator of the device,
    which at each call draws for all examples of the step, two bytes a value, and lets go of those of other passes. The
    two kinds of devices draw differently.

    Attention is computed as dropout(softmax(Q K^T scale + mask)) V, its softmax in float32: no fused kernel takes a
    mask that is drawn by others.

    Parameters
    ----------
    seed
        Decides the draws.
    step
        The training step.
    examples
        Numbers of the pass's examples, in the order of the rows; int64 [rows].
    together
        Numbers of all examples of the step, in any order, none twice; int64 [n].
    device
        Where the pass is computed.
    """

    def __init__(
        self,
        seed: int,
        step: int,
        examples: npt.NDArray[np.int64],
        together: npt.NDArray[np.int64],
        device: torch.device,
    ) -> None:
        super().__init__()
        self._seed, self._step, self._examples, self._device, self._calls = seed, step, examples, device, 0
        if device.type in _NUMPY:
            self._streams = [_philox(self._key(_EXAMPLE, int(number))) for number in examples]
        else:
            self._generator, self._together = _generator(self._key(_EXAMPLE), device), len(together)
            self._rows = torch.from_numpy(np.searchsorted(np.sort(together), examples)).to(device)

    def _key(self, *numbers: int) -> np.random.SeedSequence:
        """Return a seed that no mask's draws have: theirs have no spawn key."""
        return np.random.SeedSequence([self._seed, self._step], spawn_key=numbers)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = MappingProxyType({}),
    ) -> Any:
        """Call a function of torch, or what stands in for it here."""
        del types
        if func is F.dropout:
            return self._dropout(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _dropout(self, values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or not p or not values.numel() or not 0 <= p <= 1:
            return F.dropout(values, p, training, inplace)  # which raises where p is no probability
        limit = round(p * _LEVELS)
        if limit == _LEVELS:
            return values.mul_(0.0) if inplace else values * 0.0
        kept = (self._bits(values.shape) >= limit - _LEVELS // 2).to(values.dtype)
        # Faster than to fill with zeros what is dropped, on the way there and on the way back.
        kept.mul_(_LEVELS / (_LEVELS - limit))
        return values.mul_(kept) if inplace else values * kept

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if not dropout_p or (is_causal and attn_mask is not None):  # both are refused by torch
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        if enable_gqa:
            key, value = (each.repeat_interleave(query.shape[-3] // each.shape[-3], -3) for each in (key, value))
        scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if attn_mask is None:
            weights = torch.softmax(scores, -1, dtype=torch.float32)
        else:
            added = torch.where(attn_mask, 0.0, -torch.inf) if attn_mask.dtype == torch.bool else attn_mask
            # As torch has it: a row that may look nowhere has weights of 0, and not NaN.
            weights = torch._safe_softmax(scores + added, -1, dtype=torch.float32)
        return self._dropout(weights, dropout_p).to(value.dtype) @ value

    def _bits(self, shape: Sequence[int]) -> Tensor:
        """Return uniform random integers, int16 of a shape."""
        self._calls += 1
        rows, count = len(self._examples), math.prod(shape)
        if tuple(shape[:1]) != (rows,):
            whose = sorted(self._examples.tolist()) if rows in shape else []
            key = self._key(_TOGETHER if whose else _STEP, self._calls, *whose)
            if self._device.type in _NUMPY:
                return _raw([_philox(key)], count).view(*shape)
            return _integers(_generator(key, self._device), 1, count).view(*shape)
        if self._device.type in _NUMPY:
            return _raw(self._streams, count // rows).reshape(*shape)
        drawn = _integers(self._generator, self._together, count // rows)
        return drawn[self._rows].view(*shape)


def _philox(key: np.random.SeedSequence) -> np.random.Philox:
    return np.random.Philox(key=key.generate_state(2, np.uint64))


def _raw(streams: Sequence[np.random.Philox], count: int) -> Tensor:
    """Take integers of several streams, a row each."""
    words = np.empty((len(streams), -(-count // 4)), np.uint64)
    for row, stream in zip(words, streams, strict=True):
        row[:] = stream.random_raw(len(row))
    return torch.from_numpy(words.view(np.int16)[:, :count])


def _generator(key: np.random.SeedSequence, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(int(key.generate_state(1, np.uint64)[0]) >> 1)


def _integers(generator: torch.Generator, rows: int, count: int) -> Tensor:
    low, high = -_LEVELS // 2, _LEVELS // 2
    return torch.randint(low, high, (rows, count), dtype=torch.int16, generator=generator, device=generator.device)
