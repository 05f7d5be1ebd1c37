"""Which device a command computes on."""

from __future__ import annotations

import os
import warnings

import pytest
import torch

from _toolio.compute.device import enough_memory, one_thread, pick_device, reproducible, seeded, share_out
from _toolio.errors import ToolError


@pytest.mark.parametrize(
    ("spec", "gpus", "expected"),
    [("cpu", 2, "cpu"), ("auto", 0, "cpu"), ("auto", 2, "cuda"), ("cuda", 1, "cuda"), ("cuda:1", 2, "cuda:1")],
)
def test_a_device_that_is_there(monkeypatch: pytest.MonkeyPatch, spec: str, gpus: int, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    assert pick_device(spec) == torch.device(expected)


@pytest.mark.parametrize(
    ("spec", "gpus"), [("cuda", 0), ("cuda:2", 2), ("cuda:256", 2), ("cuda:999", 2), ("cuda:99999999999999999999", 2)]
)
def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, spec: str, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ToolError, match=f"device {spec}: {gpus} GPUs found; use device auto"):
        pick_device(spec)


def test_work_is_shared_out_by_core_on_a_cpu_and_by_batch_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: told[-1] if told else 5)
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    assert share_out(torch.device("cuda"), 8) == (1, 8)
    assert share_out(torch.device("cpu"), 8) == (5, 1)
    with one_thread(torch.device("cuda")):
        assert told == []
    with one_thread(torch.device("cpu")):
        assert told == [1]
    assert told == [1, 5]


def test_a_gpu_computes_reproducibly_inside_the_block_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    settings = torch.utils.deterministic
    before = (torch.get_deterministic_debug_mode(), settings.fill_uninitialized_memory, list(warnings.filters))
    with reproducible(torch.device("cpu")):
        assert torch.get_deterministic_debug_mode() == 0
    with (
        warnings.catch_warnings(action="error"),
        pytest.raises(ZeroDivisionError),
        reproducible(torch.device("cuda")),
    ):
        assert torch.get_deterministic_debug_mode() == 1  # it warns, and goes on
        assert not settings.fill_uninitialized_memory
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        warnings.warn("this has no deterministic implementation", stacklevel=1)
        raise ZeroDivisionError
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    assert (torch.get_deterministic_debug_mode(), settings.fill_uninitialized_memory, list(warnings.filters)) == before


def test_a_seed_is_that_of_the_block_only() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with seeded(7):
        inside = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(3), inside)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB.\nSee the documentation"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:83] . DefaultCPUAllocator: not enough memory: you tried to"),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_is_one_line(error: Exception) -> None:
    with pytest.raises(ToolError) as raised, enough_memory(torch.device("cpu"), "a smaller --batch"):
        raise error
    assert (raised.value.message, raised.value.exit_code) == ("cpu: out of memory; try a smaller --batch", 1)


def test_what_a_cpu_says_that_has_no_memory_left() -> None:
    with pytest.raises(ToolError, match="out of memory"), enough_memory(torch.device("cpu"), "less"):
        torch.empty(1 << 50, dtype=torch.uint8)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="a bug"), enough_memory(torch.device("cpu"), "less"):
        raise RuntimeError("a bug")
