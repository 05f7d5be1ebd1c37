"""Every kernel and hot path on a GPU: python benchmarks/gpu.py [--photos FOLDER|TAR] [--base BASE --train TRAIN].

Prints JSONL, all of one run of less than ten minutes:

- ``kernel``: one kernel on one size and dtype. ``error``: the largest difference from the same in float64 on the CPU,
  over the largest value there; ``limit``: what is accepted. ``ms``: the median of ROUNDS rounds in turns with the same
  in plain PyTorch under ``torch.compile`` (``compiled_ms``) and without (``plain_ms``). ``floor_ms``: the bytes that
  have to move at the speed of a plain copy of this GPU, or the products at that of ``torch.matmul``, whichever is
  longer. ``wins``: whether it is faster than what ``torch.compile`` makes; one that is not has no reason to be.
- ``path``: one command, from start to exit, on the GPU and on the CPU: ``gpu_s``, ``cpu_s``, and what it did it for.
- ``verdict``: how many kernels were right, and how many won.

A part whose input is not given is left out, and a record says so. Without a GPU, and with TRITON_INTERPRET=1, kernels
run on small sizes and nothing is timed; products in float32 alone, as the interpreter multiplies the bits of bfloat16.
Exits 1 if a kernel is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from berttools.kernels import distances, masks

ROUNDS, REPEATS = 7, 10
SECONDS = 540
"""After so long no further part begins."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel on one input.

    Attributes
    ----------
    name, about
        The kernel, and of what.
    ours
        Runs it.
    reference
        Computes the same in plain PyTorch, on the same tensors; None where there is no such way.
    error
        Takes what the kernel gave; returns how far it is from float64 on the CPU.
    limit
        The largest error that is accepted.
    moved
        Bytes that any way has to read and write.
    products
        Multiplications with an addition each, in the inputs' dtype.
    """

    name: str
    about: dict[str, Any]
    ours: Callable[[], Any]
    reference: Callable[[], Any] | None
    error: Callable[[Any], float]
    limit: float
    moved: int
    products: int = 0


def far(given: Tensor, wanted: Tensor) -> float:
    """Return the largest difference over the largest value."""
    wanted = wanted.double().cpu()
    return float((given.double().cpu() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-300))


def sums_of(n: int, dtype: torch.dtype, device: torch.device) -> Case:
    """Sum two vectors that differ by a thousandth, as weights do that were fine-tuned."""
    a = torch.randn(n, device=device).to(dtype)
    b = (a.float() + torch.randn(n, device=device) / 1000).to(dtype)
    wanted = distances.torch_sums(a.cpu(), b.cpu())

    def error(given: Tensor) -> float:
        return float(((given.cpu() - wanted) / wanted.abs().clamp_min(1e-300)).abs().max())

    return Case(
        "block_sums", {"n": n, "dtype": str(dtype)[6:]}, lambda: distances.block_sums(a, b),
        lambda: distances.torch_sums(a, b), error, 1e-9, 2 * n * a.element_size(),
    )  # fmt: skip


def draws_of(shape: tuple[int, int], device: torch.device) -> Case:
    """Draw bits; draws are random, so what they are held to is their share by score, within five standard errors."""
    scores = torch.linspace(-4, 4, shape[0] * shape[1], device=device).view(shape).contiguous()
    n = scores.numel()

    def error(given: Tensor) -> float:
        stays = masks.unpack_bits(given, scores.shape).flatten().double().cpu()
        chance = scores.flatten().double().cpu().sigmoid()
        whole = n // 16 * 16
        apart = (stays - chance)[:whole].view(16, -1).sum(1)
        spread = (chance * (1 - chance))[:whole].view(16, -1).sum(1).sqrt()
        assert torch.equal(given, masks.draw_bits(scores, 7)), "one seed gave two draws"
        return float((apart / spread).abs().max())

    def plain() -> Tensor:
        return packed(torch.rand_like(scores) < scores.sigmoid())

    return Case(
        "draw_bits", {"shape": shape}, lambda: masks.draw_bits(scores, 7), plain, error, 5, 4 * n + n // 8
    )  # fmt: skip


def packed(stays: Tensor) -> Tensor:
    """Pack booleans in plain PyTorch, eight to a byte."""
    worth = 2 ** torch.arange(7, -1, -1, device=stays.device, dtype=torch.uint8)
    return (stays.view(-1, 8) * worth).sum(1, dtype=torch.uint8)


def copy_of(shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Case:
    """Write what stays of a matrix."""
    weight = torch.randn(shape, device=device).to(dtype)
    stays = torch.rand(shape, device=device) < 0.8
    bits, out = masks.pack_bits(stays), torch.empty_like(weight)
    wanted = torch.where(stays, weight, torch.zeros((), dtype=dtype, device=device))

    def ours() -> Tensor:
        masks.masked_copy(weight, bits, out)
        return out

    def plain() -> Tensor:
        return out.copy_(torch.where(masks.unpack_bits(bits, weight.shape), weight, 0))

    moved = 2 * weight.nbytes + bits.nbytes
    return Case(
        "masked_copy", {"shape": shape, "dtype": str(dtype)[6:]}, ours, plain, lambda x: far(x, wanted), 0, moved
    )


def product_of(
    rows: int, shape: tuple[int, int], dtype: torch.dtype, *, transposed: bool, device: torch.device
) -> Case:
    """Multiply with what stays of a matrix: forwards (transposed) or backwards."""
    outputs, inputs = shape
    a = torch.randn(rows, inputs if transposed else outputs, device=device).to(dtype)
    weight, stays = torch.randn(shape, device=device) / inputs**0.5, torch.rand(shape, device=device) < 0.8
    bits = masks.pack_bits(stays)
    kept = (weight * stays).to(dtype).double().cpu()
    wanted = a.double().cpu() @ (kept.T if transposed else kept)

    def plain() -> Tensor:
        matrix = torch.where(masks.unpack_bits(bits, weight.shape), weight, 0).to(dtype)
        return a @ matrix.T if transposed else a @ matrix

    return Case(
        "masked_product", {"rows": rows, "shape": shape, "dtype": str(dtype)[6:], "transposed": transposed},
        lambda: masks.masked_product(a, weight, bits, transposed=transposed), plain, lambda x: far(x, wanted),
        limit_of(dtype), a.nbytes + weight.nbytes + bits.nbytes + wanted.numel() * a.element_size(),
        rows * outputs * inputs,
    )  # fmt: skip


def gradient_of(rows: int, shape: tuple[int, int], dtype: torch.dtype, *, smooth: bool, device: torch.device) -> Case:
    """Compute the gradient of scores."""
    outputs, inputs = shape
    gradient = torch.randn(rows, outputs, device=device).to(dtype)
    x, weight = torch.randn(rows, inputs, device=device).to(dtype), torch.randn(shape, device=device)
    scores = torch.randn(shape, device=device)

    def by(gradient: Tensor, x: Tensor, weight: Tensor, scores: Tensor) -> Tensor:
        slope = scores.sigmoid() * (1 - scores.sigmoid()) if smooth else 1
        return weight * (gradient.T @ x).to(weight.dtype) * slope

    wanted = by(*(each.double().cpu() for each in (gradient, x, weight, scores)))
    read = gradient.nbytes + x.nbytes + weight.nbytes * (2 if smooth else 1)
    return Case(
        "gradient_of_scores", {"rows": rows, "shape": shape, "dtype": str(dtype)[6:], "smooth": smooth},
        lambda: masks.gradient_of_scores(gradient, x, weight, scores, smooth=smooth),
        lambda: by(gradient, x, weight, scores), lambda given: far(given, wanted), limit_of(dtype),
        read + weight.nbytes, rows * outputs * inputs,
    )  # fmt: skip


def limit_of(dtype: torch.dtype) -> float:
    """Return what rounding inputs and results to a dtype may cost, of the largest value; sums are float32."""
    return {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]


def cases(device: torch.device, *, small: bool) -> Iterator[Case]:
    """Yield each kernel on the sizes of BERT-base, or on small ones for an interpreter."""
    for n in (5_000,) if small else (1 << 16, 3072 * 768, 30522 * 768, 1 << 28):
        for dtype in (torch.float32, torch.bfloat16):
            yield sums_of(n, dtype, device)
    shapes = [(24, 40)] if small else [(768, 768), (3072, 768), (8192, 28672)]
    for shape in shapes:
        yield draws_of(shape, device)
        for dtype in (torch.float32, torch.bfloat16):
            yield copy_of(shape, dtype, device)
    rows = (5, 33) if small else (16, 512, 4096)
    for shape in shapes[:2]:
        for many in rows:
            for dtype in (torch.float32,) if small else (torch.float32, torch.bfloat16):
                for way in (True, False):
                    yield product_of(many, shape, dtype, transposed=way, device=device)
                    yield gradient_of(many, shape, dtype, smooth=way, device=device)


def milliseconds(function: Callable[[], Any]) -> float:
    """Return what one call of several in a row takes of the GPU's time."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(REPEATS):
        function()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / REPEATS


