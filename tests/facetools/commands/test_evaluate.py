"""``facetools evaluate`` as a process, on real faces."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from conftest import Run, saved
from embedding_files import write
from facetools.extractors.architectures import mobilefacenet
from facetools.extractors.files import save_extractor

Tool = Callable[..., Run]
COUNT = 6


@pytest.fixture
def evaluate(run: Callable[..., Run]) -> Tool:
    return lambda *words, **how: run("facetools", "evaluate", *map(str, words), **how)


@pytest.fixture(scope="module")
def folders(real_people: dict[str, list[bytes]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people with two photos each; as cloaks the same photos saved anew, and those of the next person."""
    top = tmp_path_factory.mktemp("evaluate")
    chosen = list(real_people.items())[:COUNT]
    for number, (name, photos) in enumerate(chosen):
        for kind, source in (("clean", photos), ("same", photos), ("swapped", chosen[(number + 1) % COUNT][1])):
            (top / kind / name).mkdir(parents=True)
            for place, data in enumerate(source):
                again = saved(Image.open(io.BytesIO(data)), "JPEG", quality=95)
                (top / kind / name / f"{place}.jpg").write_bytes(again if kind == "same" else data)
    return top


def people_of(done: Run) -> list[dict[str, Any]]:
    return [record for record in done.records if record.get("person")]


def test_swapped_photos_protect_and_unchanged_ones_do_not(evaluate: Tool, folders: Path) -> None:
    words = ("--gallery", folders / "clean", "--classifier", "nn", "--classifier", "linear")
    done = evaluate(*words, "--cloaked", folders / "swapped", "--cloaked", folders / "same", "--seed", "1")
    assert (done.code, done.err) == (3, "")
    summaries = [record for record in done.records if record["person"] is None]
    shown = {(Path(s["cloak"]).name, s["classifier"]): s for s in summaries}
    assert len(shown) == 4
    for classifier in ("nn", "linear"):
        swapped, same = shown["swapped", classifier], shown["same", classifier]
        assert swapped["protection"] >= 1 - 1 / COUNT - 1e-6  # records have six decimals
        assert same["protection"] == same["floor"] == swapped["floor"] <= 1 / COUNT + 1e-6
        assert swapped["people"] == COUNT
    # One photo a person is trained on, and two cloaks cannot both have it.
    errors = [record for record in done.records if "error" in record]
    assert {(record["error"]["kind"], len(record["cloaks"])) for record in errors} == {("few-photos", 2)}
    assert len(errors) == 2 * COUNT
    for record in done.records:
        assert next(iter(record)) == "protection"
        assert record["schema"] == "facetools.evaluate/1"


def test_it_is_said_what_cloaks_were_made_against(evaluate: Tool, run: Tool, folders: Path, tmp_path: Path) -> None:
    cloaked, other = tmp_path / "cloaked", tmp_path / "other.safetensors"
    few = ("--attack", "lowkey", "--set", "steps=1", "--faces", "largest")
    made = run("facetools", "perturb", *few, "--in", str(folders / "clean"), "--out", str(cloaked))
    state = mobilefacenet.MobileFaceNet(dimensions=16).state_dict()
    save_extractor(other, "mobilefacenet", state, mobilefacenet.SETTINGS, {"dimensions": 16})
    both = ("--extractor", "dlib-resnet", "--extractor", other)
    done = evaluate("--gallery", folders / "clean", "--cloaked", cloaked, "--cloaked", folders / "same", *both)
    summaries = [record for record in done.records if record["person"] is None and len(record["cloaks"]) == 1]
    digest = next(s["extractor_sha256"] for s in summaries if s["extractor"] == "dlib-resnet")
    shown = {(Path(s["cloak"]).name, s["extractor"]): (s["made_against"], s["white_box"]) for s in summaries}
    assert shown == {
        ("cloaked", "dlib-resnet"): ({"dlib-resnet": digest}, True),
        ("cloaked", "other"): ({"dlib-resnet": digest}, False),
        ("same", "dlib-resnet"): (None, None),
        ("same", "other"): (None, None),
    }
    assert done.err == (
        f"facetools: warning: {cloaked}: made against dlib-resnet, which measures the protection here: another "
        "recogniser may see through it; give --extractor with another one too\n"
    )
    # The same from embeddings, of the records of perturb or of the folder.
    for name, words, stdin in (("piped", ("--in", "-"), made.out), ("walked", ("--in", str(cloaked)), b"")):
        run("facetools", "embed", *words, "--out", str(tmp_path / f"{name}.safetensors"), stdin=stdin)
        assert (tmp_path / f"{name}.safetensors").exists()
    run("facetools", "embed", "--in", str(folders / "clean"), "--out", str(tmp_path / "clean.safetensors"))
    for name in ("piped", "walked"):
        embedded = evaluate("--gallery", tmp_path / "clean.safetensors", "--cloaked", tmp_path / f"{name}.safetensors")
        (summary,) = (record for record in embedded.records if record["person"] is None)
        assert (summary["made_against"], summary["white_box"]) == ({"dlib-resnet": digest}, True)


