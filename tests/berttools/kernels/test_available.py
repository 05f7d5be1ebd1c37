"""Kernels are chosen on a GPU, and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from berttools.kernels import available


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Choose again in each test, and in those after."""
    available.triton_kernels.cache_clear()
    yield
    available.triton_kernels.cache_clear()


def test_no_kernels_on_a_cpu() -> None:
    assert not available.is_fused(torch.device("cpu"))
    assert available.is_fused(torch.device("cuda:1"))
    assert available.kernels_for(torch.zeros(2, 2)) is None


def test_a_matrix_may_be_too_large_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = SimpleNamespace(MOST_ENTRIES=4)
    monkeypatch.setattr(available, "triton_kernels", lambda: kernels)
    monkeypatch.setattr(available, "FUSED", {"cpu"})
    assert available.kernels_for(torch.zeros(2, 2)) is kernels
    assert available.kernels_for(torch.zeros(2, 3)) is None


def test_a_missing_compiler_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from berttools.kernels import masks

    def fails(_: object) -> None:
        raise RuntimeError("no C compiler\nand more")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", lambda *_, **__: None)
    monkeypatch.setattr(masks, "pack_bits", fails)
    with caplog.at_level(logging.WARNING):
        assert [available.triton_kernels() for _ in range(2)] == [None, None]
    assert [record.getMessage() for record in caplog.records] == [
        "berttools: warning: Triton cannot be used, and masks take longer without: no C compiler"
    ]
