import io
import os
import pickle
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from _toolio.errors import ToolError, UsageError
from conftest import LFW, ROOT, needs_lfw
from facetools.commands import extractors as listing_command
from facetools.commands import import_extractor as command
from facetools.commands._import_extractor import parse_settings
from facetools.extractors.architectures.dlib_resnet import open_default, packaged_path
from facetools.extractors.architectures.mobilefacenet import MobileFaceNet
from facetools.extractors.convert.convert import import_extractor
from facetools.extractors.convert.match import MismatchError
from facetools.extractors.factory import open_extractor
from facetools.extractors.files import read_about

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
MODELS = ROOT.parent / "shared" / "models"
needs_models = pytest.mark.skipif(not MODELS.is_dir(), reason="shared/models is not beside the project")


@pytest.fixture(scope="module")
def network():
    """A MobileFaceNet for chips of 64x64, with statistics that differ from channel to channel."""
    torch.manual_seed(0)
    made = MobileFaceNet(32, (4, 4)).eval()
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return made.requires_grad_(False)


SIZE = {"input_size": (64, 64)}


def embed(path, chips):
    return open_extractor(str(path), CPU).network(chips)


@pytest.fixture(scope="module")
def chips():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def expected(network, chips):
    return torch.nn.functional.normalize(network((chips * 255 - 127.5) / 128))


