"""Which engine options name."""

from __future__ import annotations

import pytest

from _toolio.cli.engines import Kind, choose
from _toolio.engines.engine import LocalEngine
from _toolio.engines.ray_engine import RayEngine
from _toolio.errors import UsageError


def test_this_process_is_the_default() -> None:
    engine = choose("facetools", Kind.local, "cuda:1", None, None)
    assert isinstance(engine, LocalEngine)
    assert engine.here == "cuda:1"


def test_on_a_cluster_this_process_deals_out_and_needs_no_gpu() -> None:
    pytest.importorskip("ray")
    engine = choose("facetools", Kind.ray, "cuda", 3, 0.5)
    assert isinstance(engine, RayEngine)
    assert engine.here == "cpu"


def test_options_of_the_cluster_need_it() -> None:
    with pytest.raises(UsageError, match=r"^gpus_per_actor is of engine ray; give both$"):
        choose("facetools", Kind.local, "cpu", None, 0.0)
