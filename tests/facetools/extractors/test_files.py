"""Extractor files: written, described and opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from _toolio.errors import ToolError
from _toolio.tensors.reader import read_metadata
from _toolio.tensors.writer import write_safetensors
from facetools.extractors.architectures.mobilefacenet import SETTINGS, MobileFaceNet
from facetools.extractors.files import Prepared, build, measure, open_file, read_about, save_extractor, tensors_of

CPU = torch.device("cpu")
SMALL = replace(SETTINGS, input_size=(64, 64))


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(MobileFaceNet(16, (4, 4)).state_dict())


@pytest.fixture
def path(state: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    about = {"dimensions": 16, "people": ["ann"], "source": {"name": "x"}}
    save_extractor(tmp_path / "small.safetensors", "mobilefacenet", state, SMALL, about)
    return tmp_path / "small.safetensors"


def test_what_is_saved_is_opened(path: Path, state: dict[str, torch.Tensor]) -> None:
    opened = open_file(path, CPU)
    assert (opened.name, opened.architecture, opened.dimensions) == ("small", "mobilefacenet", 16)
    assert (opened.settings, opened.people, opened.device) == (SMALL, ("ann",), CPU)
    assert open_file(path, CPU, name="other").name == "other"
    chips = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    built = build("mobilefacenet", state, SMALL, {})
    torch.testing.assert_close(opened.network(chips), built(chips))
    assert isinstance(opened.network, Prepared)
    kept = tensors_of(opened.network, opened.architecture, path)
    assert {key for key in state if not key.endswith("num_batches_tracked")} <= kept.keys()


def test_the_bytes_are_those_of_the_streaming_writer(path: Path, state: dict[str, torch.Tensor]) -> None:
    arrays = {key: np.array(value.numpy(), order="C") for key, value in state.items()}
    write_safetensors(path.with_name("other.safetensors"), arrays, read_metadata(path))
    assert path.with_name("other.safetensors").read_bytes() == path.read_bytes()


def test_files_of_other_kinds(path: Path, tmp_path: Path) -> None:
    assert read_about(path)["architecture"] == "mobilefacenet"
    other = tmp_path / "other.safetensors"
    write_safetensors(other, {"a": np.ones(1)}, {})
    with pytest.raises(ToolError, match="not an extractor file: it does not say what it is; make one with"):
        read_about(other)
    write_safetensors(other, {"a": np.ones(1)}, {"schema": "facetools.embed/1"})
    with pytest.raises(ToolError, match=r"not an extractor file: it is facetools\.embed/1"):
        read_about(other)
    write_safetensors(other, {"a": np.ones(1)}, {**read_about(path), "architecture": "nope"})
    with pytest.raises(ToolError, match="architecture 'nope' is not known"):
        read_about(other)
    write_safetensors(other, {"a": np.ones(1)}, read_about(path))
    with pytest.raises(ToolError, match=r"other\.safetensors: not a usable mobilefacenet: .*; import it again"):
        open_file(other, CPU)
    for odd in ({"people": 0.0}, {"people": ["ann", None]}, {"options": 3}):
        save_extractor(other, "mobilefacenet", load_file(path), SMALL, {**read_about(path), **odd})
        with pytest.raises(ToolError, match=r"not a usable mobilefacenet: "):
            open_file(other, CPU)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.zeros(2, 4), r"its output is \(2, 4\), not \[1, D\]"),
        (torch.full((1, 4), torch.nan), "its output is not finite"),
        ((torch.zeros(1, 4),), r"its output is tuple, not \[1, D\]"),
    ],
)
def test_outputs_that_are_no_embeddings(output: object, message: str) -> None:
    class Constant(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> object:
            return output

    with pytest.raises(ValueError, match=message):
        measure(Constant(), SMALL)


def test_chips_are_prepared_and_outputs_normalised() -> None:
    seen = []

    class Seen(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x.mean((2, 3))

    settings = replace(SMALL, channel_order="bgr", mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0), mirrored=True)
    chips = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    out = Prepared(Seen(), settings)(chips)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (settings.mean, settings.std))
    wanted = (255 * chips[:, [2, 1, 0]] - mean) / std
    torch.testing.assert_close(seen[0], wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(seen[1], seen[0].flip(3))
    torch.testing.assert_close(out.norm(dim=1), torch.ones(2))
