import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from _toolio.errors import ToolError
from _toolio.tensors.torch_files import load_torch, read_tensors
from _toolio.tensors.writer import write_safetensors
from raw_safetensors import one, raw_file

NARROW = (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


def test_tensors_are_read_as_they_were_stored(tmp_path):
    torch.manual_seed(0)
    plain = {"b": torch.randn(3, 4), "a": torch.arange(5), "half": torch.randn(2).half(), "none": torch.zeros(0, 3)}
    plain |= {"yes": torch.tensor([True, False]), "scalar": torch.tensor(2.5, dtype=torch.float64)}
    save_file(plain, tmp_path / "a")
    read = read_tensors(tmp_path / "a")
    assert read.keys() == plain.keys()
    for name, tensor in plain.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_narrow_floats_are_read_as_float32(tmp_path):
    narrow = {str(dtype): torch.randn(10).to(dtype) for dtype in NARROW}
    save_file(narrow, tmp_path / "a")
    for name, tensor in read_tensors(tmp_path / "a").items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, narrow[name].float())


def test_only_what_is_wanted_is_read(tmp_path):
    header = {"odd": one("F4", (4,), (0, 2)), "good": one("F32", (2,), (2, 10))}
    path = raw_file(tmp_path / "a", header, bytes(2) + np.float32([1.5, -2]).tobytes())
    assert read_tensors(path, lambda name: name == "good")["good"].tolist() == [1.5, -2]
    with pytest.raises(ToolError, match=f"{path}: cannot read dtype F4 of odd") as caught:
        read_tensors(path)
    assert (caught.value.kind, caught.value.exit_code) == ("unknown-dtype", 1)


def test_what_is_read_is_no_part_of_the_file(tmp_path):
    """A checkpoint that is read is written again in its place, and what was read is tuned on."""
    write_safetensors(tmp_path / "a", {"t": np.arange(4.0)})
    read = read_tensors(tmp_path / "a")["t"]
    with (tmp_path / "a").open("r+b") as file:
        file.seek(-32, 2)
        file.write(bytes(32))
    read += 1
    assert read.tolist() == [1, 2, 3, 4]
    assert read_tensors(tmp_path / "a")["t"].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("shape", "offsets", "data", "why"),
    [((2,), (4, 12), 12, "4 bytes in front of t"), ((2,), (0, 8), 12, "4 bytes at its end")],
    ids=["before", "behind"],
)
def test_bytes_that_belong_to_no_tensor(tmp_path, shape, offsets, data, why):
    path = raw_file(tmp_path / "a", {"t": one("F32", shape, offsets)}, bytes(data))
    with pytest.raises(ToolError, match=why) as caught:
        read_tensors(path)
    assert caught.value.kind == "bad-header"
    assert caught.value.message.startswith(f"{path}: bad header: ")


def test_a_damaged_file_is_one_line(tmp_path):
    path = raw_file(tmp_path / "a", {"t": one("F32", (2,), (0, 8))}, bytes(7))
    with pytest.raises(ToolError, match="1 bytes are missing") as caught:
        read_tensors(path)
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize("old", [False, True])
def test_a_torch_file_is_read(tmp_path, old):
    saved = {"state_dict": {"w": torch.arange(3.0)}, "epoch": 2}
    torch.save(saved, tmp_path / "a.pt", _use_new_zipfile_serialization=not old)
    read = load_torch(tmp_path / "a.pt")
    assert read["epoch"] == 2
    assert torch.equal(read["state_dict"]["w"], torch.arange(3.0))


class Shout:
    def __reduce__(self):
        return print, ("run!",)


def test_what_a_torch_file_would_run_is_not_run(tmp_path, capsys):
    torch.save({"w": Shout()}, tmp_path / "a.pt")
    with pytest.raises(ToolError, match="holds Python objects besides tensors") as caught:
        load_torch(tmp_path / "a.pt")
    assert caught.value.kind == "unsafe-pickle"
    assert capsys.readouterr().out == ""


def test_torch_files_that_are_damaged_or_gone(tmp_path):
    torch.save({"w": torch.zeros(1000)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes()[:-500])
    with pytest.raises(ToolError, match="copy it again") as caught:
        load_torch(tmp_path / "a.pt")
    assert caught.value.kind == "bad-torch-file"
    with pytest.raises(ToolError, match="cannot be read: No such file") as caught:
        load_torch(tmp_path / "gone.pt")
    assert caught.value.kind == "unreadable"
