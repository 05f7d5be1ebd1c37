"""Find tied weights: output tensors that are copies of a model's input embeddings.

Frameworks tie a language model's output matrix to its input embeddings. Some files hold both, some one: the copy
would count twice in a sum, and look lost where the other file lacks it. A model that was untied has an output matrix
of its own, which began as the embeddings of its base.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from _toolio.errors import InputError
from berttools.checkpoints.files import Checkpoint
from berttools.checkpoints.names.vocabulary import (
    common_rows,
    is_embedding,
    is_output,
    is_shared,
    is_tied,
    is_tied_to,
    may_be_copy,
)  # fmt: skip

_CHUNK = 1 << 18
# Classes of transformers that predict tokens; only they have an output matrix that could be tied.
_LANGUAGE_MODEL = re.compile(r"LMHead|ForCausalLM|ForMaskedLM|ForConditionalGeneration|ForPreTraining|MTModel")


def tied_tensors(model: Checkpoint) -> dict[str, str]:
    """Map the output tensors that have the values of an input tensor, by name, to that one's name."""
    sources = [name for name in model.tensors if is_tied_to(name)]
    found: dict[str, str] = {}
    for name in filter(is_tied, model.tensors):
        alike = (source for source in sources if model.tensors[source].shape == model.tensors[name].shape)
        for source in alike:
            if source not in found and may_be_copy(name, source) and _are_equal(model, name, source):
                found[name] = source
                break
    return found


def _are_equal(model: Checkpoint, name: str, other: str) -> bool:
    try:
        pieces = zip(model.chunks(name, _CHUNK), model.chunks(other, _CHUNK), strict=True)
        return all(np.array_equal(a, b) for a, b in pieces)
    except InputError:  # it is reported where the tensor is compared
        return False


def untied_matrices(own: Checkpoint, tied: Checkpoint, only_own: list[str], pairs: Mapping[str, str]) -> dict[str, str]:
    """Map matrices of one model that the other has as its embeddings only, because it ties them, to those embeddings.

    Parameters
    ----------
    own, tied
        The models.
    only_own
        Names of `own` that have no counterpart and are no copies.
    pairs
        The names of `own` to those of `tied`.
    """
    found = {}
    for name in filter(is_tied, only_own):
        embedding = _embedding_of(own, name)
        counterpart = embedding and pairs.get(embedding)
        if not counterpart:
            continue
        shape, other = own.tensors[name].shape, tied.tensors[counterpart].shape
        if (shape == other or common_rows(name, shape, other)) and (not is_output(name) or _ties(tied)):
            found[name] = counterpart
    return found


def _embedding_of(model: Checkpoint, name: str) -> str | None:
    """Return the embeddings that a matrix would be tied to: those whose name begins most like its own."""
    shape = model.tensors[name].shape
    nearness = {
        source: (is_shared(source), _common_parts(name, source))
        for source, stored in model.tensors.items()
        if is_embedding(source) and may_be_copy(name, source) and len(shape) == 2 and stored.shape[1:] == shape[1:]
    }
    nearest = [source for source, parts in nearness.items() if parts == max(nearness.values())]
    return nearest[0] if len(nearest) == 1 else None


def _common_parts(name: str, other: str) -> int:
    parts, others = name.split("."), other.split(".")
    return next(
        (at for at, (a, b) in enumerate(zip(parts, others, strict=False)) if a != b), min(map(len, (parts, others)))
    )


def _ties(model: Checkpoint) -> bool:
    """Test whether a model, by its configuration, predicts tokens with its embeddings.

    A class that predicts no tokens has no output matrix to tie; where no class is named, the configuration must say so.
    """
    parts = [model.config, *(part for part in model.config.values() if isinstance(part, dict))]
    stated = [part["tie_word_embeddings"] for part in parts if part.get("tie_word_embeddings") is not None]
    if False in stated:
        return False
    classes = model.config.get("architectures")
    if not isinstance(classes, list) or not classes:
        return True in stated
    return any(_LANGUAGE_MODEL.search(str(name)) for name in classes)