def test_embeddings_give_what_photos_give_and_one_person_can_be_asked_again(
    evaluate: Tool, run: Tool, folders: Path, tmp_path: Path
) -> None:
    for kind in ("clean", "swapped"):
        words = ("--faces", "largest", "--in", folders / kind, "--out", tmp_path / f"{kind}.safetensors")
        done = run("facetools", "embed", *map(str, words))
        (tmp_path / f"{kind}.jsonl").write_bytes(done.out)
    by_photos = evaluate("--gallery", folders / "clean", "--cloaked", folders / "swapped")
    embedded = ("--gallery", tmp_path / "clean.jsonl", "--cloaked", tmp_path / "swapped.jsonl")
    by_records = evaluate(*embedded)
    piped = evaluate(
        "--gallery", tmp_path / "clean.safetensors", "--cloaked", "-", stdin=(tmp_path / "swapped.jsonl").read_bytes()
    )
    for done in (by_photos, by_records, piped):
        assert (done.code, done.err) == (0, "")

    def told(done: Run) -> list[dict[str, Any]]:
        apart = ("cloak", "cloaks", "command")
        return [{key: value for key, value in record.items() if key not in apart} for record in done.records]

    assert told(by_photos) == told(by_records) == told(piped)
    someone = people_of(by_records)[2]
    again = evaluate(*embedded, "--protected", someone["person"])
    assert people_of(again) == [someone]


def test_what_the_trainer_does_first_and_a_robust_model(evaluate: Tool, folders: Path, tmp_path: Path) -> None:
    robust = tmp_path / "robust.safetensors"
    torch.manual_seed(0)
    state = mobilefacenet.MobileFaceNet(16).state_dict()
    save_extractor(robust, "mobilefacenet", state, mobilefacenet.SETTINGS, {"dimensions": 16})
    words = ("--gallery", folders / "clean", "--cloaked", folders / "swapped", "--robust", robust)
    words += ("--classifier", "top2", "--classifier", "nn")
    done = evaluate(*words, "--preprocess", "none", "--preprocess", "jpeg:60", "--preprocess", "resize:0.5")
    assert (done.code, done.err) == (0, "")
    summaries = {(r["classifier"], r["preprocess"]): r for r in done.records if r["person"] is None}
    assert len(summaries) == 6
    for (classifier, _), record in summaries.items():
        assert record.get("robust") == (None if classifier == "nn" else "robust")
        assert record["extractor"] == "dlib-resnet"
    for step in ("none", "jpeg:60", "resize:0.5"):
        # Two names are right at least as often as the first of them.
        assert summaries["top2", step]["floor"] <= summaries["nn", step]["floor"]
        assert "tar" in summaries["nn", step]
        assert "tar" not in summaries["top2", step]


def test_side_by_side_with_a_suffix_as_facescrub_is_laid_out(evaluate: Tool, folders: Path, tmp_path: Path) -> None:
    for photo in sorted((folders / "clean").glob("*/*")):
        place = tmp_path / "all" / photo.parent.name / "face"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, place / photo.name)
        shutil.copy(folders / "swapped" / photo.parent.name / photo.name, place / f"{photo.stem}_cloaked.jpg")
    both = ("--gallery", tmp_path / "all", "--cloaked", tmp_path / "all")
    done = evaluate(*both, "--suffix", "_cloaked", "--folds", "2")
    assert (done.code, done.err) == (0, "")
    assert len(people_of(done)) == COUNT
    assert {record["test_photos"] for record in people_of(done)} == {2}
    assert done.records[-1]["protection"] > 0.8
    refused = evaluate(*both)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "photos beside their cloaked copies need --suffix" in refused.err


