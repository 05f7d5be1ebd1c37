"""The detector's network and its loss."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detector_faces import network
from facetools.detector.network import CHANNELS, CLIP, GAINS, LEAST_NOISE, SEEN, Counts, loss_of, residuals_of


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
        assert expected.shape == (2, 5)
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
    faces, noise = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.025
    ramp = torch.linspace(0, 0.3, 64)
    with torch.inference_mode():
        before = network()(faces)
        torch.testing.assert_close(network()(faces + 0.3), before, rtol=0, atol=1e-5)
        # Edges of the map see the ramp end.
        assert float((network()(faces + ramp) - before).abs().max()) < 1e-3
        assert float((network()(faces + 6 * noise) - before).abs().max()) > 2e-3


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
    """The blur moves a quarter of a step over the edge; that is shown 32 and 256 times as large, and 3 at most.

    Over the root of the mean square it is that of a sixth of the pixels: 2.449, whatever the step.
    """
    net, seen = network(), []
    net.full[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    faces = torch.full((1, 3, 12, 12), 0.25)
    faces[..., 6:] += step
    with torch.inference_mode():
        net(faces)
    expected = torch.zeros(1, CHANNELS, 12, 12)
    level = 6**0.5 / (1 + 6 * (LEAST_NOISE / (step / 4)) ** 2) ** 0.5
    for channels, height in ((slice(3), weak), (slice(3, 6), strong), (slice(6, 9), level)):
        expected[:, channels, :, 5], expected[:, channels, :, 6] = -height, height
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-4)


def test_what_stands_out_of_noise_looks_alike_at_any_contrast() -> None:
    """The last residual is of units of the photo's own noise; the others are not."""
    photo = 0.5 + 0.1 * torch.randn(1, 3, 40, 50, generator=torch.Generator().manual_seed(2))
    twice = photo.mean() + 2 * (photo - photo.mean())
    one, other = residuals_of(photo), residuals_of(twice)
    assert one.shape == (1, CHANNELS, 40, 50)
    torch.testing.assert_close(other[:, -3:], one[:, -3:], rtol=0, atol=2e-3)
    assert float(one[:, -3:].square().mean()) == pytest.approx(1, abs=0.05)
    weak = slice(0, 3)
    torch.testing.assert_close(other[:, weak], (2 * one[:, weak]).clamp(-CLIP, CLIP), rtol=1e-4, atol=1e-4)
    assert float((other[:, weak] - one[:, weak]).abs().mean()) > 0.5
    assert len(GAINS) * 3 == CHANNELS - 3
    # Each photo has its own level, whatever else is in the batch.
    both = residuals_of(torch.cat([photo, 0.5 + (photo - 0.5) / 100]))
    torch.testing.assert_close(both[:1], one)
    # Of a photo of less noise than a quarter of a grey level little is made.
    assert float(residuals_of(0.5 + (photo - 0.5) / 1000)[:, -3:].abs().max()) < 0.5


