"""Tensors with a row for each token, by their names: input embeddings, output matrices of language models, biases."""

from __future__ import annotations

import re
from typing import NamedTuple

from berttools.checkpoints.names.wrappers import unwrapped

Shape = tuple[int, ...]

_EMBEDDINGS = re.compile(
    r"(?:^|\.)(?:word_embeddings?|wte|embed_tokens|tok(?:en)?_embeddings?|embed_in|shared)\.weight$"
)
_INPUT_BIAS = re.compile(r"(?:^|\.)(?:lm_head|(?:cls\.)?predictions)\.bias$")
_OUTPUT = re.compile(
    r"(?:(?:^|\.)(?:lm_head(?:\.decoder)?|embed_out|generator_lm_head|vocab_projector|(?:cls\.)?predictions\.decoder"
    r"|decoder|lm_loss)|^(?:proj_out|output))\.(?:weight|bias)$|(?:^|\.)final_logits_bias$"
)
# Encoder and decoder have `shared` as embeddings, under names of their own in some files.
_COPY_OF_SHARED = re.compile(r"(?:^|\.)(?:encoder|decoder)\.embed_tokens\.weight$")
_SHARED = re.compile(r"(?:^|\.)shared\.weight$")


class Rows(NamedTuple):
    """How many rows two tensors have in common, and how many more the first and the second have."""

    common: int
    first: int
    second: int


def is_embedding(name: str) -> bool:
    """Test whether a name is that of a matrix of input embeddings of tokens."""
    return bool(_EMBEDDINGS.search(unwrapped(name)))


def is_output(name: str) -> bool:
    """Test whether a name may be that of a language model's output matrix or its bias."""
    return bool(_OUTPUT.search(unwrapped(name)))


def is_shared(name: str) -> bool:
    """Test whether a name is that of the embeddings that an encoder and its decoder share."""
    return bool(_SHARED.search(unwrapped(name)))


def is_tied(name: str) -> bool:
    """Test whether a tensor may, by its name, be tied to another of the same model: that one's values again."""
    return is_output(name) or bool(_COPY_OF_SHARED.search(unwrapped(name)))


def is_tied_to(name: str) -> bool:
    """Test whether others may, by its name, be tied to a tensor."""
    return is_embedding(name) or bool(_INPUT_BIAS.search(unwrapped(name)))


def may_be_copy(name: str, source: str) -> bool:
    """Test whether a tensor for which `is_tied` holds may be tied to one for which `is_tied_to` does."""
    if _COPY_OF_SHARED.search(unwrapped(name)):
        return is_shared(source)
    return name != source


def common_rows(name: str, one: Shape, other: Shape) -> Rows | None:
    """Return how many rows two tensors of different vocabularies have in common; None where they are none of these.

    Parameters
    ----------
    name
        Of both.
    one, other
        Their shapes. Tokens that were added follow those that were there.
    """
    if not (is_tied(name) or is_tied_to(name)) or len(one) != len(other) or not one:
        return None
    axis = 1 if len(one) == 2 and one[0] == other[0] == 1 else 0  # BART's bias is a row
    common = min(one[axis], other[axis])
    if one[:axis] + one[axis + 1 :] != other[:axis] + other[axis + 1 :] or not common:
        return None
    return Rows(common, one[axis] - common, other[axis] - common)
