"""Extractors: networks that turn an aligned face chip into an embedding. One file an architecture.

An architecture is a module here; its name is its file name. It has ``SETTINGS``, what its networks usually
want, ``network(state)``, which builds one around tensors under its own names, and ``canonical(state)``, which
brings tensors of other people's layouts under these names. No module here is imported before it is needed.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from _toolio.errors import ToolError, UsageError
from facetools.faces.templates import ALIGNMENTS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

SCHEMA = "facetools.extractor/1"

DEFAULT = "dlib-resnet"

DEFAULT_ENSEMBLE = (DEFAULT,)
"""What attacks work against unless told otherwise."""

BUILT_IN = (DEFAULT,)
"""What ``open_extractor`` knows by name; anything else is a file."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How chips are prepared for a network and what becomes of its output.

    Attributes
    ----------
    input_size
        Height and width of a chip, pixels.
    alignment
        One of ``facetools.faces.alignment.ALIGNMENTS``.
    channel_order
        ``rgb`` or ``bgr``.
    mean, std
        Of channels in that order, in units of 0 to 255: the network sees (value - mean) / std.
    normalisation
        ``l2``: embeddings are divided by their length; ``none``.
    distance
        ``cosine`` or ``euclidean``: what embeddings are compared with.
    mirrored
        The embedding of the mirrored chip is added before normalisation, as LowKey's extractors do.
    """

    input_size: tuple[int, int]
    alignment: str
    channel_order: str = "rgb"
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    normalisation: str = "l2"
    distance: str = "cosine"
    mirrored: bool = False

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Settings:
        """Read what ``asdict`` and JSON made of settings; KeyError, TypeError or ValueError if that is not it."""
        height, width = (int(side) for side in fields["input_size"])
        mean, std = (cast("tuple[float, float, float]", tuple(map(float, fields[key]))) for key in ("mean", "std"))
        words = {key: str(fields[key]) for key in ("alignment", "channel_order", "normalisation", "distance")}
        settings = cls((height, width), mean=mean, std=std, mirrored=bool(fields["mirrored"]), **words)
        settings.check()
        return settings

    def check(self) -> None:
        """Raise ValueError, with what is wrong, for settings that nothing can work with."""
        known = {
            "alignment": ALIGNMENTS,
            "channel_order": ("rgb", "bgr"),
            "normalisation": ("l2", "none"),
            "distance": ("cosine", "euclidean"),
        }
        for name, values in known.items():
            if (value := getattr(self, name)) not in values:
                raise ValueError(f"{name} {value!r} is none of {', '.join(values)}")
        if not all(16 <= side <= 1024 for side in self.input_size):
            raise ValueError(f"input_size {self.input_size} is not between 16 and 1024")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise ValueError("mean and std are not three numbers each, std above 0")


class Architecture(Protocol):
    """What a module of this package offers."""

    SETTINGS: Settings
    """What its networks usually want. ``settings_of(state, options)``, where a module has it, knows better."""

    def network(self, state: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> torch.nn.Module:
        """Build the network around these tensors: chips as ``SETTINGS`` prepares them -> float [B, D].

        The size (depth, width, embedding) is read from the tensors' names and shapes; ``options`` holds what they
        do not tell, {} for most. ValueError if no network of this architecture has such tensors.
        """

    # ``tuned(state, network)``, where a module has it, gives the tensors of a network that was built from ``state`` and
    # then tuned. Elsewhere they are the network's own.

    def canonical(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Bring tensors of a known layout under the architecture's own names.

        Names that it does not know stay as they are, and those that no embedding needs (a classifier's head,
        counters) go. Prefixes such as ``module.`` have been removed.
        """


class Problem(NamedTuple):
    """A tensor that does not match: ``missing``, ``unknown`` or of another ``shape``; ``wanted`` is then known."""

    problem: str
    key: str
    shape: tuple[int, ...] | None
    wanted: tuple[int, ...] | None

    def __str__(self) -> str:
        """Say it in a few words."""
        if self.problem == "shape":
            return f"{self.key} is {self.shape}, not {self.wanted}"
        return f"{self.problem} {self.key} {self.wanted if self.shape is None else self.shape}"


