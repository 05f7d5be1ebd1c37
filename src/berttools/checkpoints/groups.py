"""Layer and group of a tensor (one of the six matrices of a transformer layer), by its name.

The groups are those of arXiv 2004.14129: K, Q, V (the attention's projections), AO (its output), I and O
(the two dense layers of the feed-forward part). A fused matrix, which holds several of them, is divided into parts.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from _toolio.errors import UsageError

GROUPS = ("Q", "K", "V", "AO", "I", "O")
"""The groups in the order in which a layer applies them."""

_LAYER = re.compile(r"(?:^|\.)(?:layer|layers|h|block|blocks)\.(\d+)\.(.+)")

_SELF_ATTENTION = r"(?:attention|attn|self_attn)"
# What stands behind the layer's number, whole. Cross-attention and position projections match none of them.
_WEIGHTS = {
    "Q": rf"attention\.self\.query(?:_proj)?|{_SELF_ATTENTION}\.q_(?:lin|proj)",
    "K": rf"attention\.self\.key(?:_proj)?|{_SELF_ATTENTION}\.k_(?:lin|proj)",
    "V": rf"attention\.self\.value(?:_proj)?|{_SELF_ATTENTION}\.v_(?:lin|proj)",
    "AO": rf"attention\.output\.dense|{_SELF_ATTENTION}\.(?:out_lin|o_proj|out_proj|c_proj|Wo)",
    "I": r"intermediate\.dense|ffn\.lin1|mlp\.(?:gate_proj|up_proj|c_fc|Wi)|(?:mlp\.)?fc1",
    "O": r"output\.dense|ffn\.lin2|mlp\.(?:down_proj|c_proj|Wo)|(?:mlp\.)?fc2",
    "Q+K+V": r"attn\.Wqkv",
    # GPT-2 stores its matrices as (in, out): the three lie side by side.
    "Q+K+V@1": r"attn\.c_attn",
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


_RULES = tuple(_rule(rf"(?:{pattern})\.weight", groups) for groups, pattern in _WEIGHTS.items())


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
        return tuple(dict.fromkeys([*GROUPS, *(group for rule in self._rules for group in rule.groups)]))

    def parts(self, name: str, shape: tuple[int, ...]) -> list[Part]:
        """Return layer and group of a tensor, or of each part of it where it is a fused matrix.

        Parameters
        ----------
        name
            The tensor's name, with any prefix.
        shape
            Its shape. Only matrices have a group: not biases, not layer norms.
        """
        found = _LAYER.search(name)
        layer = int(found[1]) if found else None
        if len(shape) != 2:
            return [Part(layer, None)]
        for rule in self._rules:
            if match := rule.pattern.search(name):
                number = match.groupdict().get("layer") or ""
                return _divided(int(number) if number.isdecimal() else layer, rule, shape)
        if found:
            for rule in _RULES:
                if rule.pattern.fullmatch(found[2]):
                    return _divided(layer, rule, shape)
        return [Part(layer, None)]


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
    """Return layer and group of a tensor of a BERT, RoBERTa, ELECTRA, MiniLM, DeBERTa, DistilBERT, GPT-2 or Llama.

    As `Grouping.parts`, without a user's rules; a matrix that holds several groups has none.
    """
    parts = KNOWN.parts(name, shape)
    return LayerGroup(parts[0].layer, parts[0].group if len(parts) == 1 else None)


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
        lines = path.read_text(encoding="utf-8").splitlines()
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