def wrapped(kind, state):
    """The ways in which people save one and the same network."""
    head = {"classifier.weight": torch.zeros(9, 32)}
    return {
        "bare": state,
        "data parallel": {f"module.{key}": value for key, value in state.items()},
        "container": {"epoch": 3, "net_state_dict": state, "optimizer": {"state": {0: {"m": torch.zeros(2)}}}},
        "lightning": {"state_dict": {**{f"model.backbone.{k}": v for k, v in state.items()}, **head}, "epoch": 1},
        "nested": {"model": {"backbone": {f"features.module.{k}": v for k, v in state.items()}, "head": head}},
        "odd prefix": {f"somebody.{key}": value for key, value in state.items()},
        "half": {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
        "parameters": {key: torch.nn.Parameter(v) if v.is_floating_point() else v for key, v in state.items()},
    }[kind]


@pytest.mark.parametrize(
    "kind", ["bare", "data parallel", "container", "lightning", "nested", "odd prefix", "half", "parameters"]
)
def test_the_network_is_found_in_every_wrapping(kind, network, chips, tmp_path):
    torch.save(wrapped(kind, network.state_dict()), tmp_path / "w.pth")
    record = import_extractor(tmp_path / "w.pth", tmp_path / "x.safetensors", given=SIZE)
    assert (record["dimensions"], record["architecture"]) == (32, "mobilefacenet")
    assert record["left_out"] == (kind == "lightning")
    tolerance = 5e-3 if kind == "half" else 1e-6
    assert torch.allclose(embed(tmp_path / "x.safetensors", chips), expected(network, chips), atol=tolerance)


def test_safetensors_of_others_and_of_ours(network, chips, tmp_path):
    state = {f"backbone.{key}": value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, tmp_path / "theirs.safetensors")
    first = import_extractor(tmp_path / "theirs.safetensors", tmp_path / "a.safetensors", given=SIZE)
    # Ours knows architecture and settings; one of them is changed.
    import_extractor(tmp_path / "a.safetensors", tmp_path / "b.safetensors", given={"channel_order": "bgr"})
    a, b = (read_about(tmp_path / f"{name}.safetensors") for name in "ab")
    assert (a["settings"]["channel_order"], b["settings"]["channel_order"]) == ("rgb", "bgr")
    assert a["settings"]["input_size"] == b["settings"]["input_size"] == [64, 64]
    assert b["source"] == {"name": "a.safetensors", "sha256": first["sha256"], "container": "", "prefix": ""}
    assert torch.equal(embed(tmp_path / "a.safetensors", chips.flip(1)), embed(tmp_path / "b.safetensors", chips))


def test_half_and_the_same_bytes_twice(network, chips, tmp_path):
    torch.save(network.state_dict(), tmp_path / "w.pth")
    for name, half in (("a", False), ("b", False), ("h", True)):
        import_extractor(tmp_path / "w.pth", tmp_path / f"{name}.safetensors", given=SIZE, half=half)
    data = {name: (tmp_path / f"{name}.safetensors").read_bytes() for name in "abh"}
    assert data["a"] == data["b"]
    assert len(data["h"]) < 0.55 * len(data["a"])
    assert torch.allclose(embed(tmp_path / "h.safetensors", chips), expected(network, chips), atol=5e-3)


def test_settings_are_part_of_the_file(network, chips, tmp_path):
    torch.save(network.state_dict(), tmp_path / "w.pth")
    given = parse_settings({
        "input_size": "64", "channel_order": "bgr", "mean": "1,2,3", "std": "50", "normalisation": "none",
        "distance": "euclidean", "alignment": "center", "mirrored": True,
    })  # fmt: skip
    import_extractor(tmp_path / "w.pth", tmp_path / "x.safetensors", given=given)
    extractor = open_extractor(str(tmp_path / "x.safetensors"), CPU)
    assert (extractor.alignment, extractor.distance, extractor.size) == ("center", "euclidean", (64, 64))
    prepared = (chips.flip(1) * 255 - torch.tensor([1.0, 2, 3]).view(1, 3, 1, 1)) / 50
    plain = network(prepared) + network(prepared.flip(3))
    assert torch.allclose(extractor.network(chips), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"input_size": "big"}, "--input-size big: give pixels"),
        ({"input_size": "112x8"}, "not between 16 and 1024"),
        ({"mean": "1,2"}, "--mean 1,2: give one number or three"),
        ({"std": "0"}, "std above 0"),
        ({"alignment": "nose"}, "arcface-112"),
        ({"channel_order": "gbr"}, "rgb, bgr"),
        ({"normalisation": "l1"}, "l2, none"),
        ({"distance": "far"}, "cosine, euclidean"),
    ],
)
def test_settings_that_cannot_be(run, words, complaint, tmp_path):
    with pytest.raises(UsageError) as caught:
        parse_settings(words)
    assert complaint in caught.value.message
    ((name, value),) = words.items()
    out = tmp_path / "x.safetensors"
    done = run("facetools", "import-extractor", "w.pth", f"--{name.replace('_', '-')}", value, "--out", out)
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("kind", ["torch", "legacy", "pickle"])
def test_nothing_in_a_file_is_run(kind, network, run, tmp_path):
    state = {**network.state_dict(), "extra": Evil(tmp_path / "mark")}
    if kind == "pickle":
        (tmp_path / "w.pth").write_bytes(pickle.dumps(state))
    else:
        torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=kind == "torch")
    done = run("facetools", "import-extractor", tmp_path / "w.pth", "--out", tmp_path / "x.safetensors")
    assert (done.code, done.out) == (1, b"")
    assert re.fullmatch(r"facetools: error: \S*w\.pth: holds Python objects[^\n]*\n", done.err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.pth"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".dat"])
@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_a_short_file_is_one_line(suffix, share, network, tmp_path):
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(network.state_dict(), path)
    elif suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    data = path.read_bytes() if path.exists() else packaged_path().read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ToolError) as caught:
        import_extractor(path, tmp_path / "x.safetensors")
    assert path.name in caught.value.message
    assert "\n" not in caught.value.message
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_what_does_not_match_is_listed_key_by_key(network, run, tmp_path):
    state = dict(network.state_dict())
    del state["widen.2.weight"]
    state["surplus.weight"] = torch.zeros(2, 3)
    state["stem.0.weight"] = torch.zeros(64, 3, 5, 5)
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "w.pth")
    for choice in ([], ["--architecture", "mobilefacenet"]):
        done = run("facetools", "import-extractor", tmp_path / "w.pth", *choice, "--out", tmp_path / "x.safetensors")
        assert done.code == 1
        found = {(r["problem"], r["key"], str(r["shape"]), str(r["wanted"])) for r in done.records}
        assert found == {
            ("missing", "widen.2.weight", "None", "[512]"),
            ("unknown", "surplus.weight", "[2, 3]", "None"),
            ("shape", "stem.0.weight", "[64, 3, 5, 5]", "[64, 3, 3, 3]"),
        }
        assert all(set(record) - {"schema"} <= set(command.PAGE.fields) for record in done.records)
        assert re.fullmatch(r"facetools: error: [^\n]*1 are missing, 1 unknown, 1 of another shape[^\n]*\n", done.err)
    assert not (tmp_path / "x.safetensors").exists()


