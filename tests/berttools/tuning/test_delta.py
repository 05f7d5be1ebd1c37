"""What a delta holds, and what it restores."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

from _toolio.errors import ToolError
from _toolio.files.hashing import sha256_of
from _toolio.tensors.reader import read_metadata
from _toolio.tensors.writer import METADATA_KEY
from berttools.checkpoints.digests import base_digest
from berttools.checkpoints.files import open_checkpoint
from berttools.classifier.model import config_text, open_model, state_arrays
from berttools.masks.metadata import canonical_json
from berttools.tuning.delta import apply_delta, changed_of, write_delta
from raw_safetensors import GOOD, one, raw_file
from tiny_models import make_base, make_tuned

NAME = "bert.encoder.layer.1.output.dense.weight"


def test_bytes_decide_what_is_changed(base: Path) -> None:
    opened = open_checkpoint(base)
    stored = {f"bert.{name}": value for name, value in safetensors.numpy.load_file(base / "model.safetensors").items()}
    assert changed_of(stored, opened)[0] == {}
    assert changed_of(stored, opened)[1][NAME] == NAME.removeprefix("bert.")
    bias = NAME.replace("weight", "bias")
    assert not stored[bias].any()
    assert list(changed_of({**stored, bias: -stored[bias]}, opened)[0]) == [bias], "-0.0 is not 0.0"
    assert list(changed_of({**stored, "classifier.bias": np.zeros(2)}, opened)[0]) == ["classifier.bias"]


@pytest.fixture
def delta(base: Path, tmp_path: Path) -> Path:
    model = open_model(make_tuned(base, tmp_path / "tuned")).model
    kept = safetensors.numpy.load_file(base / "model.safetensors")
    tensors = {
        name: kept.get(name.removeprefix("bert."), value) if name != NAME else value
        for name, value in state_arrays(model).items()
    }
    made = {"base_sha256": base_digest(open_checkpoint(base)), "figures": {}}
    write_delta(tmp_path / "d.safetensors", tensors, config_text(model), open_checkpoint(base), made)
    np.savez(tmp_path / "expected.npz", **tensors)
    return tmp_path / "d.safetensors"


def test_the_model_is_restored_bit_for_bit(base: Path, delta: Path, tmp_path: Path) -> None:
    expected = np.load(tmp_path / "expected.npz")
    done = apply_delta(base, delta, tmp_path / "restored")
    found = safetensors.numpy.load_file(tmp_path / "restored" / "model.safetensors")
    assert {name: value.tobytes() for name, value in found.items()} == {
        name: expected[name].tobytes() for name in expected.files
    }
    assert done["tensors"] == 3  # the matrix and the head
    assert done["from_delta"] == 16 * 32 + 2 * 16 + 2


def test_the_file_is_as_the_safetensors_library_writes_it(delta: Path) -> None:
    with safe_open(delta, "np") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    assert safetensors.numpy.save(tensors, metadata) == delta.read_bytes()


def test_another_base_or_tokenizer_is_refused(base: Path, delta: Path, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="was made from another base: its sha256 is") as raised:
        apply_delta(make_base(tmp_path / "other", seed=5), delta, tmp_path / "x")
    assert raised.value.kind == "other-base"
    same = Path(shutil.copytree(base, tmp_path / "same"))
    tokenizer = json.loads((same / "tokenizer.json").read_text())
    (same / "tokenizer.json").write_text(json.dumps(tokenizer | {"version": "9"}))
    with pytest.raises(ToolError, match="with another tokenizer"):
        apply_delta(same, delta, tmp_path / "x")
    with pytest.raises(ToolError, match=r"model\.safetensors: is no delta$"):
        apply_delta(base, base / "model.safetensors", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"config": "{"}, {"config": "[]"}, {"config": "[" * 100_000}, {"from_base": {"a": ["b"]}},
        {"made": {"figures": 1e999}}, {"made": {"figures": "\ud800"}},
    ],
    ids=["no JSON", "a list", "too deep", "names", "infinite", "half a pair"],
)  # fmt: skip
def test_what_no_command_writes_is_refused(base: Path, delta: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    found = read_metadata(delta)
    sha256 = found.pop("sha256")
    about = found | change
    with suppress(ValueError):  # of what no digest can be made
        sha256 = sha256_of(canonical_json(about))
    text = json.dumps({**about, "sha256": sha256})
    raw_file(tmp_path / "bad", {"__metadata__": {METADATA_KEY: text}, "a": one()}, GOOD)
    with pytest.raises(ToolError, match="what it says of its model is not what was written") as caught:
        apply_delta(base, tmp_path / "bad", tmp_path / "out")
    assert caught.value.kind == "bad-delta"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", [0.25, 0.5, 0.75, 1.0])
def test_one_changed_bit_is_seen(base: Path, delta: Path, tmp_path: Path, place: float) -> None:
    data = bytearray(delta.read_bytes())
    data[int((len(data) - 1) * place)] ^= 1
    delta.write_bytes(data)
    with pytest.raises(ToolError, match=r"d\.safetensors: "):
        apply_delta(base, delta, tmp_path / "out")
    assert not (tmp_path / "out").exists()
