"""Triton kernels for masked matrices: Bernoulli draws, masked products and their gradients, masked copies.

Kernels are launched on the device that their tensors lie on, whichever is the current one.

A mask is packed bits, uint8, eight entries of the flattened matrix to a byte, the first one highest; 1 stays. That is a
32nd of the weights' own memory: no product needs a second copy of them.
"""

# Kernels have no annotations but tl.constexpr: Triton looks names up as it compiles, and knows no others than its own.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from _toolio.compute.device import device_of

_BYTES = 256  # of bits that one program of the draws writes
_ENTRIES = 1024  # that one program of the zeroing writes
MOST_ENTRIES = 2**31 - 4096
"""Of a matrix: offsets are counted in int32."""


@triton.jit
def _stays(bits_ptr, offsets, inside):
    """Load the mask bits of entries: true where an entry stays."""
    byte = tl.load(bits_ptr + (offsets >> 3), mask=inside, other=0).to(tl.int32)
    return ((byte >> (7 - (offsets & 7))) & 1) != 0


@triton.jit  # type: ignore[untyped-decorator]
def _pack(source_ptr, bits_ptr, n, seed, DRAW: tl.constexpr, BYTES: tl.constexpr):  # noqa: N803
    """Write bits: of draws with probability sigmoid(source), or of what is not 0 in it."""
    byte = tl.program_id(0) * BYTES + tl.arange(0, BYTES)
    eighth = tl.arange(0, 8)
    offsets = byte[:, None] * 8 + eighth[None, :]
    inside = offsets < n
    source = tl.load(source_ptr + offsets, mask=inside, other=0)
    stays = tl.rand(seed, offsets) < tl.sigmoid(source.to(tl.float32)) if DRAW else source != 0
    weight = (stays & inside).to(tl.int32) << (7 - eighth)[None, :]
    tl.store(bits_ptr + byte, tl.sum(weight, 1).to(tl.uint8), mask=byte * 8 < n)