def test_weights_of_nothing_that_is_known(tmp_path):
    torch.save({"bert.embeddings.weight": torch.zeros(4, 4)}, tmp_path / "w.bin")
    with pytest.raises(MismatchError, match="of no known architecture"):
        import_extractor(tmp_path / "w.bin", tmp_path / "x.safetensors")
    torch.save({"epoch": 3}, tmp_path / "w.bin")
    with pytest.raises(ToolError, match="no tensors by name"):
        import_extractor(tmp_path / "w.bin", tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "words"), [("gone.pth", "no such file"), ("w.h5", r"\.h5 is of no known kind"), ("w", "no ending")]
)
def test_files_of_other_kinds(name, words, tmp_path):
    if "gone" not in name:
        (tmp_path / name).write_bytes(b"whatever")
    with pytest.raises(ToolError, match=words):
        import_extractor(tmp_path / name, tmp_path / "x.safetensors")


def test_a_network_that_gives_no_numbers_is_refused(network, tmp_path):
    state = {key: value.clone() for key, value in network.state_dict().items()}
    state["embed.1.bias"][3] = float("nan")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ToolError, match="not finite"):
        import_extractor(tmp_path / "w.pth", tmp_path / "x.safetensors", given=SIZE)
    state["embed.1.bias"].zero_()
    state["stem.0.weight"].zero_()
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ToolError, match="no gradient"):
        import_extractor(tmp_path / "w.pth", tmp_path / "x.safetensors", given=SIZE)


