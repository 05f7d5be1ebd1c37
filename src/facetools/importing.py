"""Turning the weights that people have into extractor files: reading, recognising, matching names, writing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.errors import ToolError, UsageError
from _toolio.files.hashing import sha256_of, sha256_of_files
from _toolio.tensors.torch_files import load_torch, read_tensors
from facetools.extractors import SCHEMA, MismatchedTensorsError, Problem, Settings, architectures, find_architecture

if TYPE_CHECKING:
    from torch import Tensor

_TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".tar")

# Parts of names that only say what a network was wrapped in when its weights were saved.
_WRAPPERS = frozenset({
    "module", "model", "features", "backbone", "net", "network", "encoder", "extractor", "feature_extractor",
    "student", "teacher", "ema", "clip", "_orig_mod",
})  # fmt: skip

# Where checkpoints keep the weights; of several that fit, the first.
_CONTAINERS = ("", "state_dict", "net_state_dict", "model_state_dict", "model", "backbone", "net")


# --- what the command line says -----------------------------------------------------------------------


def parse_settings(words: Mapping[str, str | bool | None]) -> dict[str, Any]:
    """Read settings as they are typed, without those that are None.

    Parameters
    ----------
    words
        Fields of :class:`~facetools.extractors.Settings`: ``input_size`` as ``112`` or ``112x96`` (height first),
        ``mean`` and ``std`` as one number or three with commas, the others as they are.

    Raises
    ------
    UsageError
        One of them cannot be.
    """
    given: dict[str, Any] = {name: value for name, value in words.items() if value is not None}
    for name, value in given.items():
        option = f"--{name.replace('_', '-')} {value}"
        if name == "input_size":
            if not (found := re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", value)):
                raise UsageError(f"{option}: give pixels, as 112, or height and width, as 112x96")
            given[name] = (int(found[1]), int(found[2] or found[1]))
        elif name in ("mean", "std"):
            if not re.fullmatch(r"-?\d+(\.\d+)?(,-?\d+(\.\d+)?,-?\d+(\.\d+)?)?", value):
                raise UsageError(f"{option}: give one number or three with commas, in units of 0 to 255")
            numbers = [float(number) for number in value.split(",")]
            given[name] = tuple(numbers * (3 // len(numbers)))
        try:
            replace(Settings((112, 112), "none"), **{name: given[name]}).check()
        except ValueError as error:
            raise UsageError(f"{option}: {error}") from None
    return given


# --- reading ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    Attributes
    ----------
    path
        The file or folder.
    containers
        Every group of tensors in it, by the place where it was found ("" for the file itself).
    sha256
        Of the file; of a folder's files that were read, one behind the other.
    architecture
        Where the file tells it.
    options
        What the architecture needs to know besides the tensors.
    settings
        Where the file tells them.
    """

    path: Path
    containers: Mapping[str, Mapping[str, Tensor]]
    sha256: str
    architecture: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Settings | None = None