@triton.jit  # type: ignore[untyped-decorator]
def _zero(weight_ptr, bits_ptr, out_ptr, n, BLOCK: tl.constexpr):  # noqa: N803
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < n
    weight = tl.load(weight_ptr + offsets, mask=inside, other=0).to(out_ptr.dtype.element_ty)
    stays = _stays(bits_ptr, offsets, inside)
    tl.store(out_ptr + offsets, tl.where(stays, weight, 0.0), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _product(
    a_ptr, weight_ptr, bits_ptr, bias_ptr, out_ptr,
    rows, inner, outer, inner_stride, outer_stride,
    BIAS: tl.constexpr, PRECISION: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr, INNER: tl.constexpr, OUTER: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Write a tile of ``a (W * m)^T + b``, or of ``a (W * m)``: the strides say which side of W is summed over."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * OUTER + tl.arange(0, OUTER)
    total = tl.zeros((ROWS, OUTER), dtype=tl.float32)
    for start in range(0, inner, INNER):
        middle = start + tl.arange(0, INNER)
        inside = (row < rows)[:, None] & (middle < inner)[None, :]
        a = tl.load(a_ptr + row[:, None].to(tl.int64) * inner + middle[None, :], mask=inside, other=0.0)
        known = (middle < inner)[:, None] & (column < outer)[None, :]
        offsets = middle[:, None] * inner_stride + column[None, :] * outer_stride
        weight = tl.load(weight_ptr + offsets, mask=known, other=0.0)
        kept = tl.where(_stays(bits_ptr, offsets, known), weight, 0.0).to(a.dtype)
        total = tl.dot(a, kept, total, input_precision=PRECISION)
    if BIAS:
        total += tl.load(bias_ptr + column, mask=column < outer, other=0.0).to(tl.float32)[None, :]
    inside = (row < rows)[:, None] & (column < outer)[None, :]
    tl.store(
        out_ptr + row[:, None].to(tl.int64) * outer + column[None, :], total.to(out_ptr.dtype.element_ty), mask=inside
    )


@triton.jit  # type: ignore[untyped-decorator]
def _gradient(
    gradient_ptr, x_ptr, weight_ptr, scores_ptr, out_ptr,
    rows, outputs, inputs,
    SMOOTH: tl.constexpr, PRECISION: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Write a tile of ``W * (dL/dy^T x)``, times sigmoid's slope at the scores where SMOOTH."""
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    entry = tl.program_id(1) * INPUTS + tl.arange(0, INPUTS)
    total = tl.zeros((OUTPUTS, INPUTS), dtype=tl.float32)
    for start in range(0, rows, ROWS):
        row = (start + tl.arange(0, ROWS)).to(tl.int64)
        there = (output < outputs)[:, None] & (row < rows)[None, :]
        gradient = tl.load(gradient_ptr + row[None, :] * outputs + output[:, None], mask=there, other=0.0)
        there = (row < rows)[:, None] & (entry < inputs)[None, :]
        x = tl.load(x_ptr + row[:, None] * inputs + entry[None, :], mask=there, other=0.0)
        total = tl.dot(gradient, x, total, input_precision=PRECISION)
    offsets = output[:, None] * inputs + entry[None, :]
    inside = (output < outputs)[:, None] & (entry < inputs)[None, :]
    total *= tl.load(weight_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
    if SMOOTH:
        chance = tl.sigmoid(tl.load(scores_ptr + offsets, mask=inside, other=0.0))
        total *= chance * (1 - chance)
    tl.store(out_ptr + offsets, total, mask=inside)


def draw_bits(scores: Tensor, seed: int) -> Tensor:
    """Draw which entries stay, each with probability sigmoid(score), by Philox with the entry's number as counter.

    Parameters
    ----------
    scores
        Any shape, contiguous, float32.
    seed
        0 to 2^63 - 1: the same seed draws the same bits.

    Returns
    -------
    Tensor
        Packed bits.
    """
    return _packed(scores, seed, draw=True)


def pack_bits(keep: Tensor) -> Tensor:
    """Pack booleans of any shape."""
    return _packed(keep.contiguous().view(torch.uint8), 0, draw=False)


def _packed(source: Tensor, seed: int, *, draw: bool) -> Tensor:
    n = source.numel()
    bits = torch.empty(-(-n // 8), dtype=torch.uint8, device=source.device)
    with device_of(source):
        _pack[(triton.cdiv(bits.numel(), _BYTES),)](source, bits, _counted(n), seed, DRAW=draw, BYTES=_BYTES)
    return bits


def unpack_bits(bits: Tensor, shape: torch.Size) -> Tensor:
    """Return booleans of that shape."""
    eighths = torch.arange(7, -1, -1, device=bits.device, dtype=torch.uint8)
    return ((bits[:, None] >> eighths) & 1).view(torch.bool).flatten()[: shape.numel()].view(shape)


def masked_copy(weight: Tensor, bits: Tensor, out: Tensor) -> None:
    """Unpack a mask and multiply: write what stays of a matrix, and +0.0 elsewhere, in one pass.

    Parameters
    ----------
    weight, out
        Of one shape, contiguous; of any floating dtype, that of ``out`` no narrower.
    bits
        Packed.
    """
    n = weight.numel()
    with device_of(out):
        _zero[(triton.cdiv(n, _ENTRIES),)](weight, bits, out, _counted(n), BLOCK=_ENTRIES)


def masked_product(
    a: Tensor, weight: Tensor, bits: Tensor, bias: Tensor | None = None, *, transposed: bool = True
) -> Tensor:
    """Multiply with what stays of a matrix, unpacked tile by tile inside the product.

    Parameters
    ----------
    a
        [rows, inputs], or [rows, outputs] where not ``transposed``; contiguous. Weights are rounded to its dtype; sums
        are float32.
    weight
        [outputs, inputs], contiguous, float.
    bits
        Packed.
    bias
        [outputs]; added in float32.
    transposed
        a (W * m)^T if so, a (W * m) otherwise.

    Returns
    -------
    Tensor
        [rows, outputs], or [rows, inputs]; dtype of ``a``.
    """
    outputs, inputs = weight.shape
    rows, inner, outer = len(a), *((inputs, outputs) if transposed else (outputs, inputs))
    strides = (1, inputs) if transposed else (inputs, 1)
    out = torch.empty(rows, outer, dtype=a.dtype, device=a.device)
    tile = {"ROWS": 128 if rows > 64 else 64 if rows > 16 else 16, "INNER": 32, "OUTER": 64}
    grid = (triton.cdiv(rows, tile["ROWS"]), triton.cdiv(outer, tile["OUTER"]))
    _counted(weight.numel())
    with device_of(a):
        _product[grid](
            a, weight, bits, a if bias is None else bias, out, rows, inner, outer, *strides,
            BIAS=bias is not None, PRECISION=_precision(), **tile,
        )  # fmt: skip
    return out


def gradient_of_scores(gradient: Tensor, x: Tensor, weight: Tensor, scores: Tensor, *, smooth: bool) -> Tensor:
    """Return the gradient of the scores from that of the product, without storing the weights' gradient in between.

    Parameters
    ----------
    gradient
        dL/dy [rows, outputs], contiguous.
    x
        [rows, inputs], contiguous, of the same dtype.
    weight, scores
        [outputs, inputs], contiguous.
    smooth
        Whether times sigmoid's slope, as draws have it.

    Returns
    -------
    Tensor
        float32 [outputs, inputs].
    """
    outputs, inputs = weight.shape
    out = torch.empty(outputs, inputs, dtype=torch.float32, device=weight.device)
    tile = {"ROWS": 32, "OUTPUTS": 64, "INPUTS": 64}
    grid = (triton.cdiv(outputs, tile["OUTPUTS"]), triton.cdiv(inputs, tile["INPUTS"]))
    _counted(weight.numel())
    with device_of(x):
        _gradient[grid](
            gradient, x, weight, scores, out, len(x), outputs, inputs, SMOOTH=smooth, PRECISION=_precision(), **tile
        )
    return out


def _counted(n: int) -> int:
    if n > MOST_ENTRIES:
        raise ValueError(f"{n} entries are more than int32 counts")
    return n


def _precision() -> str:
    """Return the precision of float32 products: that of torch."""
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


class MaskedProduct(torch.autograd.Function):
    """The masked product in training: neither way has a copy of the weights, nor a mask of a byte a weight.

    ``MaskedProduct.apply(x, scores, weight, bias, draw, smooth, again)``: x [..., inputs]; weight and scores [outputs,
    inputs]; ``draw()`` gives the bits; ``smooth`` as of `gradient_of_scores`; ``again``: ``draw`` gives the same bits
    once more going back, so that they need not be kept. Computes in autocast's dtype, if any.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scores: Tensor, weight: Tensor, bias: Tensor | None, draw: Callable[[], Tensor],
        smooth: bool, again: bool,
    ) -> Tensor:  # fmt: skip
        """Multiply."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        bits = draw()
        ctx.save_for_backward(x, scores, weight)
        ctx.draw, ctx.smooth = (draw if again else lambda: bits), smooth
        out = masked_product(_rows(x, dtype), weight, bits, bias)
        return out.view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and of the scores, and of a bias that is tuned."""
        (gradient,) = gradients
        x, scores, weight = ctx.saved_tensors
        rows = _rows(gradient, gradient.dtype)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = masked_product(rows, weight, ctx.draw(), transposed=False).to(x.dtype).view(x.shape)
        to_scores = gradient_of_scores(rows, _rows(x, gradient.dtype), weight, scores, smooth=ctx.smooth)
        to_bias = rows.float().sum(0) if ctx.needs_input_grad[3] else None
        return to_x, to_scores, None, to_bias, None, None, None


def _rows(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.detach().flatten(0, -2).to(dtype).contiguous()
