"""Which layer and which of the six matrices of a layer a tensor is, by its name.

The groups are those of arXiv 2004.14129: K, Q, V (the attention's projections), AO (its output), I and O
(the two dense layers of the feed-forward part).
"""

import re
from typing import NamedTuple

__all__ = ["GROUPS", "Place", "place"]

GROUPS = ("Q", "K", "V", "AO", "I", "O")
"""The groups in the order in which a layer applies them."""

_LAYER = re.compile(r"(?:^|\.)(?:layer|layers|h|block|blocks)\.(\d+)\.(.+)")

_SELF_ATTENTION = r"(?:attention|attn|self_attn)"
# What stands behind the layer's number, whole. Cross-attention and position projections match none of them.
_WEIGHTS = {
    "Q": rf"attention\.self\.query(?:_proj)?|{_SELF_ATTENTION}\.q_(?:lin|proj)",
    "K": rf"attention\.self\.key(?:_proj)?|{_SELF_ATTENTION}\.k_(?:lin|proj)",
    "V": rf"attention\.self\.value(?:_proj)?|{_SELF_ATTENTION}\.v_(?:lin|proj)",
    "AO": rf"attention\.output\.dense|{_SELF_ATTENTION}\.(?:out_lin|o_proj|out_proj|c_proj)",
    "I": r"intermediate\.dense|ffn\.lin1|mlp\.(?:gate_proj|up_proj|c_fc)|(?:mlp\.)?fc1",
    "O": r"output\.dense|ffn\.lin2|mlp\.(?:down_proj|c_proj)|(?:mlp\.)?fc2",
}
_GROUP = [(group, re.compile(rf"(?:{names})\.weight")) for group, names in _WEIGHTS.items()]


class Place(NamedTuple):
    """A tensor's layer, counted from 0 as in the name, and its group; None where it has none."""

    layer: int | None
    group: str | None


def place(name: str, shape: tuple[int, ...]) -> Place:
    """Place a tensor of a BERT, RoBERTa, ELECTRA, MiniLM, DeBERTa, DistilBERT, GPT-2 or Llama-like model.

    Parameters
    ----------
    name
        The tensor's name, with any prefix.
    shape
        Its shape. Only matrices have a group: not biases, not layer norms.
    """
    found = _LAYER.search(name)
    if found is None:
        return Place(None, None)
    if len(shape) == 2:
        for group, pattern in _GROUP:
            if pattern.fullmatch(found[2]):
                return Place(int(found[1]), group)
    return Place(int(found[1]), None)