def read_weights(path: Path) -> Weights:
    """Read a file of weights, or a Hugging Face folder of a CLIP. Nothing is ever unpickled.

    Parameters
    ----------
    path
        ``.pth``, ``.pt``, ``.ckpt``, ``.bin``, ``.tar`` (torch), ``.safetensors``, ``.onnx``, ``.dat`` (dlib's
        face recognition network), or a folder with ``config.json``.

    Raises
    ------
    ToolError
        It is none of these, damaged, or holds Python objects that only unpickling could make.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise ToolError(f"{path}: no such file", kind="not-found")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return _read_safetensors(path)
    if suffix == ".onnx":
        return _read_onnx(path)
    if suffix == ".dat":
        import torch

        from facetools.extractors.dlib_resnet import read_dat

        state = {key: torch.from_numpy(value) for key, value in read_dat(path).items()}
        return Weights(path, {"": state}, sha256_of_files(path), "dlib-resnet")
    if suffix in _TORCH_SUFFIXES:
        return Weights(path, _containers_of(path, load_torch(path)), sha256_of_files(path))
    raise ToolError(
        f"{path}: {suffix or 'no ending'} is of no known kind; give {', '.join(_TORCH_SUFFIXES)}, .safetensors, .onnx,"
        " .dat or a Hugging Face folder",
        kind="unknown-kind",
    )


def _containers_of(path: Path, loaded: object) -> dict[str, dict[str, Tensor]]:
    found = dict(_walk(loaded, "", 3))
    if not found:
        raise ToolError(f"{path}: no tensors by name in it; give a network's state dict", kind="no-weights")
    return found


def _walk(loaded: object, name: str, levels: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    import torch

    if not isinstance(loaded, Mapping):
        return
    named = [(key, value) for key, value in loaded.items() if isinstance(key, str)]
    tensors = {key: v for key, v in named if isinstance(v, torch.Tensor) and v.layout == torch.strided}
    if tensors:
        yield name, tensors
    for key, value in named:
        if levels:
            yield from _walk(value, f"{name}.{key}" if name else key, levels - 1)


def _read_safetensors(path: Path) -> Weights:
    from _toolio.tensors.safetensors_files import read_metadata
    from facetools.extractor_files import read_about

    containers = {"": _tensors_of(path)}
    if "schema" not in read_metadata(path):
        return Weights(path, containers, sha256_of_files(path))
    about = read_about(path)
    try:
        settings = Settings.read(about["settings"])
        options = dict(about["options"])
    except (KeyError, TypeError, ValueError) as error:
        raise ToolError(
            f"{path}: its {SCHEMA} metadata is damaged: {error}; import it anew", kind="extractor"
        ) from None
    return Weights(path, containers, sha256_of_files(path), about["architecture"], options, settings)


def _tensors_of(path: Path) -> dict[str, Tensor]:
    tensors = read_tensors(path)
    if not tensors:
        raise ToolError(f"{path}: no tensor in it", kind="no-weights")
    return tensors


def _read_onnx(path: Path) -> Weights:
    import torch

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror or error}", kind="unreadable") from None
    if not data:
        raise ToolError(f"{path}: empty; copy it again", kind="truncated")
    graph = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return Weights(path, {"": {"graph": graph}}, sha256_of(data), "onnx")


def _read_folder(folder: Path) -> Weights:
    """Read the ``config.json`` and the weights, whole or in shards, of a Hugging Face folder."""
    from facetools.extractors.clip import read_config

    config = folder / "config.json"
    try:
        fields = json.loads(config.read_bytes())
        options = read_config(fields if isinstance(fields, dict) else {})
    except FileNotFoundError:
        raise ToolError(
            f"{folder}: no config.json in it; give a file or a Hugging Face folder", kind="missing"
        ) from None
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise ToolError(f"{folder}: not the folder of a CLIP: {_one_line(error)}", kind="bad-folder") from None
    files = _weight_files(folder)
    if files[0].suffix == ".bin":
        containers = _containers_of(files[0], load_torch(files[0]))
    else:
        containers = {"": {key: value for file in files for key, value in _tensors_of(file).items()}}
    return Weights(folder, containers, sha256_of_files(config, *files), "clip", options)


def _weight_files(folder: Path) -> list[Path]:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
    index = folder / "model.safetensors.index.json"
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        # A shard lies in the folder: what an index says must not lead anywhere else.
        if names and all(Path(name).name == name for name in names):
            return [folder / name for name in names]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ToolError(f"{folder}: no model.safetensors, whole or in shards, and no pytorch_model.bin", kind="missing")


# --- matching -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """An attempt to read tensors as an architecture's.

    Attributes
    ----------
    architecture, container, prefix
        What was tried.
    state
        Tensors under the architecture's own names.
    left_out
        Tensors that no embedding needs.
    problems
        What does not match, tensor by tensor.
    trouble
        What does not match, in words; empty for a perfect fit.
    """

    architecture: str
    container: str
    prefix: str
    state: Mapping[str, Tensor]
    left_out: int
    problems: tuple[Problem, ...]
    trouble: str

    @property
    def matched(self) -> int:
        """How many tensors found their place; 0 where the architecture could not even be laid out."""
        if self.trouble and not self.problems:
            return 0
        return len(self.state) - sum(problem.problem != "missing" for problem in self.problems)


class MismatchError(ToolError):
    """Weights are not those of the architecture, or of any.

    Attributes
    ----------
    fit
        The attempt that came nearest.
    """

    def __init__(self, path: Path, fit: Fit, *, told: bool, asked: bool) -> None:
        self.fit = fit
        what = fit.trouble
        if fit.problems:
            kinds = [each.problem for each in fit.problems]
            what = (
                f"{fit.matched} tensors match, {kinds.count('missing')} are missing, {kinds.count('unknown')} unknown,"
                f" {kinds.count('shape')} of another shape, such as {', '.join(each.key for each in fit.problems[:3])}"
            )
        if told:
            message = f"not a usable {fit.architecture}: {what}{'; try another --architecture' if asked else ''}"
        elif fit.matched:
            message = f"of no known architecture; the nearest is {fit.architecture}: {what}; try --architecture"
        else:
            message = "of no known architecture; `facetools extractors` lists those there are"
        super().__init__(f"{path}: {message}", kind="mismatch")


def match(weights: Weights, architecture: str | None) -> Fit:
    """Find the names under which an architecture knows the tensors.

    Parameters
    ----------
    weights
        What :func:`read_weights` found.
    architecture
        Its name; None: the file's own word, or the only one that fits.

    Raises
    ------
    MismatchError
        Nothing fits.
    UsageError
        The file is of another architecture, or several fit.
    """
    if architecture and weights.architecture and architecture != weights.architecture:
        raise UsageError(f"--architecture {architecture}: {weights.path} is of {weights.architecture}; leave it out")
    told = architecture or weights.architecture
    places = sorted(weights.containers, key=lambda name: _CONTAINERS.index(name) if name in _CONTAINERS else 99)
    fits = [
        _try(name, weights, place, prefix)
        for place in places
        for prefix in _prefixes(weights.containers[place])
        for name in ([told] if told else architectures())
    ]
    # Of equals the first wins: the usual place in the file, the shortest prefix.
    best = max(fits, key=lambda fit: (not fit.trouble, fit.matched, -len(fit.problems)))
    if best.trouble:
        raise MismatchError(weights.path, best, told=told is not None, asked=architecture is not None)
    if len(names := {fit.architecture for fit in fits if not fit.trouble and fit.matched == best.matched}) > 1:
        raise UsageError(f"{weights.path}: fits {', '.join(sorted(names))}; say which with --architecture")
    return best


def _prefixes(state: Mapping[str, Tensor]) -> list[str]:
    """List what may stand in front of a network's own names: words for wrappers, and what all keys begin with."""
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