class MismatchedTensorsError(ValueError):
    """Tensors are not those of a network.

    Attributes
    ----------
    problems
        All that differs.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = tuple(problems)


def load_exactly(network: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Put tensors into a network, which may be on the meta device, as float32.

    Raises
    ------
    MismatchedTensorsError
        A ValueError that lists what differs.
    """
    import torch

    tensors = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    # Batch normalisation counts its batches; nothing reads the counters.
    for key in wanted.keys() - tensors.keys():
        if key.endswith("num_batches_tracked"):
            tensors[key] = torch.zeros((), dtype=torch.long)
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    wrong = [Problem("missing", key, None, wanted[key]) for key in wanted if key not in found]
    wrong += [Problem("unknown", key, shape, None) for key, shape in found.items() if key not in wanted]
    wrong += [
        Problem("shape", key, shape, wanted[key])
        for key, shape in found.items()
        if key in wanted and shape != wanted[key]
    ]
    if wrong:
        raise MismatchedTensorsError(wrong)
    network.load_state_dict(tensors, assign=True)
    return network


@cache
def architectures() -> tuple[str, ...]:
    """List the architectures there are, by their files."""
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)))


def find_architecture(name: str) -> Architecture:
    """Find an architecture by name.

    Raises
    ------
    UsageError
        There is none; the message lists those there are.
    """
    if name not in architectures():
        raise UsageError(f"architecture {name}: not known; choose from {', '.join(architectures())}")
    return cast("Architecture", importlib.import_module(f"{__name__}.{name.replace('-', '_')}"))


def check_name(name: str) -> str:
    """Refuse an extractor that is neither built in nor a file, before anything heavy is imported."""
    return check_named("--extractor", name)


def check_named(option: str, name: str) -> str:
    """Do so for another option, which the message names."""
    if name not in BUILT_IN and not Path(name).is_file():
        raise UsageError(
            f"{option} {name}: neither a file nor one of {', '.join(BUILT_IN)}; "
            "`facetools import-extractor` makes such files"
        )
    return name


@dataclass(frozen=True, slots=True)
class Extractor:
    """An extractor that is ready to use.

    Attributes
    ----------
    name
        What records call it: a built-in name, or the file's name without its ending.
    architecture
        The module that built it.
    network
        float32 [B, 3, height, width] chips, RGB in [0, 1] -> float32 [B, dimensions]; frozen, differentiable
        with respect to the chips. Preparation and normalisation are part of it.
    settings
        How chips are cut and compared.
    dimensions
        Length of an embedding.
    sha256
        Of the file that the weights were read from.
    options
        What its architecture needs to know besides the tensors.
    people
        Whose photos it was trained on, where its file says so.
    """

    name: str
    architecture: str
    network: torch.nn.Module
    settings: Settings
    dimensions: int
    sha256: str
    options: Mapping[str, Any] = field(default_factory=dict)
    people: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a chip, pixels."""
        return self.settings.input_size

    @property
    def alignment(self) -> str:
        """How its chips are cut."""
        return self.settings.alignment

    @property
    def distance(self) -> str:
        """``cosine`` or ``euclidean``."""
        return self.settings.distance

    @property
    def template(self) -> npt.NDArray[np.float64] | None:
        """Where the landmarks belong in a chip, [5, 2], pixels; None where they play no part."""
        from facetools.faces.alignment import template_of

        return template_of(self.alignment, self.size)

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        weights: torch.Tensor = next(iter(self.network.state_dict().values()))
        return weights.device


def open_extractor(name: str, device: torch.device) -> Extractor:
    """Open an extractor.

    Parameters
    ----------
    name
        One of ``BUILT_IN``, or a file that ``save_extractor`` wrote.
    device
        Where it computes.

    Raises
    ------
    UsageError
        No extractor has this name.
    ToolError
        Its weights are missing, changed or damaged.
    """
    check_name(name)
    if name == DEFAULT:
        from facetools.extractors import dlib_resnet

        return dlib_resnet.open_default(device)
    from facetools.extractor_files import open_file

    return open_file(Path(name), device)


def open_extractors(names: list[str], device: torch.device) -> list[Extractor]:
    """Open several extractors; records and metadata tell them apart by name, so names must differ."""
    opened = [open_extractor(name, device) for name in dict.fromkeys(names)]
    for extractor in opened:
        if [each.name for each in opened].count(extractor.name) > 1:
            raise ToolError(f"two extractors are called {extractor.name}; rename one of the files", kind="extractor")
    return opened
