import os
import subprocess
import sys
import zipfile
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from _toolio.errors import ToolError
from _toolio.tensors.torch_zip import open_torch_zip

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def opened(tmp_path, saved):
    torch.save(saved, tmp_path / "x.bin")
    return open_torch_zip(tmp_path / "x.bin")


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(tmp_path, dtype):
    tensor = (torch.arange(12).reshape(3, 4) % 2 if dtype is torch.bool else torch.arange(12).reshape(3, 4)).to(dtype)
    file = opened(tmp_path, {"a": tensor, "scalar": tensor[0, 1], "empty": tensor[:0]})
    assert {name: (entry.dtype, entry.shape) for name, entry in file.entries.items()} == {
        "a": (DTYPES[dtype], (3, 4)), "scalar": (DTYPES[dtype], ()), "empty": (DTYPES[dtype], (0, 4)),
    }  # fmt: skip
    assert np.array_equal(file.tensor("a"), tensor.float().numpy())
    assert file.tensor("scalar") == tensor[0, 1].item()


def test_what_models_are_saved_as(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    want = {name: value.numpy() for name, value in model.state_dict().items()}
    for saved in (
        model.state_dict(),
        {"state_dict": model.state_dict(), "epoch": 3, "loss": [0.5, None, True]},
        OrderedDict(model.named_parameters()),
    ):
        file = opened(tmp_path, saved)
        assert file.entries.keys() == want.keys()
        for name, value in want.items():
            assert np.array_equal(file.tensor(name), value)


@pytest.mark.parametrize(
    "inner", [{"w": torch.ones(3)}, {"layers": {"w": torch.ones(3)}}, {"state": {0: torch.ones(3)}}]
)
def test_a_few_tensors_beside_a_model_are_not_taken_for_it(tmp_path, inner):
    with pytest.raises(ToolError, match=r"x\.bin: tensors at its top, such as step, and in model too; .* dict alone"):
        opened(tmp_path, {"model": inner, "step": torch.tensor([5.0])})
    assert opened(tmp_path, {"state_dict": {"w": torch.ones(3)}, "step": torch.tensor([5.0])}).entries.keys() == {"w"}
    assert opened(tmp_path, {"w": torch.ones(3), "about": {"epoch": 3}}).entries.keys() == {"w"}


def test_dicts_named_in_many_places_are_looked_into_once(tmp_path):
    inner = {}
    for _ in range(100):
        inner = {"a": inner, "b": inner}
    assert opened(tmp_path, {"w": torch.ones(3), "about": inner}).entries.keys() == {"w"}


def test_tensors_that_share_a_storage(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    file = opened(tmp_path, {"whole": whole, "row": whole[1], "rows": whole[1:]})
    assert file.tensor("row").tolist() == [4, 5, 6, 7]
    assert file.tensor("rows").tolist() == whole[1:].tolist()


@pytest.mark.parametrize("tensor", [torch.ones(3, 4).T, torch.ones(3, 4)[:, 1:], torch.ones(1).expand(5)])
def test_other_orders_are_left_to_torch(tmp_path, tensor):
    assert opened(tmp_path, {"a": tensor}) is None


def test_nothing_in_it_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    assert opened(tmp_path, {"a": torch.ones(2), "b": Evil()}) is None
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("saved", [[torch.ones(2)], torch.ones(2), {"a": 1}, {1: torch.ones(2)}, {}])
def test_no_tensors_by_name(tmp_path, saved):
    assert opened(tmp_path, saved) is None


def test_damaged_and_other_files(tmp_path):
    path = tmp_path / "x.bin"
    torch.save({"a": torch.ones(300)}, path)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 97):
        path.write_bytes(whole[:cut])
        assert open_torch_zip(path) is None
    for place in range(0, len(whole), 41):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with suppress(ToolError):  # whatever it finds, it raises nothing else
            open_torch_zip(path)
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    assert open_torch_zip(path) is None
    assert open_torch_zip(tmp_path / "nowhere") is None
    assert open_torch_zip(tmp_path) is None


def test_the_other_byte_order_is_left_to_torch_and_compressed_members_are_refused(tmp_path):
    """Torch would map a compressed member as if it were not, and return other values."""
    path = tmp_path / "x.bin"
    torch.save({"a": torch.ones(300)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for kind, order in ((zipfile.ZIP_DEFLATED, b"little"), (zipfile.ZIP_STORED, b"big")):
        with zipfile.ZipFile(path, "w", kind) as archive:
            for name, data in members.items():
                archive.writestr(name, order if name.endswith("byteorder") else data)
        if kind == zipfile.ZIP_STORED:
            assert open_torch_zip(path) is None
            continue
        with pytest.raises(ToolError, match=r"data\.pkl. is compressed"):
            open_torch_zip(path)


def test_no_torch_is_needed(tmp_path):
    torch.save({"a": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "x.bin")
    code = (
        "import sys; from pathlib import Path; from _toolio.tensors.torch_zip import open_torch_zip as o;"
        f"print(o(Path({str(tmp_path / 'x.bin')!r})).tensor('a').tolist(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[1.0, 1.0] False\n"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell a process's memory")
def test_a_few_bytes_cannot_ask_for_gigabytes(tmp_path):
    path = tmp_path / "x.bin"
    torch.save({"a": torch.ones(3)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            # Keep the dict, which is the first object, once more, under a number for which room has to be made.
            bomb = data[:3] + b"r" + (1 << 27).to_bytes(4, "little") + data[3:]
            archive.writestr(name, bomb if name.endswith("data.pkl") else data)
    assert members[next(name for name in members if name.endswith("data.pkl"))][2:3] == b"}"
    code = (
        "from pathlib import Path; from _toolio.tensors.torch_zip import open_torch_zip as o;"
        # The most that was resident since this program began; getrusage counts what it was started by, too.
        f"print(o(Path({str(path)!r})) is None, Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, kilobytes = done.stdout.split()
    assert found == "True"
    assert int(kilobytes) < 500_000