def _try(architecture: str, weights: Weights, container: str, prefix: str) -> Fit:
    module = find_architecture(architecture)
    # Batch normalisation counts its batches; nothing reads the counters.
    given = {k: v for k, v in weights.containers[container].items() if not k.endswith("num_batches_tracked")}
    named: dict[str, Tensor] = {}
    left_out = 0
    trouble, problems = "", tuple[Problem, ...]()
    try:
        named = module.canonical({k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)})
        # By identity: some architectures add tensors of their own.
        kept = {id(value) for value in named.values()}
        left_out = sum(id(value) not in kept for value in given.values())
        named = {key: _as_stored(value) for key, value in named.items()}
        module.network(named, weights.options)
    except (ValueError, LookupError, RuntimeError, TypeError) as error:
        # Tensors of any name and shape come here, and layers that they do not suit refuse them in their own words.
        trouble = _one_line(error) or type(error).__name__
        problems = error.problems if isinstance(error, MismatchedTensorsError) else ()
    return Fit(architecture, container, prefix, named, left_out, problems, trouble)


def _as_stored(value: Tensor) -> Tensor:
    return value.detach().float() if value.is_floating_point() else value.detach()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


# --- writing ------------------------------------------------------------------------------------------


def import_extractor(
    source: Path,
    out: Path,
    architecture: str | None = None,
    given: Mapping[str, Any] | None = None,
    *,
    half: bool = False,
    version: str = "",
) -> dict[str, Any]:
    """Write an extractor file from somebody's weights.

    Parameters
    ----------
    source
        What :func:`read_weights` reads.
    out
        The file to write; complete or absent.
    architecture
        None: what the file tells, or the only one that fits.
    given
        Settings that differ from the file's or the architecture's own; see :func:`parse_settings`.
    half
        Store float16.
    version
        Of the tool, for the metadata.

    Returns
    -------
    dict
        A record of what was written.

    Raises
    ------
    MismatchError
        The tensors are others'.
    UsageError
        ``architecture`` or ``half`` cannot be asked of this file.
    ToolError
        The file is damaged, or what it holds is no extractor: no embedding comes out, or no gradient goes in.
    """
    from facetools.extractor_files import save_extractor

    weights = read_weights(source)
    fit = match(weights, architecture)
    if half and not any(value.is_floating_point() for value in fit.state.values()):
        raise UsageError(f"--half: {source} keeps its numbers in a graph of its own; leave it out")
    settings, options = _complete(weights, fit, dict(given or {}))
    state = {k: v.half() if half and v.is_floating_point() else v for k, v in fit.state.items()}
    try:
        dimensions = _prove(fit.architecture, state, settings, options)
    except (ValueError, RuntimeError) as error:
        height, width = settings.input_size
        raise ToolError(
            f"{source}: not a usable {fit.architecture} for chips of {height}x{width}: {_one_line(error)};"
            " try another --input-size or --architecture",
            kind="extractor",
        ) from None
    origin = {"name": source.resolve().name, "sha256": weights.sha256, "container": fit.container, "prefix": fit.prefix}
    arguments = {"architecture": architecture, **(given or {}), "half": half}
    about = {"dimensions": dimensions, "source": origin, "version": version, "arguments": arguments}
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
    }


