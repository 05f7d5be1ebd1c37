"""LPIPS, the perceptual distance of AlexNet's features (Zhang et al. 2018, arXiv 1801.03924).

AlexNet's weights are not part of this project: they are read from a file or from torchvision's cache, and
downloaded only on request.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from urllib.parse import urlparse

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from _toolio.errors import ToolError, UsageError, in_one_line, param
from _toolio.tensors.torch_files import load_torch, read_tensors

SMALLEST_PX = 64
"""Photos whose shorter side is shorter are enlarged to it: AlexNet's last map would be empty below 63."""

# Number of the layer in torchvision's AlexNet -> weight's shape, stride, padding, and whether a 3x3 pool
# (stride 2) comes before it.
_LAYERS: dict[int, tuple[tuple[int, int, int, int], int, int, bool]] = {
    0: ((64, 3, 11, 11), 4, 2, False),
    3: ((192, 64, 5, 5), 1, 2, True),
    6: ((384, 192, 3, 3), 1, 1, True),
    8: ((256, 384, 3, 3), 1, 1, False),
    10: ((256, 256, 3, 3), 1, 1, False),
}
# Of photos in [-1, 1].
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPSILON = 1e-10

_CONVOLUTION = re.compile(r"(?:^|\.)(?:features|slice\d)\.(\d+)\.(weight|bias)$")
_LINEAR = re.compile(r"(?:^|\.)lins?\.?(\d)(?:\.model)?(?:\.\d)?\.weight$")


