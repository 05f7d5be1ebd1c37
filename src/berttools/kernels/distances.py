"""The sums of `berttools.layerdiff.distances` on a GPU: one pass in float64, as a Triton kernel and in plain torch."""

# Kernels have no annotations but tl.constexpr: Triton looks names up as it compiles, and knows no others than its own.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl

from _toolio.compute.device import device_of

_BLOCK = 4096
# sum a^2, sum a d, sum d^2, sum |a|, sum |d|, max |d|, how many differ; as `berttools.layerdiff.distances.PairSums`.
_WIDTH, _MAX = 7, 5


@triton.jit  # type: ignore[untyped-decorator]
def _sum_blocks(a_ptr, b_ptr, out_ptr, n, BLOCK: tl.constexpr):  # noqa: N803
    """Sum one block of both vectors; out has a row of seven sums a block."""
    block = tl.program_id(0).to(tl.int64)
    offsets = block * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < n
    a = tl.load(a_ptr + offsets, mask=inside, other=0).to(tl.float64)
    b = tl.load(b_ptr + offsets, mask=inside, other=0).to(tl.float64)
    d = b - a
    size = tl.abs(d)
    row = out_ptr + block * 7
    tl.store(row, tl.sum(a * a))
    tl.store(row + 1, tl.sum(a * d))
    tl.store(row + 2, tl.sum(d * d))
    tl.store(row + 3, tl.sum(tl.abs(a)))
    tl.store(row + 4, tl.sum(size))
    tl.store(row + 5, tl.max(size))
    tl.store(row + 6, tl.sum((a != b).to(tl.float64)))


def block_sums(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the sums over two vectors of equal length on their device, with one read of each.

    Parameters
    ----------
    a, b
        Shape (n,), n at least 1; float64, float32, float16 or bfloat16, each its own.

    Returns
    -------
    Tensor
        Shape (7,), float64: the fields of `berttools.layerdiff.distances.PairSums`. Computed asynchronously.
    """
    blocks = triton.cdiv(a.numel(), _BLOCK)
    out = torch.empty((blocks, _WIDTH), dtype=torch.float64, device=a.device)
    with device_of(a):
        _sum_blocks[(blocks,)](a, b, out, a.numel(), BLOCK=_BLOCK)
    return _joined(out)


def _joined(rows: torch.Tensor) -> torch.Tensor:
    total = rows.sum(0)
    total[_MAX] = rows[:, _MAX].max()
    return total


def torch_sums(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return what `block_sums` does, in plain torch and several passes: its reference."""
    a, b = a.double(), b.double()
    d = b - a
    sums = (a @ a, a @ d, d @ d, a.abs().sum(), d.abs().sum(), d.abs().max(), (a != b).sum().double())
    return torch.stack(sums)
