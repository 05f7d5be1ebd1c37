"""Refuse numbers of a config.json that no model has, before a model is built by them.

transformers checks types of some, and builds by the rest: -1 layers are none, without a word, a billion of them take
all memory, and no heads are a division by zero in the middle of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from _toolio.errors import ToolError

_LAYERS = (
    "num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers",
    "num_decoder_layers", "num_hidden_groups", "inner_group_num",
)  # fmt: skip
_HEADS = (
    "num_attention_heads", "num_key_value_heads", "num_heads", "n_head", "n_heads", "encoder_attention_heads",
    "decoder_attention_heads",
)  # fmt: skip
_SIZES = (
    "hidden_size", "intermediate_size", "embedding_size", "vocab_size", "d_model", "d_ff",
    "d_kv", "d_inner", "d_head", "dim", "hidden_dim", "n_embd", "n_inner", "n_positions",
    "encoder_ffn_dim", "decoder_ffn_dim",
)  # fmt: skip
_POSITIONS = ("max_position_embeddings",)
_MAY_BE_NONE = ("head_dim",)
"""0 in GLM models whose heads are of two other sizes."""
_TOKENS = ("pad_token_id", "bos_token_id", "cls_token_id", "sep_token_id", "type_vocab_size")
_CHANCES = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "classifier_dropout_prob",
    "dropout", "attention_dropout", "activation_dropout", "dropout_rate", "seq_classif_dropout", "resid_pdrop",
    "embd_pdrop", "attn_pdrop", "summary_first_dropout", "embedding_dropout", "mlp_dropout", "pooler_dropout",
)  # fmt: skip
_SMALL = ("layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps", "norm_eps", "initializer_range", "init_std")

_MOST_LAYERS = 10_000
_MOST = 2**31 - 1


def _whole(least: int, most: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _whole_or_float(least: int, most: int) -> Callable[[object], bool]:
    """Return a test that takes 1200.0 too, as MusicFlamingo's configuration has it."""
    fits = _whole(least, most)
    return lambda value: fits(int(value) if isinstance(value, float) and value.is_integer() else value)


def _real(least: float, most: float) -> Callable[[object], bool]:
    return lambda value: type(value) in (int, float) and least <= value <= most  # type: ignore[operator]


_KINDS: tuple[tuple[tuple[str, ...], Callable[[object], bool], str], ...] = (
    (_LAYERS, _whole(1, _MOST_LAYERS), f"a whole number of 1 to {_MOST_LAYERS:,}"),
    (_HEADS, _whole(1, _MOST_LAYERS), f"a whole number of 1 to {_MOST_LAYERS:,}"),
    (_SIZES, _whole(1, _MOST), "a whole number of 1 or more, below 2^31"),
    (_POSITIONS, _whole_or_float(1, _MOST), "a whole number of 1 or more, below 2^31"),
    (_MAY_BE_NONE, _whole(0, _MOST), "a whole number of 0 or more, below 2^31"),
    (_TOKENS, _whole(-1, _MOST), "a whole number of -1 or more, below 2^31"),
    (_CHANCES, _real(0.0, 1.0), "a probability of 0 to 1"),
    (_SMALL, _real(0.0, 1e6), "a number of 0 or more"),
)


def check_numbers(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a configuration one of whose numbers no model has; null, and a name that is not known, are passed over.

    Parameters
    ----------
    config
        What the config.json says, and in it what a part of it says.
    folder
        Where it lies, for messages.

    Raises
    ------
    ToolError
        Kind ``"bad-config"``; the message names the field.
    """
    for names, fits, wanted in _KINDS:
        for name in names:
            value = config.get(name)
            if value is not None and not _each(value, fits):
                raise _bad(folder, f"{name} is {_short(value)}, not {wanted}")
    architectures = config.get("architectures")
    if architectures is not None and not (
        isinstance(architectures, list) and all(isinstance(each, str) for each in architectures)
    ):
        raise _bad(folder, f"architectures is {_short(architectures)}, not a list of names")
    if not isinstance(config.get("model_type", ""), str):
        raise _bad(folder, f"model_type is {_short(config['model_type'])}, not a name")


def _each(value: object, fits: Callable[[object], bool]) -> bool:
    """Test a number, or each of several: models of stages, such as Funnel, have a list, and LXMERT has a dict."""
    each = list(value.values()) if isinstance(value, dict) else value
    return all(map(fits, each)) if isinstance(each, list) and each else fits(each)


def _short(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"{'-' if value < 0 else ''}10^{math.floor(value.bit_length() * math.log10(2))} or so"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _bad(folder: Path, what: str) -> ToolError:
    return ToolError(f"{folder}: {what}; correct its config.json, or copy it again", kind="bad-config")
