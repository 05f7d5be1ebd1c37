"""What attacks share: noise, grey photos, the space and the optimiser of Fawkes."""

from __future__ import annotations

import pytest
import torch

from attack_photos import SIZE, photos
from facetools.attacks.common import Adadelta, Grey, TanhSpace, noise_like


class TestNoise:
    def test_it_is_uniform(self) -> None:
        drawn = noise_like(torch.empty(4, 3, 150, 150), [0, 1, 2**31, 2**62 + 5]).double()
        assert drawn.min() >= -1
        assert drawn.max() < 1
        assert drawn.mean().abs() < 0.01
        assert abs(drawn.std() - 3**-0.5) < 0.005
        shares = torch.histc(drawn, 20, -1, 1) / drawn.numel()
        assert (shares - 0.05).abs().max() < 0.002
        flat = drawn.flatten(1)
        assert (torch.corrcoef(flat) - torch.eye(4)).abs().max() < 0.015, "seeds are independent"
        assert (drawn[..., 1:] * drawn[..., :-1]).mean().abs() < 0.005, "neighbours are independent"
        assert (drawn[:, 0] * drawn[:, 1]).mean().abs() < 0.01, "channels are independent"

    def test_padding_does_not_matter(self) -> None:
        small, large = (noise_like(torch.empty(1, 3, *size), [9]) for size in ((20, 31), (64, 50)))
        assert torch.equal(small, large[..., :20, :31])

    def test_each_photo_has_its_own(self) -> None:
        drawn = noise_like(torch.empty(2, 3, 8, 8), [4, 5])
        assert torch.equal(drawn[1:], noise_like(torch.empty(1, 3, 8, 8), [5]))
        assert not torch.equal(drawn[0], drawn[1])


def test_grey_takes_the_sum_of_the_slopes() -> None:
    mixed = torch.cat([photos(1), photos(1, grey=True)])
    slope = torch.rand(2, 3, *SIZE) - 0.5
    tied = Grey(mixed).slope(slope)
    assert torch.equal(tied[0], slope[0])
    for channel in tied[1]:
        torch.testing.assert_close(channel, slope[1].sum(0))


class TestTanhSpace:
    def test_no_modifier_is_no_change(self) -> None:
        clean = photos()
        assert clean.min() == 0
        assert clean.max() == 1
        assert (TanhSpace(clean)(torch.zeros_like(clean)) - clean).abs().max() < 1e-6

    def test_by_hand(self) -> None:
        clean = torch.tensor([0.5, 0.25, 0.9]).view(1, 3, 1, 1)
        m = torch.tensor([0.1, -0.3, 0.2]).view(1, 3, 1, 1)
        # tanh(a + b) = (tanh a + tanh b) / (1 + tanh a tanh b)
        a, b = 2 * clean - 1, m.tanh()
        wanted = ((a + b) / (1 + a * b) + 1) / 2
        torch.testing.assert_close(TanhSpace(clean)(m), wanted, atol=2e-6, rtol=0)

    def test_whatever_the_modifier_it_is_a_photo(self) -> None:
        out = TanhSpace(photos())(torch.full((3, 3, *SIZE), 50.0))
        assert out.max() == 1
        assert TanhSpace(photos())(torch.full((3, 3, *SIZE), -50.0)).min() == 0


@pytest.mark.parametrize("epsilon", [1e-8, 1e-7])
def test_adadelta_is_that_of_torch_with_other_constants(epsilon: float) -> None:
    generator = torch.Generator().manual_seed(5)
    start = torch.rand(2, 3, 4, 5, generator=generator)
    leaf = torch.nn.Parameter(start.clone())
    theirs = torch.optim.Adadelta([leaf], lr=20.0, rho=0.95, eps=epsilon)
    ours, variable = Adadelta(start, epsilon=epsilon), start.clone()
    for step in range(12):
        slope = torch.randn(start.shape, generator=generator) * 10.0 ** (step % 4 - 4)
        leaf.grad = slope.clone()
        theirs.step()
        variable = variable - 20.0 * ours.change(slope)
    torch.testing.assert_close(variable, leaf.detach(), rtol=1e-5, atol=1e-6)


def test_adadelta_by_hand() -> None:
    ours = Adadelta(torch.zeros(1), epsilon=1e-8)
    first = ours.change(torch.tensor([0.2]))
    assert first.item() == pytest.approx(0.2 * (1e-8 / (0.05 * 0.04 + 1e-8)) ** 0.5, rel=1e-5)
    second = ours.change(torch.tensor([-0.1]))
    slopes, changes = 0.95 * 0.05 * 0.04 + 0.05 * 0.01, 0.05 * first.item() ** 2
    assert second.item() == pytest.approx(-0.1 * ((changes + 1e-8) / (slopes + 1e-8)) ** 0.5, rel=1e-5)
