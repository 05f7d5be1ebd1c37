"""Find the architecture and the tensor names of a state dict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from _toolio.errors import ToolError, UsageError, in_one_line, param
from facetools.extractors.convert.read import SourceWeights
from facetools.extractors.registry import architectures, find_architecture
from facetools.extractors.state_dicts import MismatchedTensorsError, TensorMismatch

if TYPE_CHECKING:
    from torch import Tensor

# Parts of names that come from modules around the network when its weights were saved.
_WRAPPERS = frozenset({
    "module", "model", "features", "backbone", "net", "network", "encoder", "extractor", "feature_extractor",
    "student", "teacher", "ema", "clip", "_orig_mod",
})  # fmt: skip

# Where checkpoints keep the weights; of several that fit, the first.
_CONTAINERS = ("", "state_dict", "net_state_dict", "model_state_dict", "model", "backbone", "net")


@dataclass(frozen=True)
class Fit:
    """Result of matching tensors to one architecture.

    Attributes
    ----------
    architecture, container, prefix
        What was tried: place in the file, and prefix of the names.
    state
        Tensors under the architecture's own names.
    left_out
        Number of tensors that no embedding needs.
    problems
        Mismatches by tensor.
    trouble
        Mismatches in words; empty for a perfect fit.
    """

    architecture: str
    container: str
    prefix: str
    state: Mapping[str, Tensor]
    left_out: int
    problems: tuple[TensorMismatch, ...]
    trouble: str

    @property
    def matched(self) -> int:
        """Number of tensors that match; 0 where the network could not be built."""
        if self.trouble and not self.problems:
            return 0
        return len(self.state) - sum(problem.problem != "missing" for problem in self.problems)


class MismatchError(ToolError):
    """Weights do not match the architecture, or any.

    Attributes
    ----------
    fit
        The nearest fit.
    """

    def __init__(self, path: Path, fit: Fit, *, known: bool, given: bool) -> None:
        self.fit = fit
        what = fit.trouble
        if fit.problems:
            kinds = [each.problem for each in fit.problems]
            what = (
                f"{fit.matched} tensors match, {kinds.count('missing')} are missing, {kinds.count('unknown')} unknown,"
                f" {kinds.count('shape')} of another shape, such as {', '.join(each.key for each in fit.problems[:3])}"
            )
        if known:
            hint = f"; try another {param('architecture')}" if given else ""
            message = f"not a usable {fit.architecture}: {what}{hint}"
        elif fit.matched:
            message = (
                f"of no known architecture; the nearest is {fit.architecture}: {what}; try {param('architecture')}"
            )
        else:
            message = "of no known architecture; `facetools extractors` lists those there are"
        super().__init__(f"{path}: {message}", kind="mismatch")


def match(weights: SourceWeights, architecture: str | None) -> Fit:
    """Find the architecture of tensors, and rename them to its own names.

    Parameters
    ----------
    weights
        From :func:`read_weights`.
    architecture
        Its name; None: the file's own, or the only one that fits.

    Raises
    ------
    MismatchError
        Nothing fits.
    UsageError
        The file is of another architecture, or several fit.
    """
    if architecture and weights.architecture and architecture != weights.architecture:
        raise UsageError(
            f"{param('architecture')} {architecture}: {weights.path} is of {weights.architecture}; leave it out"
        )
    known = architecture or weights.architecture
    places = sorted(weights.containers, key=lambda name: _CONTAINERS.index(name) if name in _CONTAINERS else 99)
    fits = [
        _try(name, weights, place, prefix)
        for place in places
        for prefix in _prefixes(weights.containers[place])
        for name in ([known] if known else architectures())
    ]
    # Of equals the first wins: the usual place in the file, the shortest prefix.
    best = max(fits, key=lambda fit: (not fit.trouble, fit.matched, -len(fit.problems)))
    if best.trouble:
        raise MismatchError(weights.path, best, known=known is not None, given=architecture is not None)
    if len(names := {fit.architecture for fit in fits if not fit.trouble and fit.matched == best.matched}) > 1:
        raise UsageError(f"{weights.path}: fits {', '.join(sorted(names))}; say which with {param('architecture')}")
    return best


def _prefixes(state: Mapping[str, Tensor]) -> list[str]:
    """Return candidate prefixes of a network's own names: wrappers, and what all keys begin with."""
    found = {""}
    for key in state:
        parts, start = key.split("."), ""
        for part in parts[:-1]:
            if part not in _WRAPPERS:
                break
            start += f"{part}."
            found.add(start)
    first, last = (key.split(".") for key in (min(state), max(state)))
    shared = next(n for n in range(len(first)) if n == len(first) - 1 or first[n : n + 1] != last[n : n + 1])
    found.add("".join(f"{part}." for part in first[:shared]))
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def _try(architecture: str, weights: SourceWeights, container: str, prefix: str) -> Fit:
    module = find_architecture(architecture)
    # Batch normalisation counts its batches; nothing reads the counters.
    given = {k: v for k, v in weights.containers[container].items() if not k.endswith("num_batches_tracked")}
    named: dict[str, Tensor] = {}
    left_out = 0
    trouble, problems = "", tuple[TensorMismatch, ...]()
    try:
        named = module.canonical({k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)})
        # By identity: some architectures add tensors of their own.
        kept = {id(value) for value in named.values()}
        left_out = sum(id(value) not in kept for value in given.values())
        named = {key: _as_stored(value) for key, value in named.items()}
        module.network(named, weights.options)
    except (ValueError, LookupError, RuntimeError, TypeError) as error:
        # Tensors of any name and shape come here, and layers of other shapes raise errors of several kinds.
        trouble = in_one_line(error) or type(error).__name__
        problems = error.problems if isinstance(error, MismatchedTensorsError) else ()
    return Fit(architecture, container, prefix, named, left_out, problems, trouble)


def _as_stored(value: Tensor) -> Tensor:
    return value.detach().float() if value.is_floating_point() else value.detach()
