"""Layer and group of a tensor (one of the matrices of a transformer layer), by its name.

The groups are those of arXiv 2004.14129: K, Q, V (the attention's projections), AO (its output), I and O
(the two dense layers of the feed-forward part); XQ, XK, XV and XAO are those of cross-attention. A fused matrix, which
holds several of them, is divided into parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from _toolio.errors import UsageError, of_the_whole_run
from _toolio.streams.reading import read_file
from berttools.checkpoints.names.layers import locate, stack_names

GROUPS = ("Q", "K", "V", "AO", "I", "O")
"""The six groups in the order in which a layer applies them."""
KNOWN_GROUPS = (*GROUPS, "XQ", "XK", "XV", "XAO")
"""The six, and those of cross-attention."""

_SELF = r"(?:attention|attn|self_attn)"
_CROSS = r"(?:encoder_attn|cross_attn|crossattention|multihead_attn)"
_T5_SELF, _T5_CROSS, _T5_DENSE = (
    r"layer\.0\.SelfAttention",
    r"layer\.1\.EncDecAttention",
    r"layer\.[12]\.DenseReluDense",
)
# What stands behind the layer's number, whole. Position projections match none of them.
_WEIGHTS = {
    "Q": rf"attention\.(?:self|attention)\.query(?:_proj)?|{_SELF}\.(?:q_lin|q_proj|query|query_proj)"
    rf"|attention\.attn\.q|{_T5_SELF}\.q",
    "K": rf"attention\.(?:self|attention)\.key(?:_proj)?|{_SELF}\.(?:k_lin|k_proj|key|key_proj)"
    rf"|attention\.attn\.k|{_T5_SELF}\.k",
    "V": rf"attention\.(?:self|attention)\.value(?:_proj)?|{_SELF}\.(?:v_lin|v_proj|value|value_proj)"
    rf"|attention\.attn\.v|{_T5_SELF}\.v",
    "AO": rf"attention\.output\.dense|{_SELF}\.(?:out_lin|o_proj|out_proj|c_proj|Wo|projection|proj|dense)"
    rf"|attention\.attn\.o|{_T5_SELF}\.o",
    "XQ": rf"{_CROSS}\.(?:(?:self|attention)\.query|q_proj|query_proj|q_attn)|{_T5_CROSS}\.q",
    "XK": rf"{_CROSS}\.(?:(?:self|attention)\.key|k_proj|key_proj)|{_T5_CROSS}\.k",
    "XV": rf"{_CROSS}\.(?:(?:self|attention)\.value|v_proj|value_proj)|{_T5_CROSS}\.v",
    "XAO": rf"{_CROSS}\.(?:output\.dense|out_proj|o_proj|c_proj)|{_T5_CROSS}\.o",
    "I": rf"intermediate(?:_query)?\.dense|ffn\.lin1|mlp\.(?:gate_proj|up_proj|c_fc|Wi|lin1|dense_h_to_4h)"
    rf"|(?:mlp\.)?fc1|linear1|ffn|feed_forward\.intermediate(?:_dense)?|{_T5_DENSE}\.wi(?:_[01])?",
    "O": rf"output(?:_query)?\.dense|ffn\.lin2|mlp\.(?:down_proj|c_proj|Wo|lin2|dense_4h_to_h)"
    rf"|(?:mlp\.)?fc2|linear2|ffn_output|feed_forward\.output(?:_dense)?|{_T5_DENSE}\.wo",
}
# Several matrices in one. GPT-2 stores its matrices as (in, out): they lie side by side.
_FUSED = {
    "Q+K+V": r"attn\.Wqkv\.weight|(?:self_attn|attn)\.qkv\.weight|(?:self_attn|attn)\.in_proj_weight",
    "Q+K+V@1": r"attn\.c_attn\.weight",
    "XQ+XK+XV": rf"{_CROSS}\.in_proj_weight",
    "XK+XV@1": rf"{_CROSS}\.c_attn\.weight",
}


class LayerGroup(NamedTuple):
    """A tensor's layer, counted from 0 as in the name, and its group; None where it has none."""

    layer: int | None
    group: str | None


class Part(NamedTuple):
    """All of a tensor, or its rows (`axis` 0) or columns (1) from `start` to `stop`, with layer and group."""

    layer: int | None
    group: str | None
    axis: int | None = None
    start: int = 0
    stop: int = 0


class Rule(NamedTuple):
    """A pattern of names and the groups, in equal parts along `axis`, of the matrices that have such a name."""

    pattern: re.Pattern[str]
    groups: tuple[str, ...]
    axis: int = 0


def _rule(pattern: str, groups: str) -> Rule:
    names, _, axis = groups.partition("@")
    return Rule(re.compile(pattern), tuple(names.split("+")), int(axis or 0))


_RULES = (
    *(_rule(rf"(?:{pattern})\.weight", groups) for groups, pattern in _WEIGHTS.items()),
    *(_rule(pattern, groups) for groups, pattern in _FUSED.items()),
)