def in_turns(ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the median of several rounds of each way, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for function in ways.values():
        for _ in range(3):  # compiles, and fills caches
            function()
    for _ in range(ROUNDS):
        for name, function in ways.items():
            times[name].append(milliseconds(function))
    return {name: median(some) for name, some in times.items()}


class Floor:
    """How fast this GPU moves bytes, and multiplies in each dtype."""

    def __init__(self, device: torch.device) -> None:
        source = torch.empty(1 << 28, dtype=torch.uint8, device=device)
        goal = torch.empty_like(source)
        self.bytes_per_ms = 2 * source.nbytes / in_turns({"copy": lambda: goal.copy_(source)})["copy"]
        self.products_per_ms: dict[str, float] = {}
        for dtype in (torch.float32, torch.bfloat16):
            a = torch.randn(4096, 4096, device=device).to(dtype)
            taken = in_turns({"product": lambda a=a: a @ a})["product"]  # type: ignore[misc]
            self.products_per_ms[str(dtype)[6:]] = 4096**3 / taken

    def of(self, case: Case) -> float:
        """Return the least time that a case could take, in milliseconds."""
        products = self.products_per_ms.get(case.about.get("dtype", ""), 1) if case.products else 1
        return max(case.moved / self.bytes_per_ms, case.products / products)


def measure(case: Case, floor: Floor | None) -> dict[str, Any]:
    """Run a case; time it if there is a GPU."""
    record: dict[str, Any] = {"part": "kernel", "name": case.name, **case.about}
    error = case.error(case.ours())
    record |= {"error": float(f"{error:.3g}"), "limit": case.limit, "right": error <= case.limit}
    if floor is None:
        return record
    ways = {"ms": case.ours}
    if case.reference is not None:
        torch.compiler.reset()
        ways |= {"compiled_ms": torch.compile(case.reference), "plain_ms": case.reference}
    times = in_turns(ways)
    record |= {name: round(value, 4) for name, value in times.items()} | {"floor_ms": round(floor.of(case), 4)}
    if "compiled_ms" in times:
        record["wins"] = times["ms"] <= times["compiled_ms"]
    return record


def paths(photos: str | None, base: str | None, train: str | None, scratch: Path) -> dict[str, tuple[list[str], str]]:
    """Return the command lines to run on both devices, and why one is left out."""
    found: dict[str, tuple[list[str], str]] = {}
    without = "" if photos else "--photos is not given"
    lines = {
        "detect": ["facetools", "detect", "--in", photos or ""],
        "embed": ["facetools", "embed", "--in", photos or "", "--force", "--out", str(scratch / "rows.safetensors")],
        "perturb": [
            "facetools", "perturb", "--attack", "lowkey", "--set", "steps=10", "--in", photos or "", "--force",
            "--out", str(scratch / "cloaked"),
        ],
    }  # fmt: skip
    found |= {name: (line, without) for name, line in lines.items()}
    without = "" if base and train else "--base and --train are not given"
    for name, out in (("finetune", "tuned"), ("mask-tune", "mask.safetensors")):
        line = ["berttools", name, "--base", base or "", "--train", train or "", "--max-steps", "60"]
        found[name] = [*line, "--force", "--out", str(scratch / out)], without
    return found


def time_path(name: str, line: list[str]) -> dict[str, Any]:
    """Run one command on both devices."""
    record: dict[str, Any] = {"part": "path", "name": name}
    for device in ("cuda", "cpu"):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", *line, "--device", device], capture_output=True, text=True, check=False
        )
        taken = round(time.perf_counter() - start, 2)
        record["gpu_s" if device == "cuda" else "cpu_s"] = taken
        if done.returncode not in (0, 3):
            record["failed"] = done.stderr.strip().rpartition("\n")[2][:300]
            break
        record["records"] = done.stdout.count("\n")
    return record


