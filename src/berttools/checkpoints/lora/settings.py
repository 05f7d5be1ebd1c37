"""Read a LoRA adapter's adapter_config.json, and refuse what would change the weights in a way that is not redone here.

PEFT's fields fall in four sets: those that merging reads; those that only training reads, or that select the modules
whose factors the file names anyway; those that are known and cannot be merged here; and all others, which are refused
where they are set, as what they do to the weights is not known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from _toolio.errors import ToolError
from berttools.checkpoints.expressions import NotPlainError, compile_expression


class Initial(Enum):
    """What PEFT takes off the base before training, and again whenever the adapter is loaded."""

    nothing = "nothing"
    principal = "pissa"
    """The best approximation of the adapter's rank (arXiv 2404.02948)."""
    first_columns = "olora"
    """The scale times the first columns' part of the QR decomposition (arXiv 2406.01775)."""
    minor = "kasa"
    """What as many smallest singular values hold as the adapter's rank (arXiv 2412.06071)."""


class LoraSettings(NamedTuple):
    """What an adapter's configuration says about its weights."""

    rank: int | None
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    rank_stabilised: bool
    initial: Initial
    dora: bool
    bias: bool
    transposed: bool
    """``fan_in_fan_out``: PEFT overrules it by the type of the layer."""
    parameters: Sequence[str]
    """Parameters that have factors themselves, by the ends of their names."""
    token_rows: Sequence[int] | Mapping[str, Sequence[int]] | None
    ignored: Sequence[str]
    """Tensors of layers that only training reads."""

    def rank_of(self, name: str) -> int | None:
        """Return the rank of a module, or parameter; None if the configuration does not say."""
        return next(_matching(self.ranks, name), self.rank)

    def scale(self, name: str, rank: int) -> float:
        """Return the scale s of a module's, or parameter's, product."""
        alpha = next(_matching(self.alphas, name), self.alpha)
        return alpha / (math.sqrt(rank) if self.rank_stabilised else rank)

    def rows_of(self, module: str) -> Sequence[int]:
        """Return the rows of an embedding that were trained by themselves."""
        if not isinstance(self.token_rows, Mapping):
            return self.token_rows or ()
        ends = (rows for end, rows in self.token_rows.items() if f".{module}".endswith(f".{end}"))
        return next(ends, ())


_READ = {
    "peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights", "kasa_config",
    "use_dora", "lora_bias", "fan_in_fan_out", "target_parameters", "trainable_token_indices", "bias",
}  # fmt: skip
_OF_TRAINING = {
    # Where it comes from, how it was trained, which modules it is of.
    "task_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode",
    "lora_dropout", "target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern",
    "runtime_config", "merge_weights",
    # Of ms-swift: learning rates of LoRA+ (arXiv 2402.12354), and the dtype that factors are trained in.
    "lorap_lr_ratio", "lorap_emb_lr", "lora_dtype",
    # Details of initialisations, which their names decide about.
    "eva_config", "corda_config", "lora_ga_config", "loftq_config",
    # Details of options that are off.
    "megatron_core", "qalora_group_size",
    # Backward passes on compressed activations; noise while training. PEFT's merge leaves out both.
    "velora_config", "monteclora_config",
}  # fmt: skip
_IGNORED = {"velora_config": "lora_velora_embed", "monteclora_config": "lora_monteclora_sampler"}
_NOT_MERGED = {
    "use_qalora": "pools the inputs of its layers",
    "use_bdlora": "keeps blocks of its factors",
    "arrow_config": "chooses between adapters for every token",
    "alora_invocation_tokens": "works behind some tokens only, so there is no merged weight",
    "layer_replication": "has more layers than its base",
    "megatron_config": "is of layers split by Megatron",
    "enable_lora": "is of parts of fused layers",
    "ensure_weight_tying": "ties its factors",
}
_WITH_PEFT = "merge it with PEFT and give that"
_CONVERT = (
    "save it with path_initial_model_for_weight_conversion, or merge it with PEFT where it was trained, and give that"
)

# The base is as it was: what they make are the factors, which the file holds.
_INITIAL = {
    "gaussian": Initial.nothing,
    "eva": Initial.nothing,
    "orthogonal": Initial.nothing,
    "mica": Initial.nothing,
    "pissa": Initial.principal,
    "olora": Initial.first_columns,
}
_ANY_CASE = {"gaussian", "mica", "olora"}
_LOST = (
    (re.compile(r"pissa_niter_.*"), "takes an approximation off the base that is drawn at random"),
    (re.compile(r"corda.*"), "takes a product off the base that comes from data"),
    (re.compile(r"lora_ga"), "takes a product off the base that comes from gradients"),
    (re.compile(r"loftq"), "quantises the base"),
)


