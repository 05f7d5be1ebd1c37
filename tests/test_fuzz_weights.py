"""Each fuzz script of weights, a few rounds; ``make fuzz`` runs them for longer."""

from __future__ import annotations

import random
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import ROOT
from fuzzing import load_script

pytestmark = pytest.mark.usefixtures("one_thread")
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def prepared(name: str, factory: pytest.TempPathFactory) -> ModuleType:
    return load_script(ROOT / "tests" / "fuzz" / f"{name}.py", factory.mktemp("fuzz"))


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return prepared("weights_headers", tmp_path_factory)


@pytest.fixture(scope="module")
def torchs(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return prepared("weights_torch", tmp_path_factory)


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    pytest.importorskip("onnx")
    return prepared("weights_onnx", tmp_path_factory)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return prepared("weights_folders", tmp_path_factory)


@given(seed=st.integers(0, 1 << 60))
@few
def test_headers_masks_deltas_and_indexes(headers: ModuleType, seed: int) -> None:
    assert headers.try_one(random.Random(seed)).endswith(("read", "refused"))


@given(seed=st.integers(0, 1 << 60))
@few
def test_files_of_torch_and_dlib(torchs: ModuleType, seed: int) -> None:
    assert torchs.try_one(random.Random(seed)).endswith(("read", "refused"))


@given(seed=st.integers(0, 1 << 60))
@few
def test_configurations_adapters_and_names(folders: ModuleType, seed: int) -> None:
    assert folders.try_one(random.Random(seed)).endswith(("read", "refused"))


@given(seed=st.integers(0, 1 << 60))
@few
def test_networks_of_onnx(onnx: ModuleType, seed: int) -> None:
    assert onnx.try_one(random.Random(seed)) in ("read", "refused")
