"""Batch normalisation over the examples of all processes that train together (arXiv 1502.03167)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from _toolio.compute.distributed import Processes


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose statistics are of all processes' examples; in eval mode as `torch.nn.BatchNorm2d`.

    `torch.nn.SyncBatchNorm` does the same on GPUs alone.

    Parameters
    ----------
    like
        What to normalise as; its weights and buffers are shared.
    processes
        The processes, each with one example or more.
    """

    def __init__(self, like: nn.BatchNorm2d, processes: Processes) -> None:
        super().__init__(like.num_features, like.eps, like.momentum)
        self.weight, self.bias = like.weight, like.bias
        self.running_mean, self.running_var = like.running_mean, like.running_var
        self.num_batches_tracked = like.num_batches_tracked
        self.training = like.training
        self._processes = processes

    def forward(self, x: Tensor) -> Tensor:
        """Normalise float [B, C, H, W]."""
        if not self.training:
            return super().forward(x)
        out: Tensor
        out, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps, self._processes)
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return out


def share_statistics(network: nn.Module, processes: Processes) -> None:
    """Replace a network's batch normalisations by those of all processes, in place; nothing with one process."""
    if processes.world == 1:
        return
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, SharedBatchNorm2d(child, processes))


class _Normalise(torch.autograd.Function):
    """y = w (x - m) / sqrt(v + eps) + b by channel, with m and v over the values of all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, processes: Processes
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return y, and m, v [C] and the number of values of each."""
        own_variance, own_mean = torch.var_mean(x.float(), _OVER, correction=0)
        # A row a process: its number of values, and their means and variances [world, 1 + 2C].
        rows = x.new_zeros(processes.world, 1 + 2 * len(own_mean), dtype=torch.float64)
        rows[processes.rank, 0] = x.numel() // len(own_mean)
        rows[processes.rank, 1:] = torch.cat([own_mean, own_variance])
        processes.sum_in_place(rows)
        counts, (means, variances) = rows[:, :1], rows[:, 1:].chunk(2, 1)
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean).square())).sum(0) / count
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean.float(), inverse.float(), count.float())
        ctx.processes = processes
        scale = weight * inverse.float()
        y = torch.addcmul(_wide(bias - mean.float() * scale), x.float(), _wide(scale)).to(x.dtype)
        kept = mean.float(), variance.float(), count.float()
        ctx.mark_non_differentiable(*kept)
        return y, *kept

    @staticmethod
    def backward(ctx: Any, slope: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Return the slopes of x, and of w and b as far as this process's values go: those are averaged later."""
        x, weight, mean, inverse, count = ctx.saved_tensors
        slope = slope.float()
        normalised = (x.float() - _wide(mean)) * _wide(inverse)
        own = torch.stack([slope.sum(_OVER), (slope * normalised).sum(_OVER)])
        sums = own.clone()
        ctx.processes.sum_in_place(sums)
        means = sums / count
        of_x = _wide(weight * inverse) * (slope - _wide(means[0]) - normalised * _wide(means[1]))
        return of_x.to(x.dtype), own[1], own[0], None, None


_OVER = (0, 2, 3)
"""The axes that are summed over: all but the channels."""


def _wide(values: Tensor) -> Tensor:
    """Return values of channels as [1, C, 1, 1]."""
    return values[None, :, None, None]
