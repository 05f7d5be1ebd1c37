"""The photo commands as processes, on real photos."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from _toolio.errors import UsageError
from _toolio.streams.records import RecordWriter
from _toolio.tensors.reader import open_safetensors, read_metadata
from _toolio.tensors.writer import write_safetensors
from conftest import Run, faceless, saved
from detector_faces import network, smooth, striped
from facetools.commands._train_detector import name_cloaks, number_attacks
from facetools.commands._training import report_to
from facetools.detector.training.examples import read_examples

Tool = Callable[..., Run]
FAST = ("--attack", "lowkey", "--set", "steps=3")


@pytest.fixture
def facetools(run: Tool) -> Tool:
    def call(*arguments: str | os.PathLike[str], **options: Any) -> Run:
        return run("facetools", *arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}, **options)

    return call


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def kinds(run: Run) -> list[str | None]:
    return [record.get("error", {}).get("kind") for record in run.records]


def one_line(run: Run, *words: str) -> None:
    assert run.err.startswith("facetools: error: ")
    assert run.err.count("\n") == 1
    for word in words:
        assert word in run.err


@pytest.fixture
def portraits(real_people: dict[str, list[bytes]], tmp_path: Path) -> Path:
    """Two real photos, one of them in a folder below."""
    folder = tmp_path / "portraits"
    (folder / "b").mkdir(parents=True)
    for name, photos in zip(("a.jpg", "b/c.jpg"), list(real_people.values())[:2], strict=False):
        (folder / name).write_bytes(photos[0])
    return folder


def test_perturb_is_repeatable_resumable_and_careful(facetools: Tool, portraits: Path, tmp_path: Path) -> None:
    before = tree(portraits)
    first = facetools("perturb", *FAST, "--in", portraits, "--out", tmp_path / "one")
    assert (first.code, first.err) == (0, "")
    written = tree(tmp_path / "one")
    assert sorted(written) == ["a.jpg", "b/c.jpg"]
    assert all(record["moved"] > 0 for record in first.records)

    # From a tar, one after the other and in another order: the same photos.
    with tarfile.open(tmp_path / "p.tar", "w") as archive:
        for name in sorted(before, reverse=True):
            archive.add(portraits / name, name)
    second = facetools("perturb", *FAST, "--in", tmp_path / "p.tar", "--out", tmp_path / "two", cold=True)
    assert tree(tmp_path / "two") == written
    assert [record["moved"] for record in second.records] == [record["moved"] for record in first.records]

    resumed = facetools("perturb", *FAST, "--in", portraits, "--out", tmp_path / "one", "--resume")
    assert (resumed.code, resumed.out) == (0, first.out)

    other = facetools("perturb", *FAST, "--seed", "1", "--in", portraits, "--out", tmp_path / "one", "--resume")
    assert (other.code, other.out) == (2, b"")
    one_line(other, "--resume", "seed 0, not 1")

    onto = facetools("perturb", *FAST, "--force", "--in", portraits, "--out", portraits)
    assert (onto.code, onto.out) == (2, b"")
    one_line(onto, "lies in --in")
    itself = facetools("perturb", *FAST, "--force", "--in", portraits / "a.jpg", "--out", portraits)
    assert itself.code == 3
    assert kinds(itself) == ["input-is-output"]
    assert tree(portraits) == before
    assert not list(portraits.glob(".*")), "a refused run leaves nothing behind"


def test_a_photo_named_twice_collides_and_so_it_does_when_resumed(
    facetools: Tool, portraits: Path, tmp_path: Path
) -> None:
    twice = ("--in", portraits / "a.jpg", "--in", portraits / "a.jpg")
    first = facetools("perturb", "--attack", "none", *twice, "--out", tmp_path / "out")
    assert first.code == 3
    assert kinds(first) == [None, "collision"]
    again = facetools("perturb", "--attack", "none", *twice, "--out", tmp_path / "out", "--resume")
    assert (again.code, again.out) == (3, first.out)
    written = tree(tmp_path / "out")
    refused = facetools("perturb", "--attack", "none", "--in", portraits / "a.jpg", "--out", tmp_path / "out")
    assert refused.code == 3
    assert kinds(refused) == ["exists"]
    assert tree(tmp_path / "out") == written


def test_odd_photos_with_a_face_keep_their_format(facetools: Tool, face_photo: bytes, tmp_path: Path) -> None:
    image = Image.open(io.BytesIO(face_photo)).convert("RGB")
    folder = tmp_path / "odd"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = image.transpose(Image.Transpose.ROTATE_90)
    alpha = Image.linear_gradient("L").resize(image.size)
    with_alpha = image.copy()
    with_alpha.putalpha(alpha)
    wide = np.asarray(image.convert("L"), np.uint16) * 257
    photos = {
        "cmyk.jpg": saved(image.convert("CMYK"), "JPEG", quality=95),
        "grey.jpg": saved(image.convert("L"), "JPEG"),
        "palette.gif": saved(image.quantize(256), "GIF"),
        "turned.jpg": saved(turned, "JPEG", exif=exif, quality=95),
        "turned.tif": saved(turned, "TIFF", exif=exif),
        "wide.png": saved(Image.fromarray(wide), "PNG"),
        "alpha.png": saved(with_alpha, "PNG"),
        "lossy.webp": saved(image, "WEBP", quality=90),
        "grey.pgm": saved(image.convert("L"), "PPM"),
    }
    for name, data in photos.items():
        (folder / name).write_bytes(data)
    done = facetools("perturb", *FAST, "--in", folder, "--out", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    assert {record["relative"] for record in done.records} == {
        name if name != "palette.gif" else "palette.gif.png" for name in photos
    }
    assert all(record["moved"] > 0.002 for record in done.records)
    made = {name: Image.open(tmp_path / "out" / name) for name in tree(tmp_path / "out")}
    assert {name: (image.format, image.mode) for name, image in made.items()} == {
        "cmyk.jpg": ("JPEG", "RGB"),
        "grey.jpg": ("JPEG", "L"),
        "palette.gif.png": ("PNG", "RGB"),
        "turned.jpg": ("JPEG", "RGB"),
        "turned.tif": ("TIFF", "RGB"),
        "wide.png": ("PNG", "L"),
        "alpha.png": ("PNG", "RGBA"),
        "lossy.webp": ("WEBP", "RGB"),
        "grey.pgm": ("PPM", "L"),
    }
    assert np.array_equal(np.asarray(made["alpha.png"].getchannel("A")), np.asarray(alpha))
    assert made["turned.jpg"].info["exif"] == Image.open(folder / "turned.jpg").info["exif"]
    notes = {record["relative"]: record.get("notes") for record in done.records}
    assert notes["cmyk.jpg"] == ["CMYK read as RGB"]
    assert notes["wide.png"] == ["more than 8 bits a channel reduced to 8"]
    assert notes["grey.jpg"] is None
    # Shown upright, every photo is the same portrait, with a face in the same place.
    boxes = np.array([record["box"] for record in done.records])
    assert np.abs(boxes - np.median(boxes, 0)).max() < 8


def test_a_folder_of_good_and_bad(facetools: Tool, face_photo: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    (folder / "deep").mkdir(parents=True)
    (folder / "bomb.pgm").write_bytes(b"P5\n60000 60000\n255\n")
    (folder / "cut.jpg").write_bytes(face_photo[: len(face_photo) // 2])
    (folder / "dangling.jpg").symlink_to("nowhere")
    (folder / "deep" / "good.jpg").write_bytes(face_photo)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "nobody.png").write_bytes(saved(faceless(), "PNG"))
    (folder / "text.jpg").write_text("Dear diary")
    done = facetools("perturb", "--attack", "none", "--in", folder, "--out", tmp_path / "out")
    assert (done.code, done.err) == (3, "")
    assert kinds(done) == ["too-large", "truncated", "missing", None, "empty-file", None, "not-a-photo"]
    for record in done.records:
        if "error" in record:
            assert record["path"] is None
            assert record["error"]["message"].startswith(record["source"])
    assert list(tree(tmp_path / "out")) == ["deep/good.jpg"]
    assert done.records[5]["reason"] == "no face of 20 pixels or more found; nothing written"
    # The next command hands each on, and fails for the same inputs.
    piped = facetools("embed", "--in", "-", "--out", tmp_path / "e.safetensors", stdin=done.out)
    assert piped.code == 3
    assert kinds(piped) == kinds(done)
    assert [record.get("row") for record in piped.records] == [None, None, None, 0, None, None, None]


def test_a_folder_inside_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "in" / "secret").mkdir(parents=True)
    (tmp_path / "in" / "a.png").write_bytes(saved(faceless(), "PNG"))
    # Root may read every folder: the system's refusal is put in its place.
    code = (
        "import os\n"
        "scan = os.scandir\n"
        "def refuse(path):\n"
        "    if os.fspath(path).endswith('secret'): raise PermissionError(13, 'Permission denied', path)\n"
        "    return scan(path)\n"
        "os.scandir = refuse\n"
        "from facetools.cli import main\n"
        "main()"
    )
    words = ["align", "--in", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    first, second = map(json.loads, done.stdout.splitlines())
    assert "error" not in first
    assert second["source"] == str(tmp_path / "in" / "secret")
    assert second["error"]["kind"] == "unreadable"


def test_a_detector_is_trained_and_used(facetools: Tool, people_folder: Path, tmp_path: Path) -> None:
    for attack, out in ((("none",), "clean"), (("lowkey", "--set", "steps=2"), "cloaked")):
        done = facetools(
            "perturb", "--faces", "largest", "--attack", *attack, "--in", people_folder, "--out", tmp_path / out
        )
        assert (done.code, done.err) == (0, "")
    mine = tmp_path / "mine.safetensors"
    clean, cloaked = tmp_path / "clean", tmp_path / "cloaked"
    (clean / "nobody").mkdir()
    faceless().save(clean / "nobody" / "0.png")
    words = ("--clean", clean, "--cloaked", f"lowkey={cloaked}", "--out", mine)
    trained = facetools("train-detector", *words, "--epochs", "1", "--batch", "16", "--held-out", "0.3")
    assert (trained.code, trained.err) == (0, "")
    assert trained.records[0]["path"] == str(clean / "nobody" / "0.png")
    assert (trained.records[0]["auc"], trained.records[0]["reason"]) == (None, "no face of 20 pixels or more found")
    (record,) = trained.records[1:]
    assert list(record) == [
        *("auc", "schema", "attacks", "attack_accuracy", "epoch", "held_out_faces", "loss", "faces", "paired")
    ]
    assert record["schema"] == "facetools.train-detector/1"
    assert 0 <= record["auc"] <= 1
    assert record["attacks"] == {"lowkey": pytest.approx(record["auc"], abs=1e-6)}
    assert (record["attack_accuracy"], record["epoch"]) == (1, 1)
    assert record["loss"] > 0
    # All cloaked copies lie on the clean ones, whether or not their faces are found.
    assert record["faces"] + record["held_out_faces"] == 2 * len(tree(cloaked))
    assert not Path(f"{mine}.checkpoint").exists()
    made = read_metadata(mine)
    assert (made["attacks"], made["arguments"]["faces"], made["arguments"]["seed"]) == (["lowkey"], "largest", 0)
    assert {"auc", "recall", "false_alarms", "odd_false_alarms"} <= set(made["figures"])

    with tarfile.open(tmp_path / "some.tar", "w") as archive:
        for name in sorted(tree(cloaked))[:3]:
            archive.add(cloaked / name, name)
    scored = facetools("detect", "--detector", mine, "--in", f"{tmp_path}/./some.tar", "--threshold", "0")
    assert (scored.code, scored.err) == (0, "")
    names = {record["path"] for record in scored.records}
    assert names == {f"{tmp_path}/./some.tar/{name}" for name in sorted(tree(cloaked))[:3]}
    for record in scored.records:
        # Of so few faces nobody knows how often the name is right.
        assert (record["label"], record["attack"]) == ("cloaked", None)
        assert 0 <= record["power"] <= 1
        assert 0 <= record["score"] <= 1
        assert record["attacks"] == {"lowkey": pytest.approx(record["score"], abs=2e-6)}
        assert record["model"].startswith("mine-")

    alarmed = facetools(
        "detect", "--detector", mine, "--threshold", "0", "--fail-on-detection", "--in", tmp_path / "some.tar"
    )
    assert alarmed.code == 4
    kept = facetools("train-detector", *words)
    assert (kept.code, kept.out) == (2, b"")
    one_line(kept, "exists; use --force")


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Crops of six people that are all face: clean, as a folder and as an archive of rows and of columns laid on."""
    for number in range(6):
        clean = smooth(48, seed=number)
        for kind, pixels in (("clean", clean), ("rows", striped(clean, 0)), ("columns", striped(clean, 1))):
            (tmp_path / kind / f"p{number}").mkdir(parents=True)
            Image.fromarray(pixels).save(tmp_path / kind / f"p{number}" / "0.png")
    with tarfile.open(tmp_path / "columns.tar", "w") as archive:
        archive.add(tmp_path / "columns", "")
    return tmp_path


