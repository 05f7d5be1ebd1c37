"""Batch normalisation over processes: threads stand for them here, and meet where these would."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from _toolio.compute.batch_norm import SharedBatchNorm2d, share_statistics
from _toolio.compute.distributed import Processes


class Thread:
    """A rank of several, each of which is a thread."""

    def __init__(self, rank: int, given: list[Tensor], barrier: threading.Barrier) -> None:
        self.rank, self.world, self._given, self._barrier = rank, len(given), given, barrier

    def sum_in_place(self, tensor: Tensor) -> None:
        self._given[self.rank] = tensor.clone()
        self._barrier.wait(60)
        tensor.copy_(torch.stack(self._given).sum(0))
        self._barrier.wait(60)


def run_shared(network: nn.Module, parts: Sequence[Tensor]) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """Return each rank's network, with the gradients of its part, its outputs and the slope of its inputs."""
    given, barrier = [torch.zeros(0)] * len(parts), threading.Barrier(len(parts))
    found: dict[int, tuple[nn.Module, Tensor, Tensor]] = {}

    def work(rank: int) -> None:
        own, x = copy.deepcopy(network), parts[rank].clone().requires_grad_(True)
        share_statistics(own, Thread(rank, given, barrier))  # type: ignore[arg-type]
        y = own(x)
        y.sin().sum().backward()
        assert x.grad is not None
        found[rank] = own, y.detach(), x.grad

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(parts))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(120)
    return [found[rank] for rank in range(len(parts))]


def network_of() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-3, momentum=0.3))
    with torch.no_grad():
        for each in (made[0], made[2]):
            each.weight.uniform_(0.5, 2)
            each.bias.uniform_(-1, 1)
    return made.train()


@pytest.mark.parametrize("sizes", [(4, 4), (1, 6), (2, 1, 3)])
def test_parts_are_normalised_as_the_whole(sizes: tuple[int, ...]) -> None:
    network = network_of()
    x = 3 + 2 * torch.randn(sum(sizes), 3, 5, 6) * torch.arange(1, sum(sizes) + 1)[:, None, None, None]
    whole, given = copy.deepcopy(network), x.clone().requires_grad_(True)
    wanted = whole(given)
    wanted.sin().sum().backward()
    found = run_shared(network, x.split(list(sizes)))
    torch.testing.assert_close(torch.cat([y for _, y, _ in found]), wanted.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.cat([slope for *_, slope in found]), given.grad, rtol=1e-4, atol=1e-5)
    for name, parameter in whole.named_parameters():
        total = torch.stack([own.get_parameter(name).grad for own, *_ in found]).sum(0)
        torch.testing.assert_close(total, parameter.grad, rtol=1e-4, atol=1e-4)
    for own, *_ in found:  # what is kept is of all, and under the names that it has in a file
        assert list(own.state_dict()) == list(whole.state_dict())
        for name, buffer in whole.named_buffers():
            torch.testing.assert_close(own.get_buffer(name), buffer, rtol=1e-5, atol=1e-5)


def test_in_eval_mode_and_with_one_process_nothing_changes() -> None:
    network = network_of().eval()
    x = torch.randn(2, 3, 6, 6)
    wanted = network(x)
    share_statistics(network, Processes())
    assert type(network[0]) is nn.BatchNorm2d
    share_statistics(network, Processes(1, 2))
    assert isinstance(network[0], SharedBatchNorm2d)
    assert torch.equal(network(x), wanted)


def test_half_precision_stays_what_it_is() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3)).train()
    for _, y, slope in run_shared(network, torch.randn(4, 3, 5, 5).bfloat16().split(2)):
        assert (y.dtype, slope.dtype) == (torch.bfloat16, torch.bfloat16)