def test_what_is_missing_on_either_side_is_a_record(evaluate: Tool, folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "swapped", tmp_path / "cloaked")
    names = sorted(path.name for path in (tmp_path / "cloaked").iterdir())
    for photo in (tmp_path / "cloaked" / names[0]).iterdir():
        photo.rename(photo.with_name(f"other{photo.name}"))
    shutil.rmtree(tmp_path / "cloaked" / names[1])
    (tmp_path / "cloaked" / names[2] / "0.jpg").write_bytes(b"no photo")
    (tmp_path / "cloaked" / names[2] / "1.jpg").unlink()
    (tmp_path / "cloaked" / names[3] / "0.jpg").unlink()
    done = evaluate("--gallery", folders / "clean", "--cloaked", tmp_path / "cloaked", "--folds", "2")
    assert (done.code, done.err) == (3, "")
    errors = {Path(r["path"]).name if r.get("path") else r["person"]: r["error"] for r in done.records if "error" in r}
    assert errors.pop("other0.jpg")["kind"] == errors.pop("other1.jpg")["kind"] == "no-match"
    assert errors.pop("0.jpg")["kind"] == "not-a-photo"
    assert errors.pop(names[3])["kind"] == "no-cloak"
    assert not errors
    assert {record["person"] for record in people_of(done) if "error" not in record} == set(names[4:])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--gallery", "{clean}", "--cloaked", "{records}"), 2, "no photos, but"),
        (("--gallery", "{clean}", "--cloaked", "{same}", "--cloaked", "{same}"), 2, "given twice"),
        (("--gallery", "{clean}", "--cloaked", "{same}", "--classifier", "top2"), 2, "needs a robust extractor"),
        (("--gallery", "{clean}", "--cloaked", "{same}", "--preprocess", "jpeg"), 2, "--preprocess jpeg: not known"),
        (("--gallery", "{clean}", "--cloaked", "{same}", "--robust", "{same}"), 2, "neither a file nor one of"),
        (("--gallery", "{clean}", "--cloaked", "{nothing}"), 1, "the folder holds no file"),
        (("--gallery", "{clean}", "--cloaked", "{missing}"), 1, "no such file or folder"),
        (("--gallery", "{clean}", "--cloaked", "{same}", "--protected", "Nobody"), 1, "no such person in"),
        (("--gallery", "{one}", "--cloaked", "{one_copy}"), 1, "a recogniser needs two"),
        (("--gallery", "{clean}", "--cloaked", "{strangers}"), 1, "has its copy among"),
    ],
)
def test_what_cannot_be_evaluated(
    evaluate: Tool, folders: Path, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "nothing").mkdir()
    someone = next(iter(sorted((folders / "clean").iterdir())))
    for name in ("one", "one_copy"):
        shutil.copytree(someone, tmp_path / name / someone.name)
    for photo in sorted(someone.iterdir()):
        (tmp_path / "strangers").mkdir(exist_ok=True)
        shutil.copy(photo, tmp_path / "strangers" / f"x{photo.name}")
    places = {name: tmp_path / name for name in ("nothing", "missing", "one", "one_copy", "strangers")}
    places |= {name: folders / name for name in ("clean", "same")}
    places |= {"records": write(tmp_path, "r")}
    done = evaluate(*(word.format(**places) for word in words))
    assert (done.code, done.out, done.err.count("\n")) == (code, b"", 1), done.err
    assert done.err.startswith("facetools: error: ")
    assert message in done.err


def test_records_name_their_input(evaluate: Tool, folders: Path) -> None:
    done = evaluate("--gallery", folders / "clean", "--cloaked", folders / "swapped", "--distance", "cosine")
    assert {record["cloak"] for record in done.records} == {str(folders / "swapped")}
    assert json.loads(done.out.splitlines()[-1])["person"] is None
