"""Read and write extractor files: safetensors with the architecture and the settings in their metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from _toolio.errors import ToolError, in_one_line
from _toolio.files.hashing import sha256_of_files
from _toolio.tensors.reader import read_metadata
from _toolio.tensors.torch_files import read_tensors
from facetools.extractors.extractor import Extractor
from facetools.extractors.registry import architectures, find_architecture
from facetools.extractors.settings import Settings
from facetools.extractors.tensor_files import save_tensors

SCHEMA = "facetools.extractor/1"


class Prepared(nn.Module):
    """A network with its input preparation and output normalisation.

    Parameters
    ----------
    network
        Maps prepared chips to float [B, D].
    settings
        How chips are prepared and outputs normalised.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, settings: Settings) -> None:
        super().__init__()
        self.network, self.settings = network, settings
        # The chips come in [0, 1]; buffers move with the network and are no part of the file.
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) / 255 for values in (settings.mean, settings.std))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, chips: Tensor) -> Tensor:
        """Embed float32 [B, 3, height, width] chips, RGB in [0, 1]: float32 [B, D]."""
        x = chips.flip(1) if self.settings.channel_order == "bgr" else chips
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        y: Tensor = self.network(x)
        if self.settings.mirrored:
            y = y + self.network(x.flip(3))
        return nn.functional.normalize(y) if self.settings.normalisation == "l2" else y


def build(architecture: str, state: Mapping[str, Tensor], settings: Settings, options: Mapping[str, Any]) -> Prepared:
    """Build a frozen network, in eval mode, from tensors under the architecture's own names.

    Raises
    ------
    ValueError
        The tensors are not those of this architecture.
    """
    network = find_architecture(architecture).network(state, options)
    prepared = Prepared(network, settings).eval()
    prepared.requires_grad_(False)
    return prepared.to(memory_format=torch.channels_last)


def measure(prepared: nn.Module, settings: Settings) -> int:
    """Return the dimensions of a network's embeddings; ValueError if its output is not one finite row a chip."""
    with torch.inference_mode():
        out = prepared(torch.full((1, 3, *settings.input_size), 0.5))
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != 1:
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(f"its output is {shape}, not [1, D]")
    if not bool(out.isfinite().all()):
        raise ValueError("its output is not finite")
    return out.shape[1]


def save_extractor(
    path: Path,
    architecture: str,
    state: Mapping[str, Tensor],
    settings: Settings,
    about: Mapping[str, Any],
    *,
    options: Mapping[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write an extractor file.

    Parameters
    ----------
    path
        Complete or absent.
    architecture
        A name of ``facetools.extractors.registry.architectures``.
    state
        Tensors under the architecture's own names.
    settings
        How chips are prepared.
    about
        More metadata: the source of the weights; ``dimensions``.
    options
        What the architecture needs besides the tensors.
    half
        Store float16, half the size; they are read as float32.
    """
    tensors = {
        key: value.detach().cpu().numpy().astype(np.float16)
        if half and value.is_floating_point()
        else np.array(value.detach().cpu().numpy(), order="C")
        for key, value in state.items()
    }
    metadata = {"schema": SCHEMA, "architecture": architecture, "settings": asdict(settings)}
    metadata |= {"options": dict(options or {}), **about}
    save_tensors(path, tensors, metadata)


def tensors_of(prepared: Prepared, architecture: str, source: Path | None) -> dict[str, Tensor]:
    """Return the tensors to save of a fine-tuned network; ``source`` is the file that it was opened from, if any."""
    tuned = getattr(find_architecture(architecture), "tuned", None)
    if tuned is None or source is None:
        return dict(prepared.network.state_dict())
    given: dict[str, Tensor] = tuned(read_tensors(source), prepared.network)
    return given


def read_about(path: Path) -> dict[str, Any]:
    """Read the metadata of an extractor file.

    Raises
    ------
    ToolError
        It is not an extractor file, or of an unknown version or architecture.
    """
    metadata = read_metadata(path)
    if metadata.get("schema") != SCHEMA:
        found = metadata.get("schema")
        what = f"it is {found}" if found else "it does not say what it is"
        raise ToolError(
            f"{path}: not an extractor file: {what}; make one with `facetools import-extractor`", kind="extractor"
        )
    if metadata.get("architecture") not in architectures():
        raise ToolError(f"{path}: architecture {metadata.get('architecture')!r} is not known", kind="extractor")
    return metadata


def open_file(path: Path, device: torch.device, *, name: str | None = None) -> Extractor:
    """Open an extractor file.

    Parameters
    ----------
    path
        A file of ``save_extractor``.
    device
        Where it computes.
    name
        Name of the extractor; None: the file's name without its ending.

    Raises
    ------
    ToolError
        It is not an extractor file, or damaged.
    """
    about = read_about(path)
    architecture = about["architecture"]
    state = read_tensors(path)
    options, people = about.get("options", {}), about.get("people", [])
    try:
        if not (isinstance(people, list) and all(isinstance(person, str) for person in people)):
            raise TypeError("the people that it was trained on are no list of names")
        settings = Settings.read(about["settings"])
        network = build(architecture, state, settings, dict(options))
        dimensions = measure(network, settings)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        why = in_one_line(error)
        raise ToolError(f"{path}: not a usable {architecture}: {why}; import it again", kind="extractor") from None
    digest = sha256_of_files(path)
    name = name or path.stem
    return Extractor(name, architecture, network.to(device), settings, dimensions, digest, options, tuple(people))
