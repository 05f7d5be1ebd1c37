import copy
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from _toolio.errors import ToolError
from _toolio.tensors import torch_zip
from _toolio.tensors.torch_files import load_torch, read_tensors
from _toolio.tensors.torch_zip import open_torch_zip
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


def saved(tmp_path, value, *, old=False, compressed=False, **members):
    """Save a value as torch does, with other bytes for some members of the zip."""
    path = tmp_path / "x.bin"
    torch.save(value, path, _use_new_zipfile_serialization=not old)
    if members or compressed:
        with zipfile.ZipFile(path) as archive:
            held = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
            for name, data in held.items():
                archive.writestr(name, members.get(name.rpartition("/")[2].replace(".", "_"), data))
    return path


def pickled(name, size, key=b"}X\x01\x00\x00\x00a"):
    """Return a pickle of ``{"a": name(size)}``, of two dozen bytes."""
    return b"\x80\x02" + key + b"c" + name + b"\n\x8a\x05" + size.to_bytes(5, "little") + b"\x85Rs."


BOMBS = {
    "is compressed": {"compressed": True, "byteorder": bytes(10_000_000)},
    "byteorder' would be 9 bytes": {"byteorder": b"little   "},
    "version' would be 2,000,000 bytes": {"version": bytes(2_000_000)},
    "an array of bytes": {"data_pkl": pickled(b"builtins\nbytearray", 1 << 32)},
    "no values of its own": {"data_pkl": pickled(b"torch\nTensor", 1 << 28)},
}


@pytest.mark.parametrize("said", BOMBS)
def test_a_zip_of_which_a_few_bytes_would_take_gigabytes(tmp_path, said):
    path = saved(tmp_path, {"a": torch.ones(3)}, **BOMBS[said])
    with pytest.raises(ToolError, match=said) as caught:
        load_torch(path)
    assert caught.value.kind in ("bad-torch-file", "unsafe-pickle")


@pytest.mark.parametrize("read", [load_torch, open_torch_zip])
def test_a_torchscript_archive_is_called_what_it_is(tmp_path, read):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "a.pt")
    with pytest.raises(ToolError, match=r"a\.pt: a TorchScript archive is code; save its state dict") as caught:
        read(tmp_path / "a.pt")
    assert caught.value.kind == "unsafe"


def test_a_pickle_that_names_no_bytes_is_not_parsed_twice(tmp_path, monkeypatch):
    torch.save({"a": torch.ones(3), "steps": list(range(1000))}, tmp_path / "a.pt")
    parsed = []
    monkeypatch.setattr(torch_zip.pickletools, "genops", lambda stream: parsed.append(stream) or ())
    assert load_torch(tmp_path / "a.pt")["steps"][-1] == 999
    assert not parsed


def test_members_that_lie_where_others_do(tmp_path):
    path = saved(tmp_path, {"a": torch.ones(3)})
    with zipfile.ZipFile(path, "a") as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith("data/0"))
        for number in range(100):  # a hundred names in the directory for one place
            copied = copy.copy(info)
            copied.filename += str(number)
            copied.compress_size = copied.file_size = 100
            archive.filelist.append(copied)
        archive._didModify = True
    with pytest.raises(ToolError, match="lies where others do"):
        load_torch(path)


def test_an_old_file_with_an_array_of_bytes(tmp_path):
    path = saved(tmp_path, {"a": torch.ones(3)}, old=True)
    data = path.read_bytes()
    begin = data.index(b"\x80\x02}", data.index(b"little_endian"))  # where what was saved begins
    path.write_bytes(data[:begin] + pickled(b"builtins\nbytearray", 1 << 32) + data[begin:])
    with pytest.raises(ToolError, match="an array of bytes") as caught:
        load_torch(path)
    assert caught.value.kind == "unsafe-pickle"


@pytest.mark.parametrize(
    "value", [{"a": {"b": torch.ones(1).expand(9000)}}, [torch.ones(10, device="meta")]], ids=["expanded", "meta"]
)
def test_tensors_without_values_of_their_own(tmp_path, value):
    with pytest.raises(ToolError, match="no values of its own") as caught:
        load_torch(saved(tmp_path, value))
    assert caught.value.kind == "bad-torch-file"


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_file_with_other_bytes_is_read_or_refused_in_one_line(tmp_path_factory, data):
    """struct.error and AssertionError were among what torch raised."""
    path = tmp_path_factory.mktemp("t") / "x.bin"
    old = data.draw(st.booleans(), "old")
    torch.save({"a": torch.ones(3), "b": OrderedDict(c=torch.zeros(2))}, path, _use_new_zipfile_serialization=not old)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4), "changes")):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)) | st.just(len(whole)), "length")])
    try:
        load_torch(path)
    except ToolError as error:
        assert str(path) in error.message
        assert "\n" not in error.message


def test_an_old_file_that_is_cut_short(tmp_path):
    path = saved(tmp_path, {"a": torch.ones(3), "b": torch.zeros(2)}, old=True)
    whole = path.read_bytes()
    for size in range(60, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(ToolError) as caught:
            load_torch(path)
        assert caught.value.kind in ("bad-torch-file", "unsafe-pickle")
