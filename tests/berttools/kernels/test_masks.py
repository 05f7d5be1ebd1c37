"""Masks on a GPU against plain torch. Without a GPU Triton interprets the kernels, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from berttools.classifier.masked import MaskedModels
from berttools.kernels import available
from berttools.mask_tuning.draws import Draws
from berttools.mask_tuning.masked_linear import MaskedLinear
from berttools.mask_tuning.recipe import Method, Pattern, Recipe
from conftest import ROOT
from tiny_models import logits, make_base, make_mask

pytest.importorskip("triton", reason="there is no Triton here")

GPU = torch.cuda.is_available()
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cuda" if GPU else "cpu")
SIZES = [(5, 7, 9), (70, 65, 33), (20, 64, 64), (130, 70, 40)]
on_kernels = pytest.mark.skipif(not (GPU or INTERPRETED), reason="no GPU: runs where Triton interprets, in a process")

if GPU or INTERPRETED:
    from berttools.kernels import masks as mask_kernels


@pytest.mark.skipif(GPU or INTERPRETED, reason="the kernels run in this process")
def test_all_of_this_where_triton_interprets() -> None:
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


@pytest.mark.skipif(INTERPRETED, reason="Triton interprets")
@pytest.mark.parametrize("capability", [80, 90])
def test_every_kernel_compiles_for_gpus(capability: int) -> None:
    """What the interpreter lets pass a compiler may not; it needs no GPU."""
    code = f"""
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from berttools.kernels import distances as kernels, masks

def compiled(kernel, types, **constants):
    names = [name for name in kernel.arg_names if name not in constants]
    signature = dict(zip(names, types.split(), strict=True)) | dict.fromkeys(constants, "constexpr")
    for aligned in (False, True):  # tensors lie on 16 bytes as a rule, and a launch then says so
        places = [(n,) for n, name in enumerate(kernel.arg_names) if signature[name][0] == "*"] if aligned else ()
        source = ASTSource(
            fn=kernel, signature=signature, constexprs=constants,
            attrs={{place: [["tt.divisibility", 16]] for place in places}},
        )
        assert triton.compile(source, target=GPUTarget("cuda", {capability}, 32)).asm["cubin"]

for one in ("fp32", "bf16", "fp64"):
    compiled(kernels._sum_blocks, f"*{{one}} *fp32 *fp64 i64", BLOCK=4096)
compiled(masks._pack, "*fp32 *u8 i32 i64", DRAW=True, BYTES=256)
compiled(masks._pack, "*u8 *u8 i32 i32", DRAW=False, BYTES=256)
for one in ("fp32", "bf16"):
    compiled(masks._zero, f"*{{one}} *u8 *fp32 i32", BLOCK=1024)
    for rows, stride in ((16, "inner_stride"), (128, "outer_stride")):  # a launch takes a 1 for a constant
        tile = {{"ROWS": rows, "INNER": 32, "OUTER": 64, stride: 1}}
        types = f"*{{one}} *fp32 *u8 *fp32 *{{one}} i32 i32 i32 i32"
        compiled(masks._product, types, BIAS=rows == 16, PRECISION="ieee", **tile)
    tile = dict(ROWS=32, OUTPUTS=64, INPUTS=64)
    types = f"*{{one}} *{{one}} *fp32 *fp32 *fp32 i32 i32 i32"
    compiled(masks._gradient, types, SMOOTH=True, PRECISION="tf32", **tile)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


@on_kernels
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (65, 33), (300, 17)])
def test_bits_are_numpys(shape: tuple[int, int]) -> None:
    keep = normal(*shape) > 0.3
    bits = mask_kernels.pack_bits(keep)
    assert np.array_equal(bits.cpu().numpy(), np.packbits(keep.cpu().numpy()))
    assert torch.equal(mask_kernels.unpack_bits(bits, keep.shape), keep)


@on_kernels
def test_draws_follow_from_the_seed_and_are_as_likely_as_scores_say() -> None:
    scores = torch.tensor([-40.0, -1.0, 0.0, 2.0, 40.0], device=DEVICE)[:, None].repeat(1, 100_001)
    keep = mask_kernels.unpack_bits(mask_kernels.draw_bits(scores, 7), scores.shape)
    chance = torch.sigmoid(scores[:, 0])
    limit = 5 * (chance * (1 - chance) / 100_001).sqrt() + 1e-12
    assert ((keep.float().mean(1) - chance).abs() <= limit).all()
    assert torch.equal(mask_kernels.draw_bits(scores, 7), mask_kernels.draw_bits(scores, 7))
    other = mask_kernels.unpack_bits(mask_kernels.draw_bits(scores, 8), scores.shape)
    assert float((keep[2] == other[2]).float().mean()) == pytest.approx(0.5, abs=0.01)
    # Runs that go on elsewhere draw on: these bytes are part of what a seed means.
    zeros = torch.zeros(64, device=DEVICE)
    assert mask_kernels.draw_bits(zeros, 2**62 + 5).cpu().numpy().tobytes().hex() == "f103d701ef803974"


