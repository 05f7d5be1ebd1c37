import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from _toolio.errors import InputError, ToolError
from _toolio.tensors.writer import write_safetensors
from berttools.checkpoints.files import open_checkpoint

A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.arange(4, dtype=np.float64)


def whole(checkpoint, name):
    return np.concatenate(list(checkpoint.chunks(name, 2)))


def check_refused(path, kind):
    with pytest.raises(ToolError) as caught:
        open_checkpoint(path)
    assert caught.value.kind == kind, caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.message


def write_shards(folder, index="model.safetensors.index.json", save=write_safetensors, suffix="safetensors"):
    save(folder / f"model-1.{suffix}", {"b": B})
    save(folder / f"model-2.{suffix}", {"a": A, "not in the index": A})
    weight_map = {"a": f"model-2.{suffix}", "b": f"model-1.{suffix}"}
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder / index


def test_a_tensor_that_another_shard_has_differently_is_refused(tmp_path):
    """The index says one, and transformers loads the last."""
    index = write_shards(tmp_path)
    write_safetensors(tmp_path / "model-1.safetensors", {"b": B, "a": A})
    check_good(index, files=2)
    for other in (A + 1, A.astype(np.float16), A[:1], np.full_like(A, np.nan)):
        write_safetensors(tmp_path / "model-1.safetensors", {"b": B, "a": other})
        message = check_refused(index, "twice")
        assert "model-1.safetensors: a is in model-2.safetensors too, with other values" in message


@pytest.mark.parametrize("transposed", [False, True])
def test_a_few_tensors_beside_a_model_are_not_taken_for_it(tmp_path, transposed):
    inner = torch.from_numpy(A)
    torch.save({"model": {"a": inner.T if transposed else inner}, "step": torch.ones(1)}, tmp_path / "x.pt")
    assert "such as step, and in model too" in check_refused(tmp_path / "x.pt", "several-dicts")


def test_weights_that_the_configuration_names_are_those_that_transformers_loads(tmp_path):
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(vocab_size=12, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    model.save_pretrained(tmp_path)
    name = "embeddings.word_embeddings.weight"
    tuned = {key: (value * 2).numpy() for key, value in model.state_dict().items()}
    write_safetensors(tmp_path / "tuned.safetensors", tuned, format="pt")
    config = json.loads((tmp_path / "config.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "transformers_weights": "tuned.safetensors"}))
    loaded = BertModel.from_pretrained(tmp_path).state_dict()[name].numpy()
    assert np.array_equal(whole(open_checkpoint(tmp_path), name), loaded.ravel())
    assert np.array_equal(loaded, tuned[name])
    for wrong in ("../x.safetensors", "nowhere.safetensors", 3):
        (tmp_path / "config.json").write_text(json.dumps({**config, "transformers_weights": wrong}))
        assert f"names {wrong!r} as its transformers_weights" in check_refused(tmp_path, "no-weights")


def save_torch(path, tensors):
    torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, path)


def check_good(path, files=1):
    checkpoint = open_checkpoint(path)
    assert checkpoint.path == Path(path)
    assert list(checkpoint.tensors) == ["a", "b"]
    assert [(t.dtype, t.shape, t.size) for t in checkpoint.tensors.values()] == [
        ("F32", (2, 3), 6),
        ("F64", (4,), 4),
    ]
    assert len(checkpoint.files) == files
    assert whole(checkpoint, "a").tolist() == [0, 1, 2, 3, 4, 5]
    assert whole(checkpoint, "b").tolist() == [0, 1, 2, 3]
    assert checkpoint.flat("a").values(2, 4).tolist() == [2, 3]
    with pytest.raises(InputError, match="no tensor c") as caught:
        checkpoint.flat("c")
    assert caught.value.kind == "no-tensor"


def test_one_file_and_a_folder(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"b": B, "a": A})
    check_good(tmp_path)
    check_good(str(tmp_path / "model.safetensors"))


def test_shards(tmp_path):
    index = write_shards(tmp_path)
    check_good(tmp_path, files=2)
    check_good(index, files=2)


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files(tmp_path, legacy):
    tensors = {"b": torch.from_numpy(B), "a": torch.from_numpy(A.T.copy()).T}  # not contiguous
    torch.save(tensors, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    check_good(tmp_path)
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "x.pt")
    check_good(tmp_path / "x.pt")


def test_torch_shards(tmp_path):
    write_shards(tmp_path, "pytorch_model.bin.index.json", save_torch, "bin")
    check_good(tmp_path, files=2)


def test_a_state_dict_one_level_down(tmp_path):
    model = {"state_dict": {"a": torch.nn.Parameter(torch.from_numpy(A)), "b": torch.from_numpy(B)}, "epoch": 3}
    torch.save(model, tmp_path / "x.pth")
    check_good(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.bfloat16, "BF16"), (torch.float16, "F16"), (torch.float8_e4m3fn, "F8_E4M3"),
        (torch.float8_e5m2, "F8_E5M2"), (torch.float8_e8m0fnu, "F8_E8M0"),
        (torch.int64, "I64"), (torch.uint8, "U8"), (torch.bool, "BOOL"),
    ],
)  # fmt: skip
def test_dtypes_of_torch_files(tmp_path, dtype, name):
    tensor = torch.tensor([[0.0, 1.0], [-2.0, 0.5]]).to(dtype)
    torch.save({"a": tensor}, tmp_path / "x.bin")
    checkpoint = open_checkpoint(tmp_path / "x.bin")
    assert checkpoint.tensors["a"].dtype == name
    np.testing.assert_array_equal(checkpoint.flat("a").values(0, 4), tensor.float().reshape(-1).numpy())