class Lpips:
    """LPIPS with AlexNet's features.

    With ``f_l`` a layer's output behind its ReLU, scaled to length 1 at each position, ``P`` is the sum over five
    layers of the mean over positions of ``sum_c w_lc (f_lc(x) - f_lc(y))^2`` (equation 1).

    Parameters
    ----------
    convolutions
        Five pairs of weight and bias, as in torchvision's AlexNet.
    linear
        Five vectors w_l; None: all ones, the paper's uncalibrated variant.
    device
        Where to compute.

    Attributes
    ----------
    name
        ``lpips-alex``, or ``lpips-alex-baseline`` without ``linear``. The two have different scales.
    sha256
        Of the tensors that are used, float32, in order, whatever file they came from.
    """

    def __init__(
        self, convolutions: Sequence[tuple[Tensor, Tensor]], linear: Sequence[Tensor] | None, device: torch.device
    ) -> None:
        self.name = "lpips-alex-baseline" if linear is None else "lpips-alex"
        layers = [tensor.detach().float().contiguous() for pair in convolutions for tensor in pair]
        weights = [torch.ones(len(weight)) for weight in layers[::2]] if linear is None else linear
        weights = [weight.detach().float().flatten().contiguous() for weight in weights]
        digest = hashlib.sha256()
        for tensor in (*layers, *weights):
            digest.update(tensor.cpu().numpy().tobytes())
        self.sha256: str | None = digest.hexdigest()
        self._weights = [w.to(device, memory_format=torch.channels_last) for w in layers[::2]]
        self._biases = [b.to(device) for b in layers[1::2]]
        self._linear = [w.to(device).view(1, -1, 1, 1) for w in weights]
        scale = torch.tensor(_SCALE, device=device).view(1, 3, 1, 1)
        # x in [0, 1] -> ((2 x - 1) - shift) / scale
        self._factor, self._offset = 2 / scale, (1 + torch.tensor(_SHIFT, device=device).view(1, 3, 1, 1)) / scale

    def features(self, photos: Tensor) -> list[Tensor]:
        """Return five feature maps, float32 [B, C, h, w], normalised over C, of float32 [B, 3, H, W] in [0, 1]."""
        height, width = photos.shape[-2:]
        if min(height, width) < SMALLEST_PX:
            ratio = SMALLEST_PX / min(height, width)
            size = (round(height * ratio), round(width * ratio))
            photos = F.interpolate(photos, size, mode="bilinear", align_corners=False)
        x = (photos * self._factor - self._offset).contiguous(memory_format=torch.channels_last)
        maps = []
        for weight, bias, (_, stride, padding, pooled) in zip(
            self._weights, self._biases, _LAYERS.values(), strict=True
        ):
            if pooled:
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            # vector_norm, unlike a square root, has a finite slope where all channels are 0.
            y = x.float()
            maps.append(y / (torch.linalg.vector_norm(y, dim=1, keepdim=True) + _EPSILON))
        return maps

    def compare(self, maps: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """Return the distances, float32 [m * B], between ``features`` of m * B photos and those of B clean ones."""
        total = maps[0].new_zeros(len(maps[0]))
        for ours, theirs, weight in zip(maps, others, self._linear, strict=True):
            # Version by version: a broadcast fifth dimension would leave the channels_last layout.
            parts = [(part - theirs).square() for part in torch.split(ours, max(len(theirs), 1))]
            total = total + (torch.cat(parts) * weight).sum(1).mean((1, 2))
        return total

    def distance(self, photos: Tensor, clean: Tensor) -> Tensor:
        """Return LPIPS, float32 [B], of float32 [B, 3, H, W] in [0, 1]."""
        return self.compare(self.features(photos), self.features(clean))

    def to(self, clean: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> LpipsTo:
        """Prepare for distances to one batch of clean photos, float32 [B, 3, H, W] in [0, 1]; the rest is padding."""
        return LpipsTo(self, clean, sizes)


class LpipsTo:
    """LPIPS to one batch of clean photos, whose features are computed once.

    Parameters
    ----------
    measure
        The distance.
    clean
        float32 [B, 3, H, W] in [0, 1].
    sizes
        Height and width of each photo that lies in the upper left of ``clean``; the rest is padding and does not
        count. None: there is no padding. Photos of one size are computed together.
    """

    def __init__(self, measure: Lpips, clean: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> None:
        self._measure, self._count = measure, len(clean)
        given = [(clean.shape[-2], clean.shape[-1])] * len(clean) if sizes is None else list(sizes)
        self._groups: list[tuple[tuple[int, int], list[int]]] = [
            (size, [n for n, own in enumerate(given) if own == size]) for size in dict.fromkeys(given)
        ]
        # In inference mode too they must serve gradients later.
        with torch.inference_mode(False), torch.no_grad():
            clean = clean.detach().clone()
            self._maps = [measure.features(clean[own, :, :h, :w]) for (h, w), own in self._groups]

    def __call__(self, photos: Tensor) -> Tensor:
        """Return LPIPS, float32 [m * B], of [m * B, 3, H, W]; gradients go to ``photos``."""
        if len(self._groups) == 1 and self._groups[0][0] == tuple(photos.shape[-2:]):
            return self._measure.compare(self._measure.features(photos), self._maps[0])
        times = len(photos) // max(self._count, 1)
        versions = photos.view(times, self._count, *photos.shape[1:])
        out = photos.new_zeros(times, self._count)
        for ((height, width), own), maps in zip(self._groups, self._maps, strict=True):
            part = versions[:, own, :, :height, :width].flatten(0, 1)
            out[:, own] = self._measure.compare(self._measure.features(part), maps).view(times, -1)
        return out.flatten()


def open_lpips(weights: Path | None, *, allow_download: bool, device: torch.device) -> Lpips | None:
    """Open LPIPS with AlexNet's weights, from a file or from torchvision's cache.

    Parameters
    ----------
    weights
        A file of torchvision's AlexNet, ``.pth`` or ``.safetensors``; it may hold LPIPS's linear layers too. None:
        torchvision's cache, where its own AlexNet leaves the file.
    allow_download
        Download what is not in the cache, as torchvision would.
    device
        Where it computes.

    Returns
    -------
    Lpips or None
        None: there are no weights and none may be downloaded. The linear layers are those of the file or of the
        installed ``lpips`` package; without either it is the uncalibrated variant, and its name says so.

    Raises
    ------
    UsageError
        There is no such file.
    ToolError
        A file is damaged or not AlexNet's, or the download failed.
    """
    if weights is not None and not weights.is_file():
        raise UsageError(f"{param('lpips_weights')} {weights}: no such file")
    path = weights or _cached(allow_download=allow_download)
    if path is None:
        return None
    remedy = "give another file" if weights else f"delete it, or give another file with {param('lpips_weights')}"
    state = _read(path, remedy)
    try:
        convolutions, linear = _convolutions(state), _linear(state)
    except ValueError as error:
        raise ToolError(f"{path}: not AlexNet's weights: {error}; {remedy}", kind="lpips") from None
    return Lpips(convolutions, linear or _packaged_linear(), device)


def _alexnet_url() -> str:
    from torchvision.models import AlexNet_Weights

    return str(AlexNet_Weights.IMAGENET1K_V1.url)


def _cached(*, allow_download: bool) -> Path | None:
    """Find, or fetch, the file in torchvision's cache."""
    url = _alexnet_url()
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if path.is_file():
        return path
    if not allow_download:
        return None
    # Its name holds the first digits of its sha256.
    start = re.search(r"-([0-9a-f]{8,})\.", path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Writes beside the final name and renames, like load_state_dict_from_url, which would print.
        torch.hub.download_url_to_file(url, str(path), start.group(1) if start else None, progress=False)
    except (OSError, RuntimeError) as error:
        raise ToolError(
            f"{url}: download failed: {in_one_line(error)}; try again, or give a file with {param('lpips_weights')}",
            kind="download",
        ) from None
    return path


def _read(path: Path, remedy: str) -> dict[str, Tensor]:
    """Read tensors without running anything that a file says."""
    if path.suffix == ".safetensors":
        return read_tensors(path, lambda name: _CONVOLUTION.search(name) or _LINEAR.search(name))
    try:
        state = load_torch(path)
    except ToolError as error:
        raise ToolError(f"{error.message}; {remedy}", kind="lpips") from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping):
        raise ToolError(f"{path}: holds no named tensors; {remedy}", kind="lpips")
    return {str(name): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def _convolutions(state: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    found = {match.groups(): tensor for name, tensor in state.items() if (match := _CONVOLUTION.search(name))}
    pairs = []
    for number, (shape, *_) in _LAYERS.items():
        pair = [found.get((str(number), part)) for part in ("weight", "bias")]
        for part, tensor, wanted in zip(("weight", "bias"), pair, (shape, shape[:1]), strict=True):
            if tensor is None:
                raise ValueError(f"features.{number}.{part} is missing")
            if tuple(tensor.shape) != wanted:
                raise ValueError(f"features.{number}.{part} is {tuple(tensor.shape)}, not {wanted}")
            if not bool(tensor.isfinite().all()):
                raise ValueError(f"features.{number}.{part} is not finite")
        weight, bias = pair
        assert weight is not None
        assert bias is not None
        pairs.append((weight, bias))
    return pairs


def _linear(state: Mapping[str, Tensor]) -> list[Tensor] | None:
    """Find the five linear layers; None if there is none at all."""
    found = {int(match.group(1)): tensor for name, tensor in state.items() if (match := _LINEAR.search(name))}
    if not found:
        return None
    for number, (shape, *_) in enumerate(_LAYERS.values()):
        if number not in found:
            raise ValueError(f"linear layer {number} is missing")
        if found[number].numel() != shape[0] or not bool(found[number].isfinite().all()):
            raise ValueError(f"linear layer {number} is {tuple(found[number].shape)}, not {shape[0]} finite values")
    return [found[number] for number in range(len(_LAYERS))]


def _packaged_linear() -> list[Tensor] | None:
    """Read the linear layers that the installed ``lpips`` package carries, without importing it."""
    try:
        path = Path(str(metadata.distribution("lpips").locate_file("lpips/weights/v0.1/alex.pth")))
    except metadata.PackageNotFoundError:
        return None
    if not path.is_file():
        return None
    remedy = "try pip install --force-reinstall --no-deps lpips"
    try:
        return _linear(_read(path, remedy))
    except ValueError as error:
        raise ToolError(f"{path}: {error}; {remedy}", kind="lpips") from None
