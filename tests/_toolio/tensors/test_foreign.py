"""Files that are no tensors say what they are, whatever they are called."""

from pathlib import Path

import pytest

from _toolio.errors import ToolError
from _toolio.tensors.foreign import advice_about, pointer_advice
from _toolio.tensors.reader import open_safetensors
from _toolio.tensors.torch_files import load_torch

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 438064459\n"
SAFETENSORS = (2).to_bytes(8, "little") + b"{}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (POINTER, "is a Git LFS pointer, fetch the file with `git lfs pull`"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"GGUF" + bytes(40), "GGUF"),
        (SAFETENSORS, "name it .safetensors"),
    ],
)
def test_what_is_no_torch_file(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(ToolError, match=said) as caught:
        load_torch(tmp_path / "pytorch_model.bin")
    assert caught.value.kind == "bad-torch-file"
    assert str(tmp_path / "pytorch_model.bin") in caught.value.message


def test_a_pointer_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(POINTER)
    with pytest.raises(ToolError, match="Git LFS pointer"):
        open_safetensors(tmp_path / "model.safetensors")
    assert pointer_advice(tmp_path / "model.safetensors")
    assert pointer_advice(tmp_path / "absent") is None


def test_files_of_tensors_are_none_of_these() -> None:
    assert advice_about(SAFETENSORS) is None
    assert advice_about(b"PK\x03\x04" + bytes(28), torchs=True) is None
    assert advice_about(b"\x80\x02" + bytes(28), torchs=True) is None