def test_what_torch_holds_and_numpy_cannot(tmp_path):
    torch.save({"c": torch.zeros(2, dtype=torch.complex64), "s": torch.eye(2).to_sparse()}, tmp_path / "x.bin")
    checkpoint = open_checkpoint(tmp_path / "x.bin")
    for name in "cs":
        with pytest.raises(InputError) as caught:
            checkpoint.flat(name)
        assert caught.value.kind == "unknown-dtype"


def test_safetensors_come_before_bin_and_one_file_before_shards(tmp_path):
    save_torch(tmp_path / "pytorch_model.bin", {"z": B})
    write_shards(tmp_path)
    check_good(tmp_path, files=2)
    write_safetensors(tmp_path / "model.safetensors", {"only": A})
    assert list(open_checkpoint(tmp_path).tensors) == ["only"]


def test_nothing_there(tmp_path):
    message = check_refused(tmp_path / "org" / "name", "not-found")
    assert "nothing is downloaded" in message
    message = check_refused(tmp_path, "no-weights")
    assert "pytorch_model.bin.index.json" in message
    write_safetensors(tmp_path / "other.safetensors", {"a": A})
    assert "other.safetensors: name the file" in check_refused(tmp_path, "no-weights")


def test_no_permission(tmp_path, monkeypatch):
    def refuse(*_args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)  # the superuser may read anything
    assert "Permission denied" in check_refused(tmp_path, "unreadable")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read anything")
def test_no_permission_for_real(tmp_path):
    (tmp_path / "m").mkdir(mode=0)
    check_refused(tmp_path / "m", "unreadable")


def test_an_adapter(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    write_safetensors(tmp_path / "adapter_model.safetensors", {"a": A})
    assert "give it as FT" in check_refused(tmp_path, "adapter")
    write_safetensors(tmp_path / "model.safetensors", {"a": A})
    open_checkpoint(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    write_shards(tmp_path)
    (tmp_path / "model-1.safetensors").unlink()
    assert str(tmp_path / "model-1.safetensors") in check_refused(tmp_path, "missing-shard")


def test_a_shard_without_its_tensor(tmp_path):
    write_shards(tmp_path)
    write_safetensors(tmp_path / "model-2.safetensors", {"other": A})
    message = check_refused(tmp_path, "bad-index")
    assert "model-2.safetensors: no tensor a" in message


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "7", "{}", '{"weight_map": {}}', '{"weight_map": ["a"]}', '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../model-1.safetensors"}}', '{"weight_map": {"a": "/etc/passwd"}}',
        '{"weight_map": {"a": ""}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_bad_indices(tmp_path, text):
    write_shards(tmp_path).write_text(text)
    assert "model.safetensors.index.json" in check_refused(tmp_path, "bad-index")


def test_a_broken_shard_is_named(tmp_path):
    write_shards(tmp_path)
    (tmp_path / "model-2.safetensors").write_bytes(b"")
    assert "model-2.safetensors" in check_refused(tmp_path, "truncated")


class Evil:
    def __reduce__(self):
        return (os.system, ("touch pickle-ran",))


def test_no_pickle_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Evil()}, "new.bin")
    torch.save({"a": Evil()}, "old.bin", _use_new_zipfile_serialization=False)
    Path("plain.bin").write_bytes(pickle.dumps(Evil()))
    for name in ("new.bin", "old.bin", "plain.bin"):
        assert "save the weights as safetensors" in check_refused(tmp_path / name, "unsafe-pickle")
    assert not Path("pickle-ran").exists()


def test_broken_torch_files(tmp_path):
    save_torch(tmp_path / "x.bin", {"a": A})
    data = (tmp_path / "x.bin").read_bytes()
    for size in (0, 1, 10, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "x.bin").write_bytes(data[:size])
        with pytest.raises(ToolError) as caught:
            open_checkpoint(tmp_path / "x.bin")
        assert caught.value.kind in {"bad-torch-file", "unsafe-pickle"}
        assert "x.bin" in caught.value.message
    torch.save([torch.zeros(2)], tmp_path / "x.bin")
    check_refused(tmp_path / "x.bin", "no-weights")
    torch.save({"a": 1}, tmp_path / "x.bin")
    check_refused(tmp_path / "x.bin", "no-weights")


def test_another_kind_of_file(tmp_path):
    np.savez(tmp_path / "x.npz", a=A)
    check_refused(tmp_path / "x.npz", "not-safetensors")


def test_safetensors_need_no_torch(tmp_path):
    write_shards(tmp_path)
    code = (
        "import sys; from berttools.checkpoints.files import open_checkpoint;"
        f"c = open_checkpoint({str(tmp_path)!r}); [list(c.chunks(n, 2)) for n in c.tensors];"
        "print({'torch', 'transformers', 'safetensors'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("name", "kind"), [("model.safetensors.index.json", "bad-index"), ("config.json", "bad-config")]
)
def test_json_that_is_larger_than_any_of_its_kind_is_not_read(tmp_path, name, kind):
    with (tmp_path / name).open("wb") as file:
        file.write(b"{}")
        file.truncate(50_000_001)  # the rest is a hole that takes no space
    assert "50,000,001 bytes" in check_refused(tmp_path, kind)
