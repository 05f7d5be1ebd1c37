"""What a model's embeddings have room for: numbers of tokens, token types, and how long a text may be."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _toolio.errors import InputError, ToolError
from berttools.texts.batches import Encoded
from berttools.texts.examples import Example

_UNLIMITED = 1 << 30
_FEWEST = 8  # tokens of a longest text: fewer may hold no more than the special ones


@dataclass(frozen=True, slots=True)
class InputLimits:
    """The largest inputs of a model.

    Attributes
    ----------
    rows
        Rows of its token embedding.
    types
        Rows of its token type embedding; None if it takes token types and looks none up in a table.
    takes_types
        Whether it takes token types at all; if not, those of a tokenizer are left out.
    length
        Largest number of tokens of a text.
    end
        The token whose last place an encoder-decoder such as BART reads, as often in each text of a pass; None if it
        is of no weight.
    left
        Whether texts are padded on the left, as the model reads the last place, whatever is there: XLNet.
    """

    rows: int
    types: int | None
    takes_types: bool
    length: int
    end: int | None = None
    left: bool = False

    def ends(self, text: Encoded) -> int:
        """Return how often a text has the token ``end``; 0 if it is of no weight."""
        return 0 if self.end is None else int((text.ids == self.end).sum())

    def check_alike(self, texts: Sequence[Encoded], examples: Sequence[Example]) -> None:
        """Raise if texts of one training cannot be in one pass.

        Raises
        ------
        ToolError
            Kind ``"other-ends"``: a text has the token ``end`` more often than the first, or less.
        """
        counts = [self.ends(text) for text in texts]
        if odd := next((n for n, count in enumerate(counts) if count != counts[0]), None):
            raise ToolError(
                f"{examples[odd].where}: has the token that ends a text {counts[odd]} times, and"
                f" {examples[0].where} {counts[0]} times; such a model learns from texts that are alike in this only",
                kind="other-ends",
            )

    def check(self, text: Encoded, where: str, tokenizer: Any) -> None:
        """Raise if a model cannot take a text.

        Parameters
        ----------
        text
            The tokens.
        where
            Names the line in messages.
        tokenizer
            What made the tokens: names the one that is too large.

        Raises
        ------
        InputError
            Kind ``"unknown-token"``, ``"unknown-type"``, ``"no-token"`` or ``"no-end"``: a token is beyond the
            embedding's rows, a token type is, there is no token, or none that ends the text.
        """
        if not len(text):
            raise InputError(f"{where}: the tokenizer makes no token of this text", kind="no-token")
        if (largest := int(text.ids.max())) >= self.rows or text.ids.min() < 0:
            token = largest if largest >= self.rows else int(text.ids.min())
            raise InputError(
                f"{where}: token {tokenizer.convert_ids_to_tokens(token)!r:.80} has number {token},"
                f" {self._rows_against(tokenizer)}",
                kind="unknown-token",
            )
        if self.types is not None and text.types is not None and (kind := int(text.types.max())) >= self.types:
            raise InputError(
                f"{where}: the tokenizer gives token type {kind}, and the model's embedding of token types has"
                f" {self.types} rows (type_vocab_size); give single texts, or the tokenizer that the model was made"
                " with",
                kind="unknown-type",
            )

        if self.end is not None and not self.ends(text):
            raise InputError(
                f"{where}: the tokenizer ends no text with token {self.end} (eos_token_id), where the model reads; give"
                " the tokenizer that it was made with",
                kind="no-end",
            )

    def _rows_against(self, tokenizer: Any) -> str:
        return (
            f"and the model's embedding has {self.rows} rows for the {len(tokenizer)} tokens of its tokenizer; give it"
            f" as many (transformers' resize_token_embeddings({len(tokenizer)})), or the tokenizer that it was made"
            " with"
        )

    def unused_tokens(self, tokenizer: Any) -> str | None:
        """Return what to warn of if a tokenizer has tokens that the embedding has no row for; else None."""
        if len(tokenizer) <= self.rows:
            return None
        return f"a token of number {self.rows} or more is in no text here, {self._rows_against(tokenizer)}"


def limits_of(model: Any, tokenizer: Any) -> InputLimits:
    """Return the limits of a model for sequence classification.

    Raises
    ------
    ToolError
        Kind ``"reads-padding"``: what it gives a text depends on how far that is padded. Kind ``"bad-tokenizer"``: the
        tokenizer's longest text is of no number of tokens.
    """
    takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
    types = [
        int(module.weight.shape[0])
        for name, module in model.named_modules()
        if name.endswith("token_type_embeddings") and hasattr(module, "weight")
    ]
    end = getattr(model.config, "eos_token_id", None) if getattr(model.config, "is_encoder_decoder", False) else None
    rows, longest, left = _rows(model), _longest(model, tokenizer), _reads_last(model)
    return InputLimits(rows, min(types, default=None), takes_types, longest, end, left)


def _reads_last(model: Any) -> bool:
    """Test whether a model reads the last place, padding or not; ToolError if padding changes what others read."""
    read = getattr(getattr(model, "sequence_summary", None), "summary_type", "first")
    # XLNet's positions are relative: what is padded on the left is as if it stood alone.
    if read == "last" and model.config.model_type == "xlnet":
        return True
    if read != "first":
        raise ToolError(
            f"{model.config._name_or_path}: reads its texts by summary_type {read!a:.40}, which padding changes; no"
            " such model is known here",
            kind="reads-padding",
        )
    return False


def _rows(model: Any) -> int:
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (NotImplementedError, AttributeError):  # CANINE hashes characters
        return _UNLIMITED


def _longest(model: Any, tokenizer: Any) -> int:
    """Return how many tokens a text may have: positions, less those that RoBERTa's kind reserves for padding."""
    positions = getattr(model.config, "max_position_embeddings", None) or _UNLIMITED
    positions = positions if positions > 0 else _UNLIMITED  # -1 stands for none
    for name, module in model.named_modules():
        # Such a model counts positions from the one behind the padding's.
        if name.endswith("position_embeddings") and (padding := getattr(module, "padding_idx", None)) is not None:
            positions = min(positions, int(module.weight.shape[0])) - (padding + 1)
            break
    longest = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float) or not longest >= _FEWEST:
        raise ToolError(
            f"{model.config._name_or_path}: its tokenizer's model_max_length is {longest!a:.40}, no number of tokens"
            " that a text can have; correct its tokenizer_config.json",
            kind="bad-tokenizer",
        )
    return int(min(positions, longest))


def settle_padding(model: Any, tokenizer: Any, folder: Path, rows: int) -> None:
    """Set the padding token of a model's configuration, if it has none, to its tokenizer's.

    Raises
    ------
    ToolError
        Kind ``"no-padding"``: the tokenizer has none, or one that the embedding has no row for.
    """
    if tokenizer.pad_token_id is None:
        raise ToolError(f"{folder}: its tokenizer has no padding token; give it one", kind="no-padding")
    padding = getattr(model.config, "pad_token_id", None)
    if padding is not None and 0 <= padding < rows:
        return
    if tokenizer.pad_token_id >= rows:
        raise ToolError(
            f"{folder}: its tokenizer's padding token {tokenizer.pad_token!r} has number {tokenizer.pad_token_id}, and"
            f" the embedding has {rows} rows; resize it (transformers' resize_token_embeddings({len(tokenizer)})), or"
            " choose another padding token",
            kind="no-padding",
        )
    model.config.pad_token_id = tokenizer.pad_token_id
