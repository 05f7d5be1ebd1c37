"""bfloat16 where the hardware has it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from _toolio.compute import precision
from _toolio.compute.precision import Precision, doubt_of, in_half
from _toolio.errors import UsageError


@pytest.mark.parametrize("major", [7, 8])
def test_bfloat16_is_for_gpus_that_compute_in_it(monkeypatch: pytest.MonkeyPatch, major: int) -> None:
    cuda = {"is_available": lambda: True, "current_device": lambda: 0, "_check_bf16_tensor_supported": lambda _: True}
    for name, stand_in in cuda.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(major=major))
    monkeypatch.setattr(torch.version, "cuda", "12.0")
    monkeypatch.setattr(torch.version, "hip", None)
    assert torch.cuda.is_bf16_supported(), "emulated, at least"
    assert in_half(Precision.auto, torch.device("cuda")) == (major >= 8)
    assert not in_half(Precision.auto, torch.device("cpu"))
    assert in_half(Precision.bfloat16, torch.device("cuda"))
    assert not in_half(Precision.float32, torch.device("cuda"))


def test_a_precision_may_be_given_as_text() -> None:
    kind: Any = "bfloat16"
    assert in_half(kind, torch.device("cpu"))
    kind = "float16"
    with pytest.raises(UsageError, match="precision float16: is none of auto, float32, bfloat16"):
        in_half(kind, torch.device("cpu"))


@pytest.mark.parametrize("emulates", [True, False])
def test_bfloat16_that_is_emulated_is_doubted(monkeypatch: pytest.MonkeyPatch, emulates: bool) -> None:
    cpu = torch.device("cpu")
    if torch.backends.mkldnn.is_available():
        assert hasattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported"), "torch calls it otherwise: nobody is warned"
    monkeypatch.setattr(precision, "_emulates_bfloat16", lambda: emulates)
    assert ("several times slower than float32" in doubt_of(cpu, half=True)) == emulates
    assert doubt_of(cpu, half=False) == doubt_of(torch.device("cuda"), half=True) == ""