def read_settings(folder: Path, config: Mapping[str, Any]) -> LoraSettings:
    """Check a configuration.

    Parameters
    ----------
    folder
        The adapter's, for messages.
    config
        The object in its adapter_config.json.

    Raises
    ------
    ToolError
        Kind ``"adapter"``: of another kind, damaged, or with something that cannot be merged here, by its name.
    """
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ToolError(f"{folder}: an adapter of kind {kind}; only LORA can be merged here", kind="adapter")
    for field, does in _NOT_MERGED.items():
        if _is_set(config.get(field)):
            raise ToolError(f"{folder}: LoRA with {field}, which {does}; {_WITH_PEFT}", kind="adapter")
    unknown = next((f for f in config if f not in _READ | _OF_TRAINING and _is_set(config[f])), None)
    if unknown is not None:
        raise ToolError(
            f"{folder}: LoRA with {unknown}, which is not known here and may change the weights; {_WITH_PEFT}",
            kind="adapter",
        )
    if config.get("bias") not in (None, "none", "all", "lora_only"):
        raise ToolError(f"{folder}: LoRA with bias {_short(config['bias'])}; {_WITH_PEFT}", kind="adapter")
    checked = _Checked(folder, config)
    rank = config.get("r")
    initial = _initial(folder, config)
    if checked.flag("use_dora") and initial == Initial.minor:
        raise ToolError(f"{folder}: LoRA with use_dora and kasa_config; {_WITH_PEFT}", kind="adapter")
    return LoraSettings(
        rank=None if rank is None else _rank(folder, "r", rank),
        alpha=_alpha(folder, "lora_alpha", config.get("lora_alpha")),
        ranks=checked.patterns("rank_pattern", _rank),
        alphas=checked.patterns("alpha_pattern", _alpha),
        rank_stabilised=checked.flag("use_rslora"),
        initial=initial,
        dora=checked.flag("use_dora"),
        bias=checked.flag("lora_bias"),
        transposed=checked.flag("fan_in_fan_out"),
        parameters=checked.names("target_parameters"),
        token_rows=checked.token_rows(),
        ignored=[tensor for field, tensor in _IGNORED.items() if config.get(field)],
    )


_T = TypeVar("_T")


def _matching(patterns: Mapping[str, _T], name: str) -> Iterator[_T]:
    """Yield the values of the patterns that a name, or its end behind a full stop, matches: the first one counts."""
    return (value for pattern, value in patterns.items() if _whole_end(pattern)(name))


def _whole_end(pattern: str) -> Callable[[str], bool]:
    """Return PEFT's test of names for a pattern. Raises as `compile_expression`."""
    return compile_expression(rf"(.*\.)?({pattern})$")


def _is_set(value: object) -> bool:
    """Test for a value that asks for something: not null, false, zero or empty."""
    return bool(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _initial(folder: Path, config: Mapping[str, Any]) -> Initial:
    named = config.get("init_lora_weights", True)
    if named is None or isinstance(named, bool):
        initial = Initial.nothing
    elif isinstance(named, str) and (named in _INITIAL or named.lower() in _ANY_CASE):
        initial = _INITIAL[named.lower()]
    else:
        does = next((does for names, does in _LOST if names.fullmatch(str(named))), "is not known here")
        raise ToolError(
            f"{folder}: LoRA with init_lora_weights {_short(named)}, which {does}; {_CONVERT}", kind="adapter"
        )
    if not config.get("kasa_config"):
        return initial
    if initial != Initial.nothing:
        raise ToolError(
            f"{folder}: LoRA with kasa_config and init_lora_weights {_short(named)}; {_WITH_PEFT}", kind="adapter"
        )
    return Initial.minor


def _rank(folder: Path, field: str, value: object) -> int:
    if type(value) is not int or not 1 <= value < 1 << 31:
        raise ToolError(f"{folder}: {field} is {_short(value)}, no rank; copy it again", kind="adapter")
    return value


def _alpha(folder: Path, field: str, value: object) -> float:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise ToolError(f"{folder}: {field} is {_short(value)}, no number; copy it again", kind="adapter")


class _Checked(NamedTuple):
    """The fields of a configuration, checked for their types."""

    folder: Path
    config: Mapping[str, Any]

    def _damaged(self, field: str) -> ToolError:
        return ToolError(f"{self.folder}: its {field} is damaged; copy it again", kind="adapter")

    def flag(self, field: str) -> bool:
        value = self.config.get(field)
        if value is not None and not isinstance(value, bool):
            raise self._damaged(field)
        return bool(value)

    def patterns(self, field: str, check: Callable[[Path, str, object], _T]) -> dict[str, _T]:
        found = self.config.get(field) or {}
        if not isinstance(found, dict):
            raise self._damaged(field)
        for pattern in found:
            try:
                _whole_end(pattern)
            except NotPlainError as why:
                raise ToolError(
                    f"{self.folder}: {field} has the expression {_short(pattern)}, which {why}; {_WITH_PEFT}",
                    kind="adapter",
                ) from None
            except re.error:
                raise self._damaged(field) from None
        return {pattern: check(self.folder, f"{field} of {pattern}", value) for pattern, value in found.items()}

    def names(self, field: str) -> list[str]:
        found = self.config.get(field) or []
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            raise self._damaged(field)
        return found

    def token_rows(self) -> Sequence[int] | Mapping[str, Sequence[int]] | None:
        field = "trainable_token_indices"
        found = self.config.get(field)
        rows = found.values() if isinstance(found, dict) else () if found is None else (found,)
        if not all(isinstance(some, list) and all(type(row) is int for row in some) for some in rows):
            raise self._damaged(field)
        return found