@on_kernels
@pytest.mark.parametrize(("rows", "outputs", "inputs"), SIZES)
def test_products_are_those_of_the_zeroed_matrix(rows: int, outputs: int, inputs: int) -> None:
    weight, bias = normal(outputs, inputs), normal(outputs, seed=1)
    keep = normal(outputs, inputs, seed=2) > -0.5
    bits, stays = mask_kernels.pack_bits(keep), weight * keep
    x, gradient = normal(rows, inputs, seed=3), normal(rows, outputs, seed=4)
    near = {"rtol": 1e-5, "atol": 1e-4}
    torch.testing.assert_close(mask_kernels.masked_product(x, weight, bits, bias), F.linear(x, stays, bias), **near)
    torch.testing.assert_close(mask_kernels.masked_product(x, weight, bits), x @ stays.T, **near)
    torch.testing.assert_close(
        mask_kernels.masked_product(gradient, weight, bits, transposed=False), gradient @ stays, **near
    )
    # Triton's interpreter multiplies bfloat16 as if it were whole numbers: a GPU alone can tell.
    half = torch.bfloat16 if GPU else torch.float16
    found = mask_kernels.masked_product(x.to(half), weight, bits, bias)
    assert found.dtype == half
    expected = F.linear(x.to(half).float(), stays.to(half).float(), bias)
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=5e-2)


@on_kernels
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize(("rows", "outputs", "inputs"), SIZES)
def test_the_scores_gradient(rows: int, outputs: int, inputs: int, smooth: bool) -> None:
    weight, scores = normal(outputs, inputs), normal(outputs, inputs, seed=1)
    x, gradient = normal(rows, inputs, seed=3), normal(rows, outputs, seed=4)
    slope = torch.sigmoid(scores) * torch.sigmoid(-scores) if smooth else 1.0
    found = mask_kernels.gradient_of_scores(gradient, x, weight, scores, smooth=smooth)
    torch.testing.assert_close(found, (gradient.T @ x) * weight * slope, rtol=1e-4, atol=1e-4)


@on_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_zeroing_keeps_every_other_bit(dtype: torch.dtype) -> None:
    weight, keep = normal(37, 101, dtype=dtype), normal(37, 101, seed=1) > 0
    out = torch.full((37, 101), torch.nan, device=DEVICE)
    mask_kernels.masked_copy(weight, mask_kernels.pack_bits(keep), out)
    assert torch.equal(out.view(torch.int32), torch.where(keep, weight.float(), 0.0).view(torch.int32))


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernels be used wherever these tests run."""
    monkeypatch.setattr(available, "FUSED", {DEVICE.type})


@on_kernels
@pytest.mark.usefixtures("fused")
@pytest.mark.parametrize("pattern", [Pattern.free, Pattern.two_of_four])
@pytest.mark.parametrize("method", Method)
def test_a_layer_multiplies_and_learns_by_its_mask(method: Method, pattern: Pattern) -> None:
    torch.manual_seed(3)
    recipe = Recipe(method, pattern, initial_sparsity=0.25 if pattern is Pattern.free else 0.0, initial_score=1.0)
    layer = MaskedLinear(nn.Linear(72, 40), recipe, Draws(5, 10, step=2), 1).to(DEVICE)
    layer.scores.data += 0.3 * normal(40, 72)
    x, keep = normal(2, 5, 72).requires_grad_(), layer.keep()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        y = layer(x)
    # What is kept for going back is what there is anyway: the input, the scores, the weights.
    assert {each.data_ptr() for each in kept} == {each.data_ptr() for each in (x, layer.scores, layer.weight)}
    y.square().sum().backward()
    weight, s = layer.weight.detach(), layer.scores.detach()
    expected = F.linear(x.detach(), weight * keep, layer.bias.detach())
    near = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(y.detach(), expected, **near)
    torch.testing.assert_close(x.grad, 2 * expected @ (weight * keep), **near)
    slope = torch.sigmoid(s) * torch.sigmoid(-s) if method is Method.bernoulli else torch.ones_like(s)
    to_mask = torch.einsum("bto,bti->oi", 2 * expected, x.detach()) * weight
    torch.testing.assert_close(layer.scores.grad, to_mask * slope, **near)
    torch.testing.assert_close(layer.bias.grad, 2 * expected.sum((0, 1)), **near)


@on_kernels
@pytest.mark.usefixtures("fused")
def test_a_stored_draw_is_the_one_of_its_step() -> None:
    draws = Draws(5, 10, step=4)
    layer = MaskedLinear(nn.Linear(72, 40), Recipe(initial_score=1.0), draws, 1).to(DEVICE)
    drawn = layer.keep()
    draws.step, draws.stored = 9, 4
    assert torch.equal(layer.eval().keep(), drawn)
    draws.stored = None
    assert layer.keep().all()


@on_kernels
@pytest.mark.usefixtures("fused")
def test_tasks_switch_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_base(tmp_path / "base")
    paths = {task: tmp_path / f"{task}.safetensors" for task in "ab"}
    some = {"a": "layer.1", "b": ""}
    expected = {
        task: logits(make_mask(base, path, seed=n, only=some[task])) for n, (task, path) in enumerate(paths.items())
    }
    used: list[Callable[..., None]] = []
    copy = mask_kernels.masked_copy
    monkeypatch.setattr(mask_kernels, "masked_copy", lambda *each: (used.append(copy), copy(*each)))
    models = MaskedModels(base, paths)
    for task in "ab":
        models.classifier(task).model.to(DEVICE)
    for task in "abba":
        assert torch.equal(logits(deepcopy(models.switch(task).model).cpu()), expected[task])
    assert used