def test_the_output_is_replaced_only_when_told(network, run, tmp_path):
    torch.save(network.state_dict(), tmp_path / "w.pth")
    call = ["facetools", "import-extractor", tmp_path / "w.pth", "--input-size", "64", "--out"]
    out = tmp_path / "x.safetensors"
    assert run(*call, out).code == 0
    whole = out.read_bytes()
    again = run(*call, out)
    assert (again.code, again.out) == (2, b"")
    assert "--force" in again.err
    forced = run(*call, out, "--force", "--half")
    assert (forced.code, forced.err) == (0, "")
    assert len(out.read_bytes()) < len(whole)
    missing = run(*call, tmp_path / "no" / "x.safetensors")
    assert (missing.code, missing.out) == (2, b"")
    (tmp_path / "w.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:1000])
    before = out.read_bytes()
    assert run(*call, out, "--force").code == 1
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.pth", "x.safetensors"]


def test_dlibs_own_file(tmp_path):
    path = tmp_path / "r.safetensors"
    record = import_extractor(packaged_path(), path)
    built_in, imported = open_default(CPU), open_extractor(str(path), CPU)
    assert (record["dimensions"], record["source_sha256"]) == (128, built_in.sha256)
    assert imported.settings == built_in.settings
    chips = torch.rand(2, 3, 150, 150, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(imported.network(chips), built_in.network(chips), atol=1e-6)
    with pytest.raises(UsageError, match="is of dlib-resnet"):
        import_extractor(packaged_path(), path, "mobilefacenet")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The two real models, imported."""
    folder = tmp_path_factory.mktemp("real")
    wanted = {
        "casia": ("mobilefacenet-casia.ckpt", {"input_size": "112x96", "mean": "127.5", "std": "128"}),
        "onnx": ("fr_feature.onnx", {"mean": "127", "std": "128"}),
    }
    for name, (file, words) in wanted.items():
        if name == "onnx":
            pytest.importorskip("onnx")
        import_extractor(MODELS / file, folder / f"{name}.safetensors", given=parse_settings(words))
    return [open_extractor(str(folder / f"{name}.safetensors"), CPU) for name in wanted]


@needs_models
@needs_lfw
def test_the_real_models_tell_people_apart(real):
    import tarfile

    from PIL import Image

    from facetools.embeddings.chips import chip_of
    from facetools.faces.finder import Finder

    photos: dict[str, list[bytes]] = {}
    with tarfile.open(LFW) as archive:
        for member in archive:
            if member.name.endswith(("_0001.jpg", "_0002.jpg", "_0003.jpg")):
                stream = archive.extractfile(member)
                photos.setdefault(member.name.split("/")[-2], []).append(stream.read())
            if sum(len(each) == 3 for each in photos.values()) == 8:
                break
    people = [each for each in photos.values() if len(each) == 3]
    finder, rows = Finder(), [[] for _ in real]
    for photo in (photo for person in people for photo in person):
        pixels = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"))
        face = finder.find([pixels])[0][0]
        for row, extractor in zip(rows, real, strict=True):
            row.append(extractor.network(chip_of(pixels, face, extractor))[0])
    who = torch.arange(24) // 3
    same = (who[:, None] == who[None]) & ~torch.eye(24, dtype=torch.bool)
    for row, extractor in zip(rows, real, strict=True):
        cosines = torch.stack(row) @ torch.stack(row).T
        others = cosines[who[:, None] != who[None]]
        assert cosines[same].mean() > 0.45, extractor.name
        assert others.mean().abs() < 0.1, extractor.name
        assert (cosines[same][:, None] > others[None]).float().mean() > 0.98, extractor.name


def test_extractors_lists_what_is_there(network, run, tmp_path):
    torch.save(network.state_dict(), tmp_path / "w.pth")
    import_extractor(tmp_path / "w.pth", tmp_path / "mine.safetensors", given=SIZE)
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    done = run("facetools", "extractors", tmp_path / "mine.safetensors", tmp_path / "other.safetensors")
    assert (done.code, done.err) == (3, "")
    assert {record["schema"] for record in done.records} == {listing_command.SCHEMA}
    assert all(set(record) - {"schema"} <= set(listing_command.PAGE.fields) for record in done.records)
    by_kind: dict[str, dict] = {}
    for record in done.records:
        by_kind.setdefault(record["kind"], {})[record["name"]] = record
    dlib = by_kind["built-in"]["dlib-resnet"]
    assert (dlib["dimensions"], dlib["installed"], dlib["sha256"]) == (128, True, open_default(CPU).sha256)
    assert {"clip", "dlib-resnet", "mobilefacenet", "onnx"} <= by_kind["architecture"].keys()
    assert all(record["summary"] and record["dimensions"] is None for record in by_kind["architecture"].values())
    mine = by_kind["file"]["mine"]
    assert (mine["dimensions"], mine["source"]["name"], mine["settings"]["input_size"]) == (32, "w.pth", [64, 64])
    assert by_kind["file"]["other"]["error"]["kind"] == "extractor"


def test_the_record_of_an_import(network, run, tmp_path):
    torch.save(network.state_dict(), tmp_path / "w.pth")
    out = tmp_path / "x.safetensors"
    done = run("facetools", "import-extractor", tmp_path / "w.pth", "--input-size", "64x64", "--out", out)
    assert (done.code, done.err, len(done.records)) == (0, "", 1)
    (record,) = done.records
    assert list(record)[:2] == ["dimensions", "schema"]
    assert record["schema"] == command.SCHEMA
    assert set(record) - {"schema"} <= set(command.PAGE.fields)
    assert (record["dimensions"], record["bytes"]) == (32, out.stat().st_size)
