"""Find tied weights: output tensors that are copies of a model's input embeddings.

Frameworks tie a language model's output matrix to its input embeddings. Some files hold both, some one: the copy
would count twice in a sum, and look lost where the other file lacks it.
"""

from __future__ import annotations

import re

import numpy as np

from _toolio.errors import InputError
from berttools.checkpoints.files import Checkpoint

_OUTPUT = re.compile(
    r"(?:^|\.)(?:lm_head(?:\.decoder)?|embed_out|generator_lm_head|vocab_projector|(?:cls\.)?predictions\.decoder|decoder)"
    r"\.(?:weight|bias)$"
)
_INPUT = re.compile(
    r"(?:^|\.)(?:(?:word_embeddings|wte|embed_tokens|tok_embeddings|embed_in|shared)\.weight"
    r"|(?:lm_head|(?:cls\.)?predictions)\.bias)$"
)
_CHUNK = 1 << 18


def tied_tensors(model: Checkpoint) -> dict[str, str]:
    """Map the output tensors that have the values of an input tensor, by name, to that one's name."""
    sources = [name for name in model.tensors if _INPUT.search(name)]
    found = {}
    for name, stored in model.tensors.items():
        if not _OUTPUT.search(name):
            continue
        for source in sources:
            if source != name and model.tensors[source].shape == stored.shape and _are_equal(model, name, source):
                found[name] = source
                break
    return found


def _are_equal(model: Checkpoint, name: str, other: str) -> bool:
    try:
        pieces = zip(model.chunks(name, _CHUNK), model.chunks(other, _CHUNK), strict=True)
        return all(np.array_equal(a, b) for a, b in pieces)
    except InputError:  # it is reported where the tensor is compared
        return False