def main() -> int:
    """Measure all; 1 if a kernel is wrong."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    for option in ("--photos", "--base", "--train"):
        parser.add_argument(option)
    given = parser.parse_args()
    begin = time.monotonic()
    there = torch.cuda.is_available()
    if not there and os.environ.get("TRITON_INTERPRET") != "1":
        print(
            json.dumps({"part": "verdict", "reason": "no GPU here; TRITON_INTERPRET=1 checks the kernels without one"})
        )
        return 0
    device = torch.device("cuda" if there else "cpu")
    torch.manual_seed(0)
    floor = Floor(device) if there else None
    if floor is not None:
        print(
            json.dumps(
                {"part": "gpu", "name": torch.cuda.get_device_name(), "gb_per_s": round(floor.bytes_per_ms / 1e6)}
            )
        )
    records = []
    for case in cases(device, small=not there):
        records.append(measure(case, floor))
        print(json.dumps(records[-1]), flush=True)
    if there:
        with TemporaryDirectory() as name:
            for path, (line, without) in paths(given.photos, given.base, given.train, Path(name)).items():
                without = without or ("no time is left" if time.monotonic() - begin > SECONDS else "")
                record = {"part": "path", "name": path, "reason": without} if without else time_path(path, line)
                print(json.dumps(record), flush=True)
    right, won = sum(each["right"] for each in records), sum(each.get("wins", False) for each in records)
    print(json.dumps({"part": "verdict", "kernels": len(records), "right": right, "won": won if there else None}))
    return int(right < len(records))


if __name__ == "__main__":
    sys.exit(main())
