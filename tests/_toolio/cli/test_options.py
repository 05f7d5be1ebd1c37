"""Options of all commands: what each takes and refuses, on a made-up command."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from _toolio.cli.options import Batch, Device, Force, Inputs, Null, OutFile, Resume, Seed, Shard, finite, named

found: dict[str, Any] = {}


def some(
    *,
    out: OutFile,
    inputs: Inputs = None,
    null: Null = False,
    shard: Shard = None,
    device: Device = "auto",
    seed: Seed = 0,
    batch: Batch = 8,
    force: Force = False,
    resume: Resume = False,
) -> None:
    found.update(locals())


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(some)
    found.clear()
    done = CliRunner().invoke(app, ["--out", "x", *arguments])
    return done.exit_code, done.output


def test_defaults() -> None:
    assert run() == (0, "")
    assert found == {
        "out": Path("x"), "inputs": None, "null": False, "shard": None, "device": "auto", "seed": 0, "batch": 8,
        "force": False, "resume": False,
    }  # fmt: skip


def test_long_and_short_names() -> None:
    assert run("-i", "a", "--in", "b", "-0", "-o", "y", "--force", "--resume")[0] == 0
    assert (found["inputs"], found["null"], found["out"]) == (["a", "b"], True, Path("y"))
    assert found["force"] is found["resume"] is True
    assert run("--null")[0] == 0
    assert found["null"] is True


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:15", "cuda:9999"])
def test_devices(device: str) -> None:
    assert run("--device", device)[0] == 0
    assert found["device"] == device


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:00", "cuda:-1", "cuda:10000", "cpu:0", "CPU", "cuda:²"])
def test_what_is_no_device(device: str) -> None:
    code, said = run("--device", device)
    assert code == 2
    assert "is not auto, cpu, cuda or cuda:N" in said
    assert not found


@pytest.mark.parametrize(
    ("option", "value"),
    [("--shard", "3/2"), ("--shard", "x"), ("--seed", "-1"), ("--seed", "1.5"), ("--batch", "0"), ("--batch", "x")],
)
def test_what_is_out_of_range(option: str, value: str) -> None:
    code, said = run(option, value)
    assert code == 2
    assert option in said
    assert not found


def test_a_shard_is_checked_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("--shard", "2/8")[0] == 0
    assert found["shard"] == "2/8"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "5")
    assert run()[0] == 2


@pytest.mark.parametrize("value", [None, 0.0, -1.5, 1e300])
def test_finite(value: float | None) -> None:
    assert finite(value) is value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite(value: float) -> None:
    with pytest.raises(typer.BadParameter, match="is not a finite number"):
        finite(value)


def test_braces_in_names_are_expanded_and_come_in_order() -> None:
    assert named(["b{1..2}.tar", "-"], ["{x,y}.jpg"]) == ["b1.tar", "b2.tar", "-", "x.jpg", "y.jpg"]
    assert named(None, None) == []
