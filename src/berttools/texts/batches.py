"""Tokenisation and length-bucketed batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError, in_one_line
from _toolio.foreign_code import panics_raised
from berttools.texts.examples import Example

if TYPE_CHECKING:
    import torch

_AT_ONCE = 1000
# Steps whose examples are sorted by length together: enough for little padding, few enough for mixed steps.
_STEPS_SORTED = 50


@dataclass(frozen=True, slots=True)
class Encoded:
    """The tokens of a text or of a pair.

    Attributes
    ----------
    ids
        int32 [length].
    types
        Which of a pair a token belongs to (segment ids), int8 [length]; None if the model takes none.
    cut
        Tokens that were truncated.
    """

    ids: npt.NDArray[np.int32]
    types: npt.NDArray[np.int8] | None
    cut: int

    def __len__(self) -> int:
        return len(self.ids)


def encode(tokenizer: Any, examples: Sequence[Example], *, most: int) -> list[Encoded]:
    """Tokenise texts or pairs of texts.

    Parameters
    ----------
    tokenizer
        A tokenizer of transformers.
    examples
        Texts and pairs, in any mixture.
    most
        Tokens an example, special ones included; longer ones are truncated at their end, of a pair the longer text
        first.

    Returns
    -------
    list of Encoded
        In the order of ``examples``.

    Raises
    ------
    ToolError
        Kind ``"bad-tokenizer"``: the tokenizer fails on a text.
    """
    found: dict[int, Encoded] = {}
    for paired in (False, True):
        places = [place for place, example in enumerate(examples) if (example.second is not None) == paired]
        for start in range(0, len(places), _AT_ONCE):
            some = places[start : start + _AT_ONCE]
            encoded = _encode_alike(tokenizer, [examples[place] for place in some], most, paired=paired)
            found.update(zip(some, encoded, strict=True))
    return [found[place] for place in range(len(examples))]


def _encode_alike(tokenizer: Any, examples: Sequence[Example], most: int, *, paired: bool) -> Iterator[Encoded]:
    seconds = [example.second for example in examples] if paired else None
    whole = _tokenized(tokenizer, examples, [example.text for example in examples], seconds)
    for number, ids in enumerate(whole["input_ids"]):
        one: Mapping[str, Any] = {key: values[number] for key, values in whole.items()}
        # A text that is too long is rare, and only the tokenizer knows how to cut a pair.
        if len(ids) > most:
            example = examples[number]
            one = _tokenized(tokenizer, [example], example.text, example.second, truncation=True, max_length=most)
        types = one.get("token_type_ids")
        yield Encoded(
            np.asarray(one["input_ids"], np.int32),
            None if types is None else np.asarray(types, np.int8),
            len(ids) - len(one["input_ids"]),
        )


def _tokenized(
    tokenizer: Any, examples: Sequence[Example], texts: Any, seconds: Any, **how: Any
) -> Mapping[str, Sequence[Any]]:
    """Call a tokenizer on the texts of examples; ToolError if it fails, as a damaged one does."""
    try:
        with panics_raised():
            tokens: Mapping[str, Sequence[Any]] = tokenizer(texts, seconds, verbose=False, **how)
    except MemoryError:
        raise
    except Exception as error:  # whatever a wrong field of its files leads to
        if len(examples) > 1:  # which of them it is
            for number, example in enumerate(examples):
                _tokenized(tokenizer, [example], texts[number : number + 1], seconds and seconds[number : number + 1])
        raise ToolError(
            f"{examples[0].where}: the tokenizer of {tokenizer.name_or_path} fails on this: {in_one_line(error)}",
            kind="bad-tokenizer",
        ) from error
    return tokens


def collate(
    texts: Sequence[Encoded], pad: int, device: torch.device, *, length: int | None = None, left: bool = False
) -> dict[str, torch.Tensor]:
    """Stack texts into a model's inputs, int64 [texts, length].

    Parameters
    ----------
    texts
        The tokens of each.
    pad
        The padding token.
    device
        Where the tensors go.
    length
        Tokens to pad to; None for those of the longest text.
    left
        Pad on the left, for a model that reads the last place; else on the right.

    Returns
    -------
    dict
        ``input_ids``, ``attention_mask``, and ``token_type_ids`` if the model takes them.
    """
    import torch

    shape = (len(texts), length or max(map(len, texts)))
    ids, mask = np.full(shape, pad, np.int64), np.zeros(shape, np.int64)
    types = np.zeros(shape, np.int64)
    for row, text in enumerate(texts):
        place = slice(shape[1] - len(text), None) if left else slice(len(text))
        ids[row, place], mask[row, place] = text.ids, 1
        if text.types is not None:
            types[row, place] = text.types
    inputs = {"input_ids": ids, "attention_mask": mask}
    if texts[0].types is not None:
        inputs["token_type_ids"] = types
    return {name: torch.from_numpy(array).to(device) for name, array in inputs.items()}


def draw_steps(lengths: npt.NDArray[np.int64], batch: int, *, seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    """Batch an epoch's examples at random, examples of similar length together (length bucketing).

    Parameters
    ----------
    lengths
        Tokens of each example, int64 [n].
    batch
        Examples a step; one step has the remainder.
    seed, epoch
        Seed of the order.

    Returns
    -------
    list of int64 arrays
        Indices of examples, each step's longest first. Every example is in exactly one step.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    full, steps = len(order) // batch * batch, []
    # The step that is not full is cut off first: it would else be the one with the longest or the shortest texts.
    for part in np.split(order[:full], range(_STEPS_SORTED * batch, full, _STEPS_SORTED * batch)):
        steps += list(part[np.argsort(-lengths[part], kind="stable")].reshape(-1, batch))
    if full < len(order):
        left = order[full:]
        steps.append(left[np.argsort(-lengths[left], kind="stable")])
    return [steps[number] for number in rng.permutation(len(steps))]


def in_parts(items: npt.NDArray[np.int64], parts: int) -> Iterator[npt.NDArray[np.int64]]:
    """Split into at most ``parts`` micro-batches of nearly equal size, in order, none empty."""
    parts = min(parts, len(items))
    for part in range(parts):
        yield items[part * len(items) // parts : (part + 1) * len(items) // parts]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Tokenised texts and their targets.

    Attributes
    ----------
    texts
        The tokens of each.
    targets
        Class indices, or values of a regression; float64 [n]. Of multi-label data 0 or 1, [n, classes].
    teacher_logits
        A teacher's logits, float32 [n, outputs]; None without a teacher.
    places
        File and line of each text, for messages; empty where they have none.
    """

    texts: Sequence[Encoded]
    targets: npt.NDArray[np.float64]
    teacher_logits: npt.NDArray[np.float32] | None = None
    places: Sequence[str] = ()

    @property
    def cut(self) -> int:
        """How many texts were truncated."""
        return sum(text.cut > 0 for text in self.texts)

    @property
    def sha256(self) -> str:
        """Digest of tokens and targets; a teacher's logits follow from the teacher, which has a digest of its own."""
        digest = hashlib.sha256(self.targets.tobytes())
        for text in self.texts:
            digest.update(len(text).to_bytes(4, "little") + text.ids.tobytes())
            digest.update(b"" if text.types is None else text.types.tobytes())
        return digest.hexdigest()
