"""The detector's network and its loss."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detector_faces import network
from facetools.detector.network import loss_of


@pytest.mark.parametrize("size", [(96, 96), (50, 61), (9, 8), (200, 33)])
def test_a_fused_network_says_the_same(size: tuple[int, int]) -> None:
    trained = network(3)
    assert all(m.running_mean is not None and bool(m.running_mean.any()) for m in trained.modules() if is_norm(m))
    fused = copy.deepcopy(trained).fuse()
    assert not any(is_norm(module) for module in fused.modules())
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    assert not fused.training
    faces = torch.rand(2, 3, *size)
    with torch.inference_mode():
        expected = trained(faces)
        assert expected.shape == (2, 4)
        torch.testing.assert_close(fused(faces), expected, rtol=0, atol=1e-4)


def is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d)


def test_a_face_is_judged_alone() -> None:
    faces, net = torch.rand(3, 3, 40, 56), network()
    with torch.inference_mode():
        together, alone = net(faces), torch.cat([net(face[None]) for face in faces])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert len(together[:, 0].unique()) == 3


def test_brightness_and_slow_changes_are_not_looked_at() -> None:
    # Of a generator of its own: what ``network`` seeds would draw the faces again as their noise.
    faces, noise = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.5
    ramp = torch.linspace(0, 0.3, 64)
    with torch.inference_mode():
        before = network()(faces)
        torch.testing.assert_close(network()(faces + 0.3), before, rtol=0, atol=1e-3)
        # Edges of the map see the ramp end.
        assert float((network()(faces + ramp) - before).abs().max()) < 0.05
        assert float((network()(faces + 0.1 * noise) - before).abs().max()) > 1e-3


@pytest.mark.parametrize("block", [2, 4])
def test_coarse_texture_is_looked_at_at_its_scale(block: int) -> None:
    """A texture whose every pixel is repeated shows at half and at quarter resolution."""
    net = network()
    coarse = torch.rand(1, 3, 16, 16).repeat_interleave(block, 2).repeat_interleave(block, 3)
    flat = torch.full_like(coarse, 0.5)
    branch = {2: net.at_half, 4: net.at_quarter}[block]
    seen = []
    handle = branch.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.inference_mode():
        net(coarse), net(flat)
    handle.remove()
    textured, plain = seen
    assert textured.shape[-2:] == (16, 16)
    assert float(textured.abs().mean()) > 1
    assert float(plain.abs().max()) < 1e-4


@pytest.mark.parametrize(("step", "weak", "strong"), [(0.01, 0.08, 0.64), (0.1, 0.8, 3.0), (0.5, 3.0, 3.0)])
def test_an_edge_by_hand(step: float, weak: float, strong: float) -> None:
    """The blur moves a quarter of a step over the edge; that is shown 32 and 256 times as large, and 3 at most."""
    net, seen = network(), []
    net.full.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    faces = torch.full((1, 3, 12, 12), 0.25)
    faces[..., 6:] += step
    with torch.inference_mode():
        net(faces)
    expected = torch.zeros(1, 6, 12, 12)
    for channels, height in ((slice(3), weak), (slice(3, 6), strong)):
        expected[:, channels, :, 5], expected[:, channels, :, 6] = -height, height
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-4)


def test_a_flat_photo_has_a_slope() -> None:
    flat = torch.full((1, 3, 40, 40), 0.5).requires_grad_(True)
    network()(flat).sum().backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


def test_the_loss_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.3, -1.0], [-1.0, 0.0, 0.0], [0.5, 1.0, 2.0]])
    sure = [F.softplus(torch.tensor(z)) for z in (-2.0, -1.0, -0.5)]
    first = float(sum(sure)) / 3
    which = -(torch.log_softmax(logits[0, 1:], 0)[1] + torch.log_softmax(logits[2, 1:], 0)[0]) / 2
    attacks = [1, -1, 0]
    assert float(loss_of(logits, attacks, 0)) == pytest.approx(first, rel=1e-6)
    assert float(loss_of(logits, attacks)) == pytest.approx(first + 0.2 * float(which), rel=1e-6)
    assert float(loss_of(logits, attacks, 1)) == pytest.approx(first + float(which), rel=1e-6)


def test_the_loss_of_clean_faces_alone_is_a_number() -> None:
    logits = torch.randn(4, 3)
    expected = F.softplus(logits[:, 0]).mean()
    torch.testing.assert_close(loss_of(logits, [-1] * 4), expected)
