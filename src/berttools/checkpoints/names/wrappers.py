"""Drop the parts of a tensor's name that only say what a module was wrapped in, wherever they stand.

torch.compile, FSDP, activation checkpointing and Lightning insert a module of a name that nobody else uses.
DataParallel's ``module`` and PEFT's ``base_model.model`` may be a model's own as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ALWAYS = frozenset({
    "_orig_mod",  # torch.compile
    "_fsdp_wrapped_module", "_fpw_module",  # FSDP of torch, today's and that of torch 1.11
    "_checkpoint_wrapped_module",  # activation checkpointing
    "_forward_module",  # Lightning's Fabric
})  # fmt: skip
# DataParallel, DDP, DeepSpeed; PEFT; sentence-transformers' state dicts.
_MAYBE = re.compile(r"(?:^|(?<=\.))(?:(?:module|base_model\.model)\.)+|^[0-9]\.auto_model\.")


def unwrapped(name: str, *, maybe: bool = True) -> str:
    """Return a name without wrappers; with ``maybe`` also without those that may be a model's own modules."""
    parts = name.split(".")
    if not _ALWAYS.isdisjoint(parts[:-1]):
        name = ".".join([*(part for part in parts[:-1] if part not in _ALWAYS), parts[-1]])
    return _MAYBE.sub("", name) if maybe else name


def bare_names(names: Iterable[str], *, maybe: bool) -> dict[str, str]:
    """Map each name without wrappers to the name; where two would become one, the longer keeps more of its own.

    Parameters
    ----------
    names
        Of all tensors of a model.
    maybe
        As of `unwrapped`.
    """
    found: dict[str, str] = {}
    # From the shortest: what a name falls back to is longer than all that those before it can have become.
    for name in sorted(names, key=len):
        choices = (*((unwrapped(name),) if maybe else ()), unwrapped(name, maybe=False), name)
        found[next(bare for bare in choices if bare not in found)] = name
    return found
