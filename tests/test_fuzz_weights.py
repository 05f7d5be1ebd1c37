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
SCRIPTS = sorted((ROOT / "tests" / "fuzz").glob("weights_*.py"))


@pytest.fixture(scope="module", params=SCRIPTS, ids=lambda path: path.stem)
def script(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    if request.param.stem == "weights_onnx":
        pytest.importorskip("onnx")
    return load_script(request.param, tmp_path_factory.mktemp("fuzz"))


@given(seed=st.integers(0, 1 << 60))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_weights(script: ModuleType, seed: int) -> None:
    assert script.try_one(random.Random(seed)).endswith(("read", "refused"))
