"""The three networks of MTCNN: P-Net proposes faces, R-Net refuses most proposals, O-Net places landmarks.

Zhang, Zhang, Li and Qiao 2016, "Joint face detection and alignment using multi-task cascaded convolutional
networks", arXiv 1604.02878, figure 2. All three take RGB as value - 127.5 and answer, for each window, with
the probability of a face and with where the face's box lies in units of the window's side.

They do the arithmetic of the paper's networks in fewer steps: the inputs' scale of 1/128 is in the first weights,
and what a window is answered with comes out of one layer, ``answer``, and not of one for each part of it.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from facetools.faces.mtcnn_weights import Net, state_dict

__all__ = ["ONet", "PNet", "RNet", "load"]

GREY = 127.5
"""Subtracted from 8-bit RGB values before a network sees them."""


class PNet(nn.Module):
    """The fully convolutional first network: a 12x12 window every 2 pixels.

    ``forward`` takes float32 [B, 3, H, W] with H, W >= 12 and returns the probability of a face [B, h, w] and
    the box offsets (x0, y0, x1, y1) [B, 4, h, w], with h = ceil((H - 2) / 2) - 4 and w likewise. Cell (i, j)
    looks at the window whose upper left pixel is (2i, 2j).
    """

    def __init__(self) -> None:
        super().__init__()
        # 10 channels in the paper. Those padded with zeros change no result; PReLU over 10 channels takes three times
        # as long as over 16 in channels_last memory.
        self.conv1, self.prelu1 = nn.Conv2d(3, 16, 3), nn.PReLU(16)
        self.conv2, self.prelu2 = nn.Conv2d(16, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.answer = nn.Conv2d(32, 5, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Look at every window of a batch of pictures; shapes as the class says."""
        x = _halved(self.prelu1(self.conv1(x)))
        x = self.prelu2(self.conv2(x))
        x = self.prelu3(self.conv3(x))
        x = self.answer(x)
        return x[:, 0].sigmoid(), x[:, 1:]


class RNet(nn.Module):
    """The second network: float32 [B, 3, 24, 24] to probabilities [B] and box offsets [B, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)  # 28 channels in the paper
        self.conv2, self.prelu2 = nn.Conv2d(32, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.fc4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.answer = nn.Linear(128, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Look at a batch of windows; shapes as the class says."""
        x = _pooled(self.prelu1(self.conv1(x)))  # [B, 32, 11, 11]
        x = _pooled(self.prelu2(self.conv2(x)))  # [B, 48, 4, 4]
        x = self.prelu3(self.conv3(x))  # [B, 64, 3, 3]
        x = self.prelu4(self.fc4(x.permute(0, 2, 3, 1).flatten(1)))
        x = self.answer(x)
        return x[:, 0].sigmoid(), x[:, 1:]


class ONet(nn.Module):
    """The third network: float32 [B, 3, 48, 48] to probabilities [B], offsets [B, 4], landmarks [B, 2, 5].

    Landmarks are x then y of the eyes, the nose and the corners of the mouth, 0 to 1 across the window.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.fc5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.answer = nn.Linear(256, 15)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Look at a batch of windows; shapes as the class says."""
        x = _pooled(self.prelu1(self.conv1(x)))  # [B, 32, 23, 23]
        x = _pooled(self.prelu2(self.conv2(x)))  # [B, 64, 10, 10]
        x = F.max_pool2d(self.prelu3(self.conv3(x)), 2, 2, ceil_mode=True)  # [B, 64, 4, 4]
        x = self.prelu4(self.conv4(x))  # [B, 128, 3, 3]
        x = self.prelu5(self.fc5(x.permute(0, 2, 3, 1).flatten(1)))
        x = self.answer(x)
        return x[:, 0].sigmoid(), x[:, 1:5], x[:, 5:].reshape(-1, 2, 5)


def load(device: torch.device) -> tuple[PNet, RNet, ONet]:
    """Build the three networks with the installed weights, frozen, in channels_last memory.

    Parameters
    ----------
    device
        Where they run.

    Returns
    -------
    tuple of PNet, RNet, ONet

    Raises
    ------
    ToolError
        If the weight files are missing or are not the known ones.
    """
    with torch.device("meta"):  # no time is spent on random weights that nobody will use
        nets = PNet(), RNet(), ONet()
    for net, name in zip(nets, ("pnet", "rnet", "onet"), strict=True):
        _fill(net, name, device)  # type: ignore[arg-type]  # zip forgets that the names are literals
    return nets


def _halved(x: Tensor) -> Tensor:
    """Max-pool 2x2 with stride 2; a last odd row or column is pooled by itself."""
    if x.shape[2] % 2 or x.shape[3] % 2:
        return F.max_pool2d(x, 2, 2, ceil_mode=True)
    # The same, in a third of the time: max_pool2d also notes where each largest value was.
    upper, lower = x[:, :, ::2], x[:, :, 1::2]
    return torch.maximum(
        torch.maximum(upper[..., ::2], upper[..., 1::2]), torch.maximum(lower[..., ::2], lower[..., 1::2])
    )


def _pooled(x: Tensor) -> Tensor:
    """Max-pool 3x3 with stride 2; what a last window lacks of the map does not count."""
    if x.device.type != "cpu":
        return F.max_pool2d(x, 3, 2, ceil_mode=True)
    # The same, in half of the time on large maps, for the reason above: rows first, then columns.
    batch, channels, height, width = x.shape
    rows = _pooled_along(x.permute(0, 2, 3, 1).reshape(batch, height, width * channels))
    both = _pooled_along(rows.view(-1, width, channels))
    return both.view(batch, rows.shape[1], both.shape[1], channels).permute(0, 3, 1, 2)


def _pooled_along(x: Tensor) -> Tensor:
    """Max-pool 3 of the middle dimension with stride 2, [N, L, M] -> [N, ceil((L - 3) / 2) + 1, M], L of 3 or more."""
    count = (x.shape[1] - 2) // 2 + 1
    most = torch.maximum(x[:, 0 : 2 * count : 2], x[:, 1 : 2 * count : 2])
    third = x[:, 2 : 2 * count + 1 : 2]  # one fewer where the last window has but two
    whole = most[:, : third.shape[1]]
    torch.maximum(whole, third, out=whole)
    return most


def _fill(net: nn.Module, name: Net, device: torch.device) -> None:
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    state = _padded(_with_one_answer(state_dict(name)), shapes)
    net.load_state_dict(state, assign=True)
    net.requires_grad_(False).eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the pair


def _with_one_answer(state: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Put the layers face, box and landmarks into one, the inputs' scale into the first."""
    state["conv1.weight"] = state["conv1.weight"] / np.float32(128)  # a power of two: nothing is rounded
    for kind in ("weight", "bias"):
        no_face, face = state.pop(f"face.{kind}")
        # The probability of a face is the softmax of two numbers: the sigmoid of their difference.
        parts = [(face - no_face)[None], state.pop(f"box.{kind}"), state.pop(f"landmarks.{kind}", None)]
        state[f"answer.{kind}"] = np.concatenate([part for part in parts if part is not None])
    return state


def _padded(state: Mapping[str, NDArray[np.float32]], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    padded = {}
    for key, value in state.items():
        widths = [(0, want - have) for want, have in zip(shapes[key], value.shape, strict=True)]
        padded[key] = torch.from_numpy(np.pad(value, widths))
    return padded
