"""Each fuzz script of weights, a few rounds; ``make fuzz`` runs them for longer."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import ROOT
from facetools.extractors.architectures.dlib_resnet import packaged_path
from tiny_models import make_base, make_tuned

pytestmark = pytest.mark.usefixtures("one_thread")
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "fuzz" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    module = script("weights_headers")
    module.BASE, module.MASK, module.DELTA = module._made(tmp_path_factory.mktemp("fuzz"))
    return module


@pytest.fixture(scope="module")
def torchs() -> ModuleType:
    module = script("weights_torch")
    module.DLIB = packaged_path().read_bytes()
    return module


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    module, made = script("weights_folders"), tmp_path_factory.mktemp("fuzz")
    module.BASE = make_base(Path(made, "base"))
    module.TUNED = make_tuned(module.BASE, Path(made, "tuned"))
    return module


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