class Grouping:
    """The table of groups, with a user's rules in front of it.

    Parameters
    ----------
    rules
        As `read_group_map` reads them.
    """

    def __init__(self, rules: tuple[Rule, ...] = ()) -> None:
        self._rules = rules

    @property
    def names(self) -> tuple[str, ...]:
        """Every group that a tensor can have, in order."""
        return tuple(dict.fromkeys([*KNOWN_GROUPS, *(group for rule in self._rules for group in rule.groups)]))

    def parts(self, name: str, shape: tuple[int, ...]) -> list[Part]:
        """Return layer and group of a tensor, or of each part of it where it is a fused matrix.

        Parameters
        ----------
        name
            The tensor's name, with any prefix.
        shape
            Its shape. Only matrices have a group: not biases, not layer norms.
        """
        found = locate(name)
        layer = found.layer if found else None
        if len(shape) != 2:
            return [Part(layer, None)]
        for rule in self._rules:
            if match := rule.pattern.search(name):
                number = _number_of(match)
                return _divided(layer if number is None else number, rule, shape)
        if found:
            for rule in _RULES:
                if rule.pattern.fullmatch(found.rest):
                    return _divided(layer, rule, shape) if _is_fused(rule, shape) else [Part(layer, None)]
        return [Part(layer, None)]

    def stacks(self, names: Iterable[str]) -> dict[str, str | None]:
        """Return the stack of each tensor of a model: None where it has no layer, or all layers are of one stack."""
        paths = {name: self.path(name) for name in names}
        named = stack_names(path for path in paths.values() if path)
        return {name: named[path] if path else None for name, path in paths.items()}

    def path(self, name: str) -> str | None:
        """Return the name of the list of layers that a tensor belongs to; None where it has no layer."""
        for rule in self._rules:
            if match := rule.pattern.search(name):
                return _path(name) if _number_of(match) is None else name[: match.start("layer")].rstrip("./")
        return _path(name)


def _path(name: str) -> str | None:
    found = locate(name)
    return found and found.path


def _number_of(match: re.Match[str]) -> int | None:
    """Return the number of a layer that a user's rule has found."""
    number = match.groupdict().get("layer") or ""
    return int(number) if number.isdecimal() and len(number) <= _MOST_DIGITS else None


def _is_fused(rule: Rule, shape: tuple[int, ...]) -> bool:
    """Test whether a matrix may hold all that its name says, in equal parts.

    Of grouped queries Q is larger than K and V, and there are fewer outputs than of three matrices: equal parts would
    be none of the three. Where a linear layer has the name that is of GPT-2's in and out, it lies the other way round.
    """
    many, size, inputs = len(rule.groups), shape[rule.axis], shape[1 - rule.axis]
    return many == 1 or size == inputs or size >= many * inputs


def _divided(layer: int | None, rule: Rule, shape: tuple[int, ...]) -> list[Part]:
    if len(rule.groups) == 1:
        return [Part(layer, rule.groups[0])]
    each, rest = divmod(shape[rule.axis], len(rule.groups))
    if rest or not each:  # no equal parts: it is not what its name says
        return [Part(layer, None)]
    return [Part(layer, group, rule.axis, n * each, (n + 1) * each) for n, group in enumerate(rule.groups)]


KNOWN = Grouping()
"""The grouping without a user's rules."""


def layer_and_group(name: str, shape: tuple[int, ...]) -> LayerGroup:
    """Return layer and group of a tensor.

    As `Grouping.parts`, without a user's rules; a matrix that holds several groups has none.
    """
    parts = KNOWN.parts(name, shape)
    return LayerGroup(parts[0].layer, parts[0].group if len(parts) == 1 else None)


# More are no layer, and Python refuses to read thousands of them.
_MOST_DIGITS = 6

_MAP_LINE = re.compile(r"(\w+(?:\+\w+)*(?:@[01])?)\s+(\S.*)")


def read_group_map(path: Path) -> Grouping:
    """Read a file of rules, one a line: a group, white space, a regular expression that is searched for in names.

    ``Q+K+V`` divides a matrix into equal parts by rows, ``Q+K+V@1`` by columns. A number that the expression names
    ``layer`` (``(?P<layer>[0-9]+)``) is the layer's. The first rule that fits counts; names that none fits are looked
    up in the table. Empty lines and lines that begin with # are skipped.

    Raises
    ------
    UsageError
        The file cannot be read, or a line is no rule; the message says which.
    """
    try:
        with of_the_whole_run():
            lines = read_file(path).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error
    rules = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _MAP_LINE.fullmatch(line.strip())
        if not match:
            raise UsageError(f"{path}, line {number}: not a group and an expression, such as 'Q attn\\.query'")
        try:
            rules.append(_rule(match[2], match[1]))
        except re.error as error:
            raise UsageError(f"{path}, line {number}: {match[2]!r} is no regular expression: {error}") from error
    if not rules:
        raise UsageError(f"{path}: no rule in it; give lines such as 'Q attn\\.query'")
    return Grouping(tuple(rules))


class By(StrEnum):
    """What one record is about."""

    tensor = "tensor"
    layer = "layer"
    group = "group"
    model = "model"
