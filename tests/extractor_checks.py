"""What the tests of all extractor architectures share: random weights, and what must hold of every network."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from facetools.extractors.files import build
from facetools.extractors.registry import find_architecture
from facetools.extractors.settings import Settings


def filled(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Give random tensors that fit a network, which may be on the meta device; maps keep their size through it."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, value in network.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        noise = torch.randn(value.shape, generator=generator)
        if key.endswith("running_var"):
            state[key] = 0.5 + noise.abs()
        elif value.ndim > 1:
            state[key] = noise / math.sqrt(value[0].numel())
        else:
            state[key] = 0.1 * noise + (1 if key.endswith("weight") else 0)
    return state


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def embed(architecture: str, state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Embed prepared chips with the network that others' tensors make, without what follows it."""
    module = find_architecture(architecture)
    with torch.no_grad():
        return module.network(module.canonical(state), {}).eval()(x)


def check_network(architecture: str, state: Mapping[str, Tensor], settings: Settings, dimensions: int) -> None:
    """Check shape, that each chip is on its own, that weights are frozen and that gradients reach every pixel."""
    prepared = build(architecture, state, settings, {})
    assert not prepared.training
    assert not any(parameter.requires_grad for parameter in prepared.parameters())
    chips = torch.rand((2, 3, *settings.input_size), generator=torch.Generator().manual_seed(1)).requires_grad_()
    out = prepared(chips)
    assert out.shape == (2, dimensions)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(prepared(chips[1:]), out[1:], rtol=1e-3, atol=1e-5)
    # A random direction: the sum of a normalised embedding may hardly move.
    direction = torch.randn(dimensions, generator=torch.Generator().manual_seed(2))
    (gradient,) = torch.autograd.grad(out[0] @ direction, chips)
    assert gradient.isfinite().all()
    # Filters in steps of two without a margin leave the last rows and columns out.
    assert (gradient[0] != 0).float().mean() > 0.95
    assert not gradient[1].any()


def check_refusal(architecture: str, state: Mapping[str, Tensor], gone: str, grown: str) -> None:
    """Check that a tensor too few, one too many and one of another shape are all named."""
    wrong = {key: value for key, value in state.items() if key != gone}
    wrong |= {grown: torch.cat([state[grown], state[grown]]), "left.over": torch.zeros(3)}
    with pytest.raises(ValueError, match=r"missing .* unknown left\.over \(3,\); ") as caught:
        find_architecture(architecture).network(wrong, {})
    assert f"missing {gone} " in str(caught.value)
    assert f"{grown} is {tuple(wrong[grown].shape)}, not {tuple(state[grown].shape)}" in str(caught.value)
