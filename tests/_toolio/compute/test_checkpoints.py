"""A training that is cut off and resumed takes the same steps as one that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn, optim

from _toolio.compute.checkpoints import figures_in, figures_of, how_far, load_training, save_training
from _toolio.errors import ToolError, UsageError
from _toolio.files.checkpoint_names import fold_checkpoint
from _toolio.tensors.writer import write_safetensors

STEPS = 6
ABOUT = {"schema": "tool.train/1", "arguments": {"lr": 0.1, "seed": 0}, "inputs": "abc"}


class Training:
    """Linear regression with batch normalisation, AdamW and a schedule of STEPS steps."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.parts = {"net": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), "head": nn.Linear(4, 1)}
        values = [value for part in self.parts.values() for value in part.parameters()]
        self.optimizer = optim.AdamW(values, lr=0.1)
        self.schedule = optim.lr_scheduler.OneCycleLR(self.optimizer, 0.1, total_steps=STEPS)

    def step(self, number: int) -> None:
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(number))
        self.optimizer.zero_grad()
        self.parts["head"](self.parts["net"](x)).square().mean().backward()
        self.optimizer.step()
        self.schedule.step()

    def save(self, path: Path, **more: Any) -> None:
        save_training(path, self.parts, self.optimizer, {**ABOUT, "step": self.schedule.last_epoch, **more})

    def load(self, path: Path, **changed: Any) -> dict[str, Any]:
        return load_training(path, self.parts, self.optimizer, self.schedule, {**ABOUT, **changed})

    def state(self) -> dict[str, torch.Tensor]:
        return {f"{name}.{key}": v for name, part in self.parts.items() for key, v in part.state_dict().items()}


@pytest.mark.parametrize("cut", [1, 3, STEPS - 1])
def test_a_resumed_training_ends_as_one_that_was_not_cut(cut: int, tmp_path: Path) -> None:
    whole, first, rest = Training(), Training(), Training()
    for number in range(STEPS):
        whole.step(number)
    for number in range(cut):
        first.step(number)
    first.save(tmp_path / "c", epoch=2)
    for _ in range(2):  # another start does not matter
        rest.step(99)
    rest = Training()
    nn.init.zeros_(rest.parts["head"].weight)
    assert rest.load(tmp_path / "c") == {**ABOUT, "step": cut, "epoch": 2}
    assert rest.schedule.get_last_lr() == first.schedule.get_last_lr()
    for number in range(cut, STEPS):
        rest.step(number)
    assert rest.schedule.get_last_lr() == whole.schedule.get_last_lr()
    for name, value in whole.state().items():
        assert torch.equal(rest.state()[name], value), name


def test_what_a_checkpoint_holds(tmp_path: Path) -> None:
    training = Training()
    training.step(0)
    training.save(tmp_path / "c")
    stored = load_file(tmp_path / "c")
    assert training.state().keys() <= stored.keys()
    assert {name for name in stored if name.startswith("optimizer.0.")} == {
        "optimizer.0.step", "optimizer.0.exp_avg", "optimizer.0.exp_avg_sq",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"schema": "tool.other/1"}, "not a checkpoint of this command; remove it to start again"),
        ({"inputs": "xyz"}, "made with other inputs; remove it to start again"),
        ({"arguments": {"lr": 0.1, "seed": 1}}, r"made with other arguments \(seed was 0, and is 1\); remove it"),
        ({"arguments": {"lr": 0.1, "seed": 0, "é": 1}}, r"other arguments \('?é'? was None, and is 1\)"),
    ],
)
def test_other_arguments_or_inputs_are_refused(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    training = Training()
    training.step(0)
    training.save(tmp_path / "c")
    with pytest.raises(UsageError, match=message):
        Training().load(tmp_path / "c", **changed)


@pytest.mark.parametrize("size", [0, 5, 200])
def test_a_damaged_checkpoint_says_the_way_out(size: int, tmp_path: Path) -> None:
    training = Training()
    training.step(0)
    training.save(tmp_path / "c")
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:size])
    with pytest.raises(ToolError, match="empty, cut short or damaged; remove it to start again") as caught:
        Training().load(tmp_path / "c")
    assert caught.value.exit_code == 1
    with pytest.raises(ToolError, match="gone: no such file") as caught:
        Training().load(tmp_path / "gone")
    assert caught.value.kind == "not-found"


def test_figures_of_a_training_that_is_done(tmp_path: Path) -> None:
    figures = {"auc": 0.75, "epoch": 3}
    write_safetensors(tmp_path / "out", {}, {**ABOUT, "figures": figures, "more": 1})
    assert figures_of(tmp_path / "out", ABOUT) == figures_in({**ABOUT, "figures": figures}, tmp_path, {}) == figures
    with pytest.raises(UsageError, match=r"^out .*/out: made with other inputs; give another file, or force$"):
        figures_of(tmp_path / "out", {**ABOUT, "inputs": "xyz"})


def test_how_far_a_training_came(tmp_path: Path) -> None:
    path = tmp_path / "x.checkpoint"
    assert how_far(path) is None
    for about, expected in (
        ({"epoch": 3, "step": 60, "arguments": {"epochs": 5}}, (3, 5, "epoch")),
        ({"step": 120, "arguments": {"steps": 400, "batch": 8}}, (120, 400, "step")),
        ({"step": 120, "arguments": {"lr": 0.1}}, None),
        ({"step": 120}, None),
        ({"step": "120", "arguments": {"steps": 400}}, None),
        ({"step": 120, "arguments": {"steps": "4", "folds": 2**63}}, None),
    ):
        write_safetensors(path, {}, about)
        assert how_far(path) == expected
    path.write_bytes(b"cut")
    assert how_far(path) is None


def test_how_far_a_training_with_folds_came(tmp_path: Path) -> None:
    path, arguments = tmp_path / "x.checkpoint", {"epochs": 4, "folds": 2}
    write_safetensors(fold_checkpoint(path, 1), {}, {"epoch": 4, "arguments": arguments})
    assert how_far(path) == (4, 12, "epoch")
    write_safetensors(path, {}, {"epoch": 1, "arguments": arguments})
    assert how_far(path) == (5, 12, "epoch")


@pytest.mark.parametrize(
    ("what", "changed"),
    [
        (b'"step\\":1', b'"step\\":2'),
        (b'"dtype":"I64"', b'"dtype":"U64"'),
        (b'"shape":[4,3]', b'"shape":[3,4]'),
        (b"", b""),
    ],
    ids=["metadata", "dtype", "shape", "a value"],
)
def test_damage_is_seen(what: bytes, changed: bytes, tmp_path: Path) -> None:
    training, path = Training(), tmp_path / "c"
    training.step(0)
    training.save(path, counts={2: 0, 10: 1})
    assert Training().load(path)["counts"] == {"2": 0, "10": 1}
    data = path.read_bytes()
    assert what in data
    path.write_bytes(data.replace(what, changed, 1) if what else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ToolError, match=r"c: the checkpoint is empty, cut short or damaged; remove it to start again"):
        Training().load(path)
    write_safetensors(path, {}, {**ABOUT, "step": 1})
    with pytest.raises(ToolError, match="c: a checkpoint of another version; remove it to start again"):
        Training().load(path)