@pytest.mark.parametrize("size", [(26, 26), (64, 64), (65, 127), (97, 40), (191, 192), (150, 33)])
def test_a_fused_network_computes_on_few_sizes_what_it_does_on_all(size: tuple[int, int]) -> None:
    """It fills maps up with zeros, as its convolutions do in any case."""
    net, sides = network(2), []
    generator = torch.Generator().manual_seed(3)
    for block in net.modules():
        if isinstance(block, nn.BatchNorm2d):  # a shift: what lies beyond a map would not stay zero by itself
            nn.init.normal_(block.bias, generator=generator)
    faces = torch.rand(2, 3, *size, generator=generator)
    with torch.inference_mode():
        expected = net(faces)
        net.fuse()
        net.full[0].register_forward_pre_hook(lambda _, inputs: sides.extend(inputs[0].shape[2:]))
        torch.testing.assert_close(net(faces), expected, rtol=1e-4, atol=1e-5)
    assert sides == [-(-side // 16) * 16 for side in size]


def test_power_trains_nothing_else() -> None:
    """It reads what the network has learned, and does not say what that should be."""
    net = network(2)
    logits = net(torch.rand(2, 3, 40, 40))
    logits[:, 1].sum().backward(retain_graph=True)
    assert slopes(net) == {"power.weight", "power.bias"}
    # And it has no share in the rest.
    net.zero_grad(set_to_none=True)
    logits[:, [0, 2, 3]].sum().backward()
    assert slopes(net) == {name for name, _ in net.named_parameters()} - {"power.weight", "power.bias"}


def slopes(net: nn.Module) -> set[str]:
    """Names of the parameters that have a gradient other than zero."""
    return {name for name, each in net.named_parameters() if each.grad is not None and bool(each.grad.any())}


def test_the_slope_of_the_losss_part_of_power_ends_at_power() -> None:
    logits = torch.tensor([[0.5, 0.2, 1.0], [3.0, -1.0, 2.0]], requires_grad=True)
    parts = [loss_of(logits, [-1, 0], [1, 1], weight) for weight in (0.0, 1.0)]
    (without,), (slope,) = (torch.autograd.grad(part, logits, retain_graph=True) for part in parts)
    assert bool((without[:, 1] == 0).all())
    # Of the clean face alone: a cloaked one shows whether its cloak is seen.
    assert (bool(slope[0, 1] != 0), bool(slope[1, 1] != 0)) == (True, False)
    # One attack alone: its cross-entropy is zero.
    torch.testing.assert_close(slope[:, [0, 2]], without[:, [0, 2]])


def test_a_flat_photo_has_a_slope() -> None:
    flat = torch.full((1, 3, 40, 40), 0.5).requires_grad_(True)
    network()(flat).sum().backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


def test_the_loss_by_hand() -> None:
    logits = torch.tensor([[2.0, 7.0, 0.3, -1.0], [-1.0, 8.0, 0.0, 0.0], [0.5, 9.0, 1.0, 2.0]])
    sure = [F.softplus(torch.tensor(z)) for z in (-2.0, -1.0, -0.5)]
    first = float(sum(sure)) / 3
    which = -(torch.log_softmax(logits[0, 2:], 0)[1] + torch.log_softmax(logits[2, 2:], 0)[0]) / 2
    attacks, alone = [1, -1, 0], [-1] * 3
    assert float(loss_of(logits, attacks, alone, 0)) == pytest.approx(first, rel=1e-6)
    assert float(loss_of(logits, attacks, alone)) == pytest.approx(first + 0.2 * float(which), rel=1e-6)
    assert float(loss_of(logits, attacks, alone, 1)) == pytest.approx(first + float(which), rel=1e-6)


def test_the_parts_of_pairs_by_hand() -> None:
    """Two pairs, clean and cloaked, and a clean face without; of the first the cloak is seen, of the second not."""
    scores, powers = [-1.0, 2.5, 0.5, -0.25, 4.0], [0.3, -0.7, 1.5, 0.1, 9.0]
    assert 2.5 > SEEN > 2.197
    logits = torch.tensor([[a, b, 0.0] for a, b in zip(scores, powers, strict=True)])
    attacks, twins = [-1, 0, -1, 0, -1], [1, 1, 3, 3, -1]

    def softplus(value: float) -> float:
        return math.log1p(math.exp(value))

    first = (softplus(-1) + softplus(-2.5) + softplus(0.5) + softplus(0.25) + softplus(4)) / 5
    order = (softplus(-1 - 2.5) + softplus(0.5 + 0.25)) / 2
    power = (softplus(-0.3) + softplus(1.5)) / 2  # of the clean ones
    assert float(loss_of(logits, attacks, twins, 0)) == pytest.approx(first + order, rel=1e-6)
    assert float(loss_of(logits, attacks, twins)) == pytest.approx(first + order + 0.2 * power, rel=1e-6)
    assert float(loss_of(logits, attacks, twins, 1)) == pytest.approx(first + order + power, rel=1e-6)
    # Just below nine tenths a cloak is not seen.
    for score, seen in ((SEEN + 1e-3, True), (SEEN - 1e-3, False)):
        pair = torch.tensor([[0.0, 2.0, 0.0], [score, 2.0, 0.0]])
        parts = float(loss_of(pair, [-1, 0], [1, 1], 1) - loss_of(pair, [-1, 0], [1, 1], 0))
        assert parts == pytest.approx(softplus(-2.0 if seen else 2.0), rel=1e-5)


def test_the_loss_of_clean_faces_alone_is_a_number() -> None:
    logits = torch.randn(4, 4)
    expected = F.softplus(logits[:, 0]).mean()
    torch.testing.assert_close(loss_of(logits, [-1] * 4, [-1] * 4), expected)


def test_the_losses_of_parts_of_a_step_add_up_to_that_of_the_step() -> None:
    torch.manual_seed(0)
    logits = torch.randn(9, 4)
    attacks, twins = [-1, 0, -1, 1, -1, -1, 0, 1, -1], [1, 1, 3, 3, -1, 6, 6, -1, -1]
    counts = Counts.of(attacks, twins)
    assert counts == (9, 4, 3, 3)
    first = loss_of(logits[:4], attacks[:4], twins[:4], counts=counts)
    rest = loss_of(logits[4:], attacks[4:], [-1, 2, 2, -1, -1], counts=counts)
    torch.testing.assert_close(first + rest, loss_of(logits, attacks, twins))