def _complete(weights: Weights, fit: Fit, given: dict[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Settle settings, those given before the file's before the architecture's, and the options that follow."""
    module: Any = find_architecture(fit.architecture)
    options = dict(weights.options)
    try:
        # An architecture whose tensors tell more than its name has these two functions.
        usual = module.settings_of(fit.state, options) if hasattr(module, "settings_of") else module.SETTINGS
        settings = replace(weights.settings or usual, **given)
        settings.check()
        if hasattr(module, "options_of"):
            options = module.options_of(fit.state, settings)
    except ValueError as error:
        raise ToolError(f"{weights.path}: {_one_line(error)}", kind="extractor") from None
    return settings, options


def _prove(architecture: str, state: Mapping[str, Tensor], settings: Settings, options: Mapping[str, Any]) -> int:
    """Embed a chip and send a gradient back to it: the length of an embedding, or ValueError."""
    import torch

    from facetools.extractor_files import build, measure

    network = build(architecture, state, settings, options)
    dimensions = measure(network, settings)
    chips = torch.rand(1, 3, *settings.input_size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out = network(chips)
    # Weights that differ: the sum of an embedding that ends in a normalisation may be constant.
    slope = torch.linspace(-1, 1, dimensions)
    gradient = torch.autograd.grad((out * slope).sum(), chips, allow_unused=True)[0] if out.requires_grad else None
    if gradient is None or not bool(gradient.isfinite().all()) or not bool(gradient.any()):
        raise ValueError("no gradient comes back to the chip")
    return dimensions
