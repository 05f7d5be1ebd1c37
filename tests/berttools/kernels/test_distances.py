"""The GPU's sums against the CPU's; without a GPU, Triton interprets the kernel in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from berttools.checkpoints.files import open_checkpoint
from berttools.layerdiff.diffs import diff_checkpoints
from conftest import ROOT

FIELDS = ("angle", "l1", "mean_abs", "rel_l1", "l2", "rel_l2", "max_abs", "changed")
SCRIPT = """
import json, sys, torch
from berttools.layerdiff import diffs, distances
from berttools.layerdiff.gpu import Stream
from berttools.checkpoints.files import open_checkpoint
from berttools.kernels.distances import block_sums, torch_sums

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
distances._CHUNK, distances._WINDOW = 1000, 3000
generator = torch.Generator().manual_seed(0)
for n in (1, 4095, 4096, 4097, 10000):
    for one in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        for other in (torch.float32, one):
            a = torch.randn(n, generator=generator).to(device, one)
            b = (a.float() + 0.01 * torch.randn(n, generator=generator).to(device)).to(other)
            assert torch.allclose(block_sums(a, b), torch_sums(a, b), rtol=1e-12), (n, one, other)
base, ft = map(open_checkpoint, sys.argv[1:])
diffs._worker = lambda *_: lambda jobs, _: Stream(jobs, device)
for diff in diffs.diff_checkpoints(base, ft):
    found = diff.distance
    fields = {f: getattr(found, f) for f in %r} if found else {}
    fields |= {"name": diff.name, "error": diff.error and diff.error.kind, "rounding": diff.rounding_angle}
    print(json.dumps(fields))
""" % (FIELDS,)  # noqa: UP031 - braces are the script's


def odd_tensor(path: Path) -> None:
    """Rename one tensor's dtype to what nobody knows."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["odd"]["dtype"] = "Q9"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def test_the_same_numbers_as_on_a_cpu(tmp_path):
    generator = torch.Generator().manual_seed(1)
    base = {
        "layer.0.fc1.weight": torch.randn(70, 50, generator=generator),
        "layer.0.attn.c_attn.weight": torch.randn(20, 60, generator=generator),
        "half": torch.randn(5000, generator=generator).half(),
        "double": torch.randn(4097, generator=generator).double(),
        "brain": torch.randn(9000, generator=generator).bfloat16(),
        "whole": torch.arange(100),
        "odd": torch.ones(4),
        "zero": torch.zeros(10),
        "mixed": torch.randn(600, generator=generator),
    }
    ft = {
        name: value + 1 if value.dtype == torch.int64 else (value.double() * 1.001 + 0.01).to(value.dtype)
        for name, value in base.items()
    }
    ft["mixed"] = ft["mixed"].bfloat16()
    for name, tensors in (("base", base), ("ft", ft)):
        save_file(tensors, tmp_path / name)
        odd_tensor(tmp_path / name)
    paths = [tmp_path / "base", tmp_path / "ft"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")} | (
        {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    )
    done = subprocess.run([sys.executable, "-c", SCRIPT, *paths], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    got = [json.loads(line) for line in done.stdout.splitlines()]
    want = list(diff_checkpoints(*map(open_checkpoint, paths)))
    assert [line["name"] for line in got] == [diff.name for diff in want]
    for line, diff in zip(got, want, strict=True):
        assert line["error"] == (diff.error and diff.error.kind)
        assert line["rounding"] == (diff.rounding_angle and pytest.approx(diff.rounding_angle, rel=1e-9))
        for field in FIELDS if diff.distance else ():
            value = getattr(diff.distance, field)
            near = None if value is None else pytest.approx(value, rel=1e-9, abs=1e-15)
            assert line[field] == near, (diff.name, field)
    assert sum(diff.distance is not None and np.any(diff.distance.angle) for diff in want) >= 8


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(run, tmp_path):
    save_file({"w": torch.ones(3)}, tmp_path / "w.safetensors")
    done = run("berttools", "layerdiff", tmp_path / "w.safetensors", tmp_path / "w.safetensors", "--device", "cuda")
    assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
    assert "0 GPUs found" in done.err
    auto = run("berttools", "layerdiff", tmp_path / "w.safetensors", tmp_path / "w.safetensors", "--device", "auto")
    assert (auto.code, auto.records[0]["angle"]) == (0, 0.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_command_on_a_gpu(run, tmp_path):
    weight = torch.randn(3000, 1000, generator=torch.Generator().manual_seed(0))
    for name, value in (("base", weight), ("ft", weight + 1e-3)):
        save_file({"w": value}, tmp_path / f"{name}.safetensors")
    pair = [tmp_path / f"{name}.safetensors" for name in ("base", "ft")]
    (cpu,), (gpu,) = (run("berttools", "layerdiff", *pair, "--device", name).records for name in ("cpu", "cuda"))
    assert gpu["angle_rad"] == pytest.approx(cpu["angle_rad"], rel=1e-9)