def training_words(crops: Path) -> tuple[str, ...]:
    inputs = ("--clean", f"{crops}/clean", "--cloaked", f"{crops}/rows/", "--cloaked", f"{crops}/columns.tar")
    words = ("--crops", "--held-out", "0.5", "--epochs", "2", "--batch", "4")
    return ("train-detector", *inputs, *words, "--out", f"{crops}/mine.safetensors")


def test_a_training_goes_on_where_it_was_cut_off(facetools: Tool, crops: Path) -> None:
    # The process ends at once when it has saved its first epoch, as if it had been killed.
    code = (
        "import os, sys\n"
        "from facetools.detector.training.trainer import DetectorTrainer\n"
        "save = DetectorTrainer.save\n"
        "def end(*words):\n"
        "    save(*words)\n"
        "    os._exit(9)\n"
        "DetectorTrainer.save = end\n"
        "from facetools.cli import main\n"
        "main()"
    )
    words = training_words(crops)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    cut = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=False, env=environment)
    assert (cut.returncode, cut.stderr) == (9, b"")
    out, checkpoint = crops / "mine.safetensors", crops / "mine.safetensors.checkpoint"
    assert not out.exists()
    kept = checkpoint.read_bytes()
    for more, message in (
        ((), "use --resume to go on from it, or --force to start again"),
        (("--resume", "--seed", "1"), "made with other arguments (seed was 0, and is 1)"),
    ):
        refused = facetools(*words, *more)
        assert (refused.code, refused.out) == (2, b"")
        one_line(refused, str(checkpoint), message)
    assert checkpoint.read_bytes() == kept

    resumed = facetools(*words, "--resume")
    assert (resumed.code, resumed.err) == (0, "")
    assert [record["epoch"] for record in resumed.records] == [1, 2], "what was printed before the cut too"
    assert not checkpoint.exists()
    written = out.read_bytes()
    made = read_metadata(out)
    assert (made["attacks"], made["arguments"]["faces"]) == (["columns", "rows"], "crop")

    # Who forces begins anew, whatever lies there, and ends as the one that was cut off.
    other = crops / "other.safetensors"
    cut = subprocess.run([sys.executable, "-c", code, *words[:-1], other, "--seed", "1"], check=False, env=environment)
    assert cut.returncode == 9
    Path(f"{other}.checkpoint").replace(checkpoint)
    # The order of folders means nothing.
    swapped = [*words[:3], *words[5:7], *words[3:5], *words[7:]]
    assert sorted(swapped) == sorted(words)
    assert swapped != list(words)
    forced = facetools(*swapped, "--force")
    assert (forced.code, forced.err) == (0, "")
    assert forced.records == resumed.records
    assert [record["paired"] for record in forced.records] == [forced.records[0]["faces"] * 2 // 3] * 2
    assert set(forced.records[0]["attacks"]) == {"columns", "rows"}
    assert out.read_bytes() == written
    assert not checkpoint.exists()

    # A training that is done is not made again, unless something else is asked for.
    again = facetools(*words, "--resume")
    assert (again.code, again.err) == (0, "")
    (record,) = again.records
    assert {**record, "recall": 0} == {**forced.records[1], **record, "recall": 0}
    for more, message in (
        (("--seed", "1"), "made with other arguments (seed was 0, and is 1)"),
        (("--false-alarms", "0.1"), "made with other false_alarms"),
    ):
        refused = facetools(*words, "--resume", *more)
        assert (refused.code, refused.out) == (2, b"")
        one_line(refused, str(out), message)
    assert out.read_bytes() == written
    # What is no checkpoint is nobody's to replace.
    assert not checkpoint.exists()
    checkpoint.write_bytes(b"notes")
    refused = facetools(*words, "--force")
    assert (refused.code, refused.out, checkpoint.read_bytes()) == (2, b"", b"notes")
    one_line(refused, str(checkpoint), "is no checkpoint")


def test_what_is_trained_is_judged_by_others_and_its_average_saved(
    crops: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from facetools.commands.train_detector import train_detector
    from facetools.detector.training import pipeline

    calls: dict[str, tuple[Any, ...]] = {}

    def spied(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **options: Any) -> Any:
            calls[name] = (*words, options, result := work(*words, **options))
            return result

        return call

    for name in ("DetectorTrainer", "calibrate", "save_detector"):
        monkeypatch.setattr(pipeline, name, spied(name, getattr(pipeline, name)))
    out, cloaked = crops / "mine.safetensors", [f"{crops}/rows", f"{crops}/columns"]
    # At so high a rate the average of a few steps lies far from the last of them.
    words = {"held_out": 0.3, "epochs": 2, "batch": 4, "learning_rate": 0.1, "false_alarms": 0.4, "crops": True}
    assert train_detector([f"{crops}/clean"], cloaked, out, **words, device="cpu") == 0

    known, *_, trainer = calls["DetectorTrainer"]
    network, unseen, options, (calibration, figures) = calls["calibrate"]
    assert not {example.person for example in known} & {example.person for example in unseen}
    assert len({(example.person, example.cloak) for example in [*known, *unseen]}) == 3 * 6
    assert (len(known), len(unseen)) == (12, 6), "not as many, so that each record tells them apart"
    for record in map(json.loads, capsys.readouterr().out.splitlines()):
        assert (record["faces"], record["held_out_faces"]) == (len(known), len(unseen))
    assert network is trainer.averaged
    assert (options, read_metadata(out)["false_alarms"]) == ({"false_alarms": 0.4, "attacks": [0, 1]}, 0.4)
    assert calls["save_detector"][:4] == (out, trainer.averaged, ("columns", "rows"), calibration)
    assert figures.items() <= read_metadata(out)["figures"].items()
    saved = open_safetensors(out)
    latest, averaged = (each.state_dict() for each in (trainer._network, trainer.averaged))
    for name in saved.entries:
        assert np.array_equal(saved.tensor(name), averaged[name].half().numpy()), name
    assert not np.array_equal(saved.tensor("head.weight"), latest["head.weight"].half().numpy())


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    """Crops of two sources, of people of which all are there clean, with rows and with columns."""
    for number, source in enumerate(("web", "web", "web", "press", "press")):
        clean = smooth(40, seed=number)
        for kind, pixels in (("clean", clean), ("rows", striped(clean, 0)), ("columns", striped(clean, 1))):
            folder = tmp_path / kind / source / f"p{number}"
            folder.mkdir(parents=True)
            Image.fromarray(pixels).save(folder / "0.png")
    return tmp_path


def folds_words(sites: Path, *more: str) -> tuple[str, ...]:
    inputs = ("--clean", f"{sites}/clean", "--cloaked", f"{sites}/rows", "--cloaked", f"{sites}/columns")
    words = ("--crops", "--folds", "2", "--epochs", "2", "--batch", "4", *more)
    return ("train-detector", *inputs, *words, "--out", f"{sites}/mine.safetensors")


class Interrupted(Exception):
    pass


def test_sources_are_held_out_in_turn(
    facetools: Tool, sites: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from facetools.commands.train_detector import PAGE, train_detector
    from facetools.detector import calibration, scoring
    from facetools.detector.files import open_detector
    from facetools.detector.training.trainer import DetectorTrainer

    for module in (scoring, calibration):  # faces are scored after each change, of which two will do
        monkeypatch.setattr(module, "ODD", ("grain",))
        monkeypatch.setattr(module, "SURVIVED", ("resize",))
    monkeypatch.setattr(scoring, "WEAKENED", ("resize",))
    out, checkpoint = sites / "mine.safetensors", sites / "mine.safetensors.checkpoint"
    part = Path(f"{checkpoint}.fold-1")

    def train(**changed: Any) -> list[dict[str, Any]]:
        words = {"folds": 2, "keep_folds": True, "epochs": 2, "batch": 4, "false_alarms": 0.1, "crops": True, **changed}
        inputs = [f"{sites}/clean"], [f"{sites}/rows", f"{sites}/columns"]
        assert train_detector(*inputs, out, **words, device="cpu") == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    save = DetectorTrainer.save

    def end(trainer: DetectorTrainer, path: Path, about: Any) -> None:
        if about.get("fold") == 2:
            raise Interrupted
        save(trainer, path, about)

    with monkeypatch.context() as patched:
        patched.setattr(DetectorTrainer, "save", end)
        with pytest.raises(Interrupted):
            train()
    capsys.readouterr()
    # A part that is done is not lost for want of a word, though there is no other checkpoint.
    assert sorted(path.name for path in sites.glob("mine*")) == [part.name]
    refused = facetools(*folds_words(sites))
    assert (refused.code, refused.out) == (2, b"")
    one_line(refused, f"{part}: exists; use --resume to go on from it, or --force to start again")
    with pytest.raises(UsageError, match=r"fold-1: made with other arguments \(seed was 0, and is 1\)"):
        train(resume=True, seed=1)
    assert capsys.readouterr().out == ""

    records = train(resume=True)
    folds, sources, epochs = records[:2], records[2:4], records[4:]
    assert [list(record) for record in folds] == [["auc", "schema", "fold", "left_out", "loss"]] * 2
    assert [(record["auc"], record["fold"], record["left_out"]) for record in folds] == [
        (None, 1, ["web"]), (None, 2, ["press"])
    ]  # fmt: skip
    fields = ["auc", "schema", "source", "clean_faces", "false_alarms", "unclear", "cloaked_faces", "recall"]
    assert [list(record) for record in sources] == [fields] * 2
    assert [(record["source"], record["clean_faces"], record["cloaked_faces"]) for record in sources] == [
        ("web", 3, 6), ("press", 2, 4)
    ]  # fmt: skip
    assert all(0 <= record[key] <= 1 for record in sources for key in ("auc", "false_alarms", "unclear", "recall"))
    assert [(record["auc"], record["epoch"], record["faces"], record["paired"]) for record in epochs] == [
        (None, 1, 15, 10), (None, 2, 15, 10)
    ]  # fmt: skip
    assert {key for record in records for key in record} <= {*PAGE.fields, "schema"}
    names = ["mine.safetensors", "mine.without-press.safetensors", "mine.without-web.safetensors"]
    assert sorted(path.name for path in sites.glob("mine*")) == names
    for name in names:
        assert open_detector(sites / name, torch.device("cpu")).attacks == ("columns", "rows")

    # What is done is not done again, and says what it found; what would be replaced is named.
    written = {name: (sites / name).read_bytes() for name in names}
    assert train(resume=True) == sources
    out.unlink()
    with pytest.raises(
        UsageError, match=r"^keep_folds .*mine.without-web.safetensors: exists; use force to replace it$"
    ):
        train()
    # Who forces begins anew, whatever lies there.
    for number in (1, 7):
        write_safetensors(f"{checkpoint}.fold-{number}", {}, {"schema": "x"})
    assert train(force=True) == records
    assert {path.name: path.read_bytes() for path in sites.glob("mine*")} == written


def test_folds_that_cannot_be_are_one_line(facetools: Tool, sites: Path) -> None:
    refused = facetools(*folds_words(sites, "--folds", "1"))
    assert (refused.code, refused.out) == (2, b"")
    one_line(refused, "--folds 1: leaves nothing to train on; give 2 or more, or 0")
    refused = facetools(*folds_words(sites, "--folds", "0", "--keep-folds"))
    assert (refused.code, refused.out) == (2, b"")
    one_line(refused, "--keep-folds: needs --folds; give both, or none")
    refused = facetools(*folds_words(sites, "--folds", "3"))
    assert (refused.code, refused.out) == (1, b"")
    one_line(refused, "--folds 3: there are photos of fewer sources (press, web); a source is the first folder")
    assert not list(sites.glob("mine*"))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("lowkey=some/cloaked", ("lowkey", "some/cloaked")),
        ("some/lowkey", ("lowkey", "some/lowkey")),
        ("some/lowkey/", ("lowkey", "some/lowkey/")),
        ("some/lowkey.tar", ("lowkey", "some/lowkey.tar")),
        ("lowkey=some/cloaks.tar", ("lowkey", "some/cloaks.tar")),
        ("v1.0", ("v1.0", "v1.0")),
        ("a=b=c", ("a", "b=c")),
    ],
)
def test_an_attack_is_named_or_has_its_folders_name(given: str, named: tuple[str, str]) -> None:
    assert name_cloaks([], [given]) == [named]


def test_a_folder_that_is_there_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seed=1").mkdir()
    assert name_cloaks([], ["seed=1"]) == [("seed=1", "seed=1")]
    assert name_cloaks([], ["."]) == [(tmp_path.name, ".")]
    with pytest.raises(UsageError, match="give NAME=PATH"):
        name_cloaks([], ["lowkey="])


def test_names_of_attacks_come_in_order_and_tell_folders_apart() -> None:
    assert name_cloaks(["c"], ["b=2", "a=1", "b=0", " c =3"]) == [("a", "1"), ("b", "0"), ("b", "2"), ("c", "3")]
    # The same folder twice is no other folder, and what is named so is meant so.
    assert name_cloaks([], ["x/k", "x/k"]) == [("k", "x/k")] * 2
    for cloaked, words in (
        (["x/k", "y/k"], "another folder is called k too"),
        (["clean=k"], "cannot be called 'clean'"),
        ([" =k"], "cannot be called ' '"),
        (["a\nb=k"], "cannot be called"),
        (["a=-", "b=-"], "stdin is read once"),
    ):
        with pytest.raises(UsageError, match=words):
            name_cloaks(["c"], cloaked)
    with pytest.raises(UsageError, match="stdin is read once"):
        name_cloaks(["-"], ["a=-"])


def test_folders_of_one_attack_share_its_number() -> None:
    named = [("lowkey", "a"), ("fawkes", "b"), ("lowkey", "c")]
    assert number_attacks(named) == (["fawkes", "lowkey"], [1, 0, 1])


@pytest.fixture
def off_centre(real_people: dict[str, list[bytes]], tmp_path: Path) -> Path:
    """A folder of one photo with a large face at its side and a small one in its middle."""
    folder = tmp_path / "off"
    folder.mkdir()
    large, small = (Image.open(io.BytesIO(photos[0])).convert("RGB") for photos in list(real_people.values())[:2])
    photo = Image.new("RGB", (700, 250), (110, 110, 110))
    photo.paste(large.resize((250, 250)), (0, 0))
    photo.paste(small.resize((150, 150)), (275, 50))
    photo.save(folder / "0.png")
    return folder


def test_a_detector_learns_from_the_face_that_is_asked_for(
    off_centre: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    faceless().save(off_centre / "1.png")
    middles = {}
    for faces in ("largest", "central"):
        with RecordWriter("facetools.train-detector/1", "auc", ()) as writer:
            folders, place = [[str(off_centre)]], torch.device("cpu")
            (example,) = read_examples(folders, place, faces=faces, report=report_to(writer))
        middles[faces] = example.origin[0] + (example.box[0] + example.box[2]) / 2
        record = json.loads(capsys.readouterr().out)
        assert (record["path"], record["reason"]) == (
            str(off_centre / "1.png"),
            "no face of 20 pixels or more found",
        )
    assert 75 < middles["largest"] < 175
    assert 300 < middles["central"] < 400


def test_one_label_trains_no_detector(facetools: Tool, portraits: Path, plain_photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    words = ("--faces", "central", "--clean", portraits, "--cloaked", plain_photos)
    done = facetools("train-detector", *words, "--out", out)
    assert done.code == 1
    one_line(done, "lacks clean or cloaked faces")
    assert {record.get("reason") for record in done.records} == {"no face of 20 pixels or more found"}
    assert not list(tmp_path.glob("mine*"))


def test_detect_names_the_attack_of_a_cloaked_face(facetools: Tool, plain_photos: Path, tmp_path: Path) -> None:
    from facetools.detector.decision import Calibration, Thresholds
    from facetools.detector.files import save_detector

    path = tmp_path / "two.safetensors"
    save_detector(
        path,
        network(),
        ("fawkes", "lowkey"),
        Calibration(1.0, 0.0, (Thresholds(0.005, 0.5, 0.25),), attack_share=0.0),
        {},
    )
    for threshold, label in (("0", "cloaked"), ("1", "unclear")):
        done = facetools("detect", "--detector", path, "--threshold", threshold, "--in", plain_photos)
        assert (done.code, done.err) == (0, "")
        face, nobody = done.records
        assert (face["label"], face["threshold"]) == (label, float(threshold))
        assert sum(face["attacks"].values()) == pytest.approx(face["score"], abs=3e-6)
        likeliest = max(face["attacks"], key=face["attacks"].get)
        assert face["attack"] == (likeliest if label == "cloaked" else None)
        assert [nobody[key] for key in ("score", "label", "attack", "attacks", "power", "face")] == [None] * 6
        assert (face["clean_below"], nobody["clean_below"]) == (min(0.25, float(threshold)),) * 2
        assert nobody["reason"] == "no face of 20 pixels or more found"
    # What is printed decides: a score that reads as the threshold is on it.
    printed = f"{face['score']:.6f}"
    done = facetools("detect", "--detector", path, "--threshold", printed, "--fail-on-detection", "--in", plain_photos)
    assert (done.code, done.records[0]["label"]) == (4, "cloaked")
    # A photo in which no face was found once and one is found now has no reason any more.
    none = facetools("detect", "--detector", path, "--min-face", "1000", "--in", plain_photos)
    assert {record["reason"] for record in none.records} == {"no face of 1000 pixels or more found"}
    again = facetools("detect", "--detector", path, "--threshold", "0", stdin=none.out)
    assert [record.get("reason") for record in again.records] == [None, "no face of 20 pixels or more found"]


def test_detect_labels_by_the_rate_of_false_alarms(facetools: Tool, plain_photos: Path, tmp_path: Path) -> None:
    from facetools.detector.decision import Calibration, Thresholds
    from facetools.detector.files import save_detector

    path, words = tmp_path / "two.safetensors", ("--in", plain_photos, "--fail-on-detection")
    save_detector(path, network(), ("a", "b"), Calibration(1.0, 0.0, (Thresholds(0.005, 1.0, 1.0),)), {})
    score = facetools("detect", "--detector", path, *words).records[0]["score"]
    assert 0.01 < score < 0.99
    rows = (Thresholds(0.002, score + 0.01, score + 0.005), Thresholds(0.005, 1.0, score), Thresholds(0.1, score, 0.0))
    # Power is another matter.
    save_detector(path, network(), ("a", "b"), Calibration(1.0, 0.0, rows, least_power=0), {})
    for rate, row, label, code in (("0.002", 0, "clean", 0), ("0.05", 1, "unclear", 0), ("0.2", 2, "cloaked", 4)):
        done = facetools("detect", "--detector", path, "--false-alarms", rate, *words)
        assert (done.code, done.err) == (code, "")
        face, _ = done.records
        assert (face["label"], face["threshold"], face["clean_below"]) == (label, *rows[row][1:])
        between = "the score lies between clean_below and threshold"
        assert face.get("reason") == (between if label == "unclear" else None)
    refused = facetools("detect", "--detector", path, "--false-alarms", "0.001", *words)
    assert (refused.code, refused.out) == (2, b"")
    one_line(refused, "--false-alarms 0.001: the detector's thresholds are for 0.002, 0.005, 0.1; give 0.002 or more")


def test_a_face_that_shows_too_little_is_unclear(facetools: Tool, plain_photos: Path, tmp_path: Path) -> None:
    import torch

    from facetools.detector.decision import Calibration, Thresholds
    from facetools.detector.files import save_detector

    path, net = tmp_path / "two.safetensors", network()
    with torch.no_grad():
        net.power.weight[:], net.power.bias[:] = 0, -3  # of every face
    rows = (Thresholds(0.005, 0.999, 0.998),)
    save_detector(path, net, ("a", "b"), Calibration(1.0, 0.0, rows), {})
    face, nobody = facetools("detect", "--detector", path, "--in", plain_photos).records
    assert (face["label"], face["power"]) == ("unclear", pytest.approx(0.047426, abs=1e-4))
    side = min(face["box"][2] - face["box"][0], face["box"][3] - face["box"][1])
    assert face["reason"] == f"too little detail: a cloak would not be seen here (face of {side:.0f} pixels)"
    assert (nobody["power"], nobody["reason"]) == (None, "no face of 20 pixels or more found")
    bolder = facetools("detect", "--detector", path, "--threshold", "0", "--in", plain_photos).records[0]
    assert (bolder["label"], bolder.get("reason")) == ("cloaked", None)


def test_detect_says_what_of_a_file_it_has_not_seen(facetools: Tool, tmp_path: Path) -> None:
    frames = [faceless(), faceless().transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    frames[0].save(tmp_path / "two.png", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "zone.png")
    done = facetools("detect", "--in", tmp_path)
    assert [record.get("notes") for record in done.records] == [["first frame of an animation"], None]


def test_a_face_outside_the_photo_has_a_reason(facetools: Tool, plain_photos: Path, tmp_path: Path) -> None:
    from facetools.detector.decision import Calibration, Thresholds
    from facetools.detector.files import save_detector

    path = tmp_path / "two.safetensors"
    save_detector(
        path,
        network(),
        ("fawkes", "lowkey"),
        Calibration(1.0, 0.0, (Thresholds(0.005, 0.5, 0.25),), attack_share=0.0),
        {},
    )
    points = [[950, 110], [990, 110], [920, 140], [945, 170], [995, 170]]
    named = {"path": str(plain_photos / "0.png"), "landmarks": points, "box": [900, 90, 1000, 200], "who": "me"}
    done = facetools("detect", "--detector", path, "--in", "-", stdin=as_lines([named]))
    assert (done.code, done.err) == (0, "")
    (record,) = done.records
    assert [record[key] for key in ("score", "label", "attack", "attacks")] == [None] * 4
    assert (record["reason"], record["who"]) == ("too little of the face is in the photo", "me")


def test_a_wrong_detector_is_one_line(facetools: Tool, plain_photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    write_safetensors(path, {"x": np.zeros(1, np.float16)}, {"schema": "facetools.detector/1", "threshold": 0.5})
    done = facetools("detect", "--detector", path, "--in", plain_photos)
    assert (done.code, done.out) == (1, b"")
    one_line(done, str(path), "of an earlier version; make one with facetools train-detector")


def test_a_record_with_impossible_landmarks_fails_alone(facetools: Tool, portraits: Path, tmp_path: Path) -> None:
    path = str(portraits / "a.jpg")
    points = [[90, 110], [150, 110], [120, 140], [95, 170], [145, 170]]
    records = [
        {"path": path, "landmarks": points, "face": 7, "who": "me"},
        {"path": path, "landmarks": points[:4]},
        {"path": path, "landmarks": [[1e300, 0], *points[1:]]},
        {"path": path, "relative": "a\0b", "landmarks": points},
        {"path": path, "relative": "x" * 300, "landmarks": points},
        {"path": path, "relative": "../../up.jpg", "landmarks": points},
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    done = facetools("perturb", "--attack", "none", "--in", "-", "--out", tmp_path / "out", stdin=lines.encode())
    assert (done.code, done.err) == (3, "")
    assert kinds(done) == [None, "bad-record", "bad-record", "bad-record", "unwritable", None]
    assert (done.records[0]["face"], done.records[0]["who"]) == (7, "me")
    assert (tmp_path / "out" / "up.jpg").exists()


@pytest.fixture
def pair(real_people: dict[str, list[bytes]], tmp_path: Path) -> Path:
    """A folder of one photo with two faces and one with one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    one, other = (Image.open(io.BytesIO(photos[0])).convert("RGB") for photos in list(real_people.values())[:2])
    both = Image.new("RGB", (one.width + other.width, max(one.height, other.height)))
    both.paste(one, (0, 0))
    both.paste(other, (one.width, 0))
    both.save(folder / "a.png")
    one.save(folder / "b.png")
    return folder


def as_lines(records: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def test_several_faces_of_a_photo_go_through_a_pipe(facetools: Tool, pair: Path, tmp_path: Path) -> None:
    detected = facetools("detect", "--in", pair)
    assert (detected.code, [record["relative"] for record in detected.records]) == (0, ["a.png", "a.png", "b.png"])
    assert [list(record).index("relative") - list(record).index("path") for record in detected.records] == [1] * 3
    named = [{**record, "who": who} for record, who in zip(detected.records, "xyz", strict=True)]
    cloaked = facetools("perturb", *FAST, "--in", "-", "--out", tmp_path / "piped", stdin=as_lines(named))
    assert (cloaked.code, cloaked.err) == (0, "")
    assert sorted(tree(tmp_path / "piped")) == ["a.png", "b.png"]
    assert [(r["relative"], r["face"], r["who"]) for r in cloaked.records] == [
        ("a.png", 0, "x"), ("a.png", 1, "y"), ("b.png", 0, "z")
    ]  # fmt: skip
    assert all(record["moved"] > 0 for record in cloaked.records)
    # Both faces have changed.
    change = np.abs(
        np.asarray(Image.open(tmp_path / "piped" / "a.png"), int) - np.asarray(Image.open(pair / "a.png"), int)
    )
    half = change.shape[1] // 2
    assert change[:, :half].max() > 0
    assert change[:, half:].max() > 0

    resumed = facetools("perturb", *FAST, "--resume", "--in", "-", "--out", tmp_path / "piped", stdin=as_lines(named))
    assert (resumed.code, resumed.out) == (0, cloaked.out)
    renamed = as_lines([{**record, "who": "new"} for record in named])
    again = facetools("perturb", *FAST, "--resume", "--in", "-", "--out", tmp_path / "piped", stdin=renamed)
    assert again.records == [{**record, "who": "new"} for record in cloaked.records]

    for name, out in (("align", "chips"), ("embed", "e.safetensors"), ("detect", "")):
        words = ["--out", tmp_path / out] if out else []
        done = facetools(name, *words, "--in", "-", stdin=as_lines(named))
        assert done.code == 0
        assert [(record["face"], record["who"]) for record in done.records] == [(0, "x"), (1, "y"), (0, "z")]
    assert len(tree(tmp_path / "chips")) == 3


def test_a_photo_that_another_run_has_replaced_is_not_reported(
    facetools: Tool, portraits: Path, tmp_path: Path
) -> None:
    def perturb(*words: str) -> Run:
        words = ("--attack", "none", "--format", "jpeg", *words)
        return facetools("perturb", *words, "--in", portraits / "a.jpg", "--out", tmp_path / "o")

    assert perturb("--quality", "30").code == 0
    better = perturb("--quality", "90", "--force")
    assert better.code == 0
    written = tree(tmp_path / "o")
    done = perturb("--quality", "30", "--resume")
    assert (done.code, kinds(done), tree(tmp_path / "o")) == (3, ["exists"], written)
    kept = perturb("--quality", "90", "--resume")
    assert (kept.code, kept.out) == (0, better.out)


def test_each_part_of_embeddings_is_a_file_of_its_own(facetools: Tool, portraits: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.safetensors"
    parts = [facetools("embed", "--shard", f"{number}/2", "--in", portraits, "--out", out) for number in (1, 2)]
    assert [part.code for part in parts] == [0, 0]
    files = [str(tmp_path / f"e.{number}-of-2.safetensors") for number in (1, 2)]
    assert [(record["file"], record["row"]) for part in parts for record in part.records] == [(f, 0) for f in files]
    assert [path.name for path in sorted(tmp_path.glob("e.*"))] == [Path(file).name for file in files]
    again = facetools("embed", "--shard", "2/2", "--in", portraits, "--out", out)
    assert again.code == 2
    one_line(again, files[1], "exists; use --force")


def test_folders_found_on_stdin_do_not_collide(facetools: Tool, people_folder: Path, tmp_path: Path) -> None:
    names = sorted(people_folder.glob("*/0.jpg"))[:2]
    lines = "".join(f"{name}\n" for name in names).encode()
    done = facetools("perturb", "--attack", "none", "--in", "-", "--out", tmp_path / "out", stdin=lines)
    assert (done.code, kinds(done)) == (0, [None] * len(done.records))
    assert sorted(tree(tmp_path / "out")) == [str(name).lstrip("/") for name in names]


def test_no_work_is_done_for_an_output_that_cannot_be(facetools: Tool, portraits: Path) -> None:
    for words in ([], ["--force"]):
        done = facetools("embed", *words, "--in", portraits, "--out", os.devnull)
        assert (done.code, done.out) == (2, b"")
        one_line(done, os.devnull, "is no regular file")
