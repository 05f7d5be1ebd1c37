"""Convert weight files of other projects into extractor files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.errors import ToolError, UsageError, in_one_line, param
from _toolio.files.hashing import sha256_of_files
from facetools.extractors.convert.match import Fit, match
from facetools.extractors.convert.read import SourceWeights, read_weights
from facetools.extractors.registry import find_architecture
from facetools.extractors.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


def import_extractor(
    source: Path,
    out: Path,
    architecture: str | None = None,
    given: Mapping[str, Any] | None = None,
    *,
    half: bool = False,
    version: str = "",
) -> dict[str, Any]:
    """Convert a file of weights into an extractor file.

    Parameters
    ----------
    source
        As for :func:`read_weights`.
    out
        The file to write; complete or absent.
    architecture
        Its name; None: the file's own, or the only one that fits.
    given
        Fields of ``Settings`` that override the file's or the architecture's own.
    half
        Store float16.
    version
        Of the tool, for the metadata.

    Returns
    -------
    dict
        The fields of a record of the file that was written.

    Raises
    ------
    MismatchError
        The tensors do not match the architecture, or any.
    UsageError
        ``architecture`` or ``half`` contradicts the file.
    ToolError
        The file is damaged, or its network is not usable: no embedding comes out, or no gradient reaches the chip.
    """
    from facetools.extractors.files import save_extractor

    weights = read_weights(source)
    fit = match(weights, architecture)
    if half and not any(value.is_floating_point() for value in fit.state.values()):
        raise UsageError(f"{param('half')}: {source} keeps its numbers in a graph of its own; leave it out")
    settings, options, verified = _complete(weights, fit, dict(given or {}))
    state = {k: v.half() if half and v.is_floating_point() else v for k, v in fit.state.items()}
    try:
        dimensions = _prove(fit.architecture, state, settings, options)
    except (ValueError, RuntimeError) as error:
        height, width = settings.input_size
        raise ToolError(
            f"{source}: not a usable {fit.architecture} for chips of {height}x{width}: {in_one_line(error)};"
            f" try another {param('input_size')} or {param('architecture')}",
            kind="extractor",
        ) from None
    origin = {"name": source.resolve().name, "sha256": weights.sha256, "container": fit.container, "prefix": fit.prefix}
    arguments = {"architecture": architecture, **(given or {}), "half": half}
    about = {"dimensions": dimensions, "source": origin, "version": version, "arguments": arguments, **verified}
    save_extractor(out, fit.architecture, state, settings, about, options=options, half=half)
    return {
        "dimensions": dimensions,
        "file": str(out),
        "architecture": fit.architecture,
        "source": str(source),
        "source_sha256": weights.sha256,
        "sha256": sha256_of_files(out),
        "settings": asdict(settings),
        "tensors": len(state),
        "left_out": fit.left_out,
        "bytes": out.stat().st_size,
        **verified,
    }


def _complete(
    weights: SourceWeights, fit: Fit, given: dict[str, Any]
) -> tuple[Settings, dict[str, Any], dict[str, Any]]:
    """Return settings (given ones override the file's, and these the architecture's) and the options that follow.

    The third is what records and metadata say of the test that the network is read rightly, where there is one.
    """
    module: Any = find_architecture(fit.architecture)
    options, verified = dict(weights.options), dict[str, Any]()
    try:
        # An architecture whose tensors determine more than its name does has these two functions.
        usual = module.settings_of(fit.state, options) if hasattr(module, "settings_of") else module.SETTINGS
        settings = replace(weights.settings or usual, **given)
        settings.check()
        if hasattr(module, "options_of"):
            options = module.options_of(fit.state, settings)
        if hasattr(module, "assumed_of") and weights.settings is None:
            verified["assumed"] = module.assumed_of(fit.state, given)
        if hasattr(module, "verify"):
            found = module.verify(fit.state, settings)
            verified |= {"verified_by": found.by, **({"not_verified": found.why_not} if found.by is None else {})}
    except ValueError as error:
        raise ToolError(f"{weights.path}: {in_one_line(error)}", kind="extractor") from None
    return settings, options, verified


def _prove(architecture: str, state: Mapping[str, Tensor], settings: Settings, options: Mapping[str, Any]) -> int:
    """Embed a chip and backpropagate to it; return the embedding's dimensions, or raise ValueError."""
    import torch

    from facetools.extractors.files import build, measure

    network = build(architecture, state, settings, options)
    dimensions = measure(network, settings)
    chips = torch.rand(1, 3, *settings.input_size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out = network(chips)
    # Different weights: the sum of an embedding that ends in a normalisation may be constant.
    slope = torch.linspace(-1, 1, dimensions)
    gradient = torch.autograd.grad((out * slope).sum(), chips, allow_unused=True)[0] if out.requires_grad else None
    if gradient is None or not bool(gradient.isfinite().all()) or not bool(gradient.any()):
        raise ValueError("no gradient comes back to the chip")
    return dimensions
