"""``facetools perturb`` on whole photos, as a user has them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Run, faceless, saved

Tool = Callable[..., Run]
FAST = ("--attack", "lowkey", "--set", "steps=2")


@pytest.fixture
def facetools(run: Callable[..., Run]) -> Tool:
    return lambda *words, **options: run("facetools", *map(str, words), **options)


def enlarged(data: bytes, factor: int) -> Image.Image:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


@pytest.fixture
def hard(real_people: dict[str, list[bytes]], tmp_path: Path) -> Path:
    """A 24-megapixel JPEG with three faces, a 92x112 PGM and a CMYK JPEG."""
    folder, photos = tmp_path / "hard", [each[0] for each in real_people.values()]
    folder.mkdir()
    large = Image.new("RGB", (6000, 4000), (110, 120, 130))
    for number, data in enumerate(photos[:3]):
        # The middle alone: other people stand behind some.
        large.paste(enlarged(data, 4).crop((200, 200, 800, 800)), (300 + 1900 * number, 800))
    large.save(folder / "large.jpg", quality=92)
    small = Image.open(io.BytesIO(photos[0])).convert("L").crop((60, 50, 190, 208)).resize((92, 112))
    small.save(folder / "small.pgm")
    enlarged(photos[1], 1).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    return folder


def test_photos_that_other_tools_stumble_over(facetools: Tool, hard: Path, tmp_path: Path) -> None:
    done = facetools("perturb", *FAST, "--in", hard, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    by_name: dict[str, list[dict[str, Any]]] = {}
    for record in done.records:
        by_name.setdefault(str(record["relative"]), []).append(record)
    assert {name: len(each) for name, each in by_name.items()} == {"large.jpg": 3, "small.pgm": 1, "cmyk.jpg": 1}
    assert all(record["moved"] > 0.001 for each in by_name.values() for record in each)
    for name, size in (("large.jpg", (6000, 4000)), ("small.pgm", (92, 112)), ("cmyk.jpg", (250, 250))):
        with Image.open(tmp_path / "out" / name) as image:
            assert image.size == size
    assert "CMYK read as RGB" in by_name["cmyk.jpg"][0]["notes"]


def test_two_runs_write_the_same_bytes_whatever_the_number_of_threads(
    facetools: Tool, people_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        out = tmp_path / threads
        assert facetools("perturb", *FAST, "--in", people_folder, "--out", out).code == 0
        written.append({p.relative_to(out): p.read_bytes() for p in sorted(out.rglob("*.jpg"))})
    assert written[0]
    assert written[0] == written[1]


def test_names_and_faceless_photos(facetools: Tool, face_photo: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "me").mkdir(parents=True)
    (folder / "me" / "a.jpg").write_bytes(face_photo)
    nobody = saved(faceless(), "JPEG", quality=80)
    (folder / "nobody.jpg").write_bytes(nobody)
    words = ("--suffix", "_cloaked", "--copy-faceless")
    done = facetools("perturb", *FAST, *words, "--in", folder, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    first, second = done.records
    assert first["relative"] == "me/a_cloaked.jpg"
    assert (tmp_path / "out" / "me" / "a_cloaked.jpg").exists()
    assert second["reason"] == "no face of 20 pixels or more found; copied"
    assert (tmp_path / "out" / "nobody_cloaked.jpg").read_bytes() == nobody
    refused = facetools("perturb", *FAST, "--suffix", "../x", "--in", folder, "--out", tmp_path / "o2")
    assert refused.code == 2


def test_the_place_is_left_out_on_demand(facetools: Tool, face_photo: bytes, tmp_path: Path) -> None:
    image = Image.open(io.BytesIO(face_photo))
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 30.0)
    (tmp_path / "in").mkdir()
    image.save(tmp_path / "in" / "a.jpg", exif=exif, quality=95)
    nobody = faceless()
    nobody.save(tmp_path / "in" / "n.jpg", exif=exif)
    done = facetools(
        "perturb", *FAST, "--strip-gps", "--copy-faceless", "--in", tmp_path / "in", "--out", tmp_path / "out"
    )
    assert done.code == 0, done.err
    for record in done.records:
        assert "GPS removed" in record["notes"]
    for name in ("a.jpg", "n.jpg"):
        kept = Image.open(tmp_path / "out" / name).getexif()
        assert kept[0x010F] == "maker"
        assert not any(kept.get_ifd(0x8825).values())


def test_crops_are_all_face(facetools: Tool, people_folder: Path, tmp_path: Path) -> None:
    chips = tmp_path / "chips"
    assert facetools("align", "--faces", "largest", "--in", people_folder, "--out", chips).code == 0
    done = facetools("perturb", *FAST, "--crops", "--in", chips, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    found = done.records
    assert len(found) == len(list(chips.rglob("*.png")))
    assert all(record["box"] == [0.0, 0.0, 150.0, 150.0] and record["landmarks"] is None for record in found)
    assert all(record["moved"] > 0.001 for record in found)
    clean, cloaked = (np.array(Image.open(folder / str(found[0]["relative"]))) for folder in (chips, tmp_path / "out"))
    # Nothing fades at a crop's edge.
    assert (clean[0] != cloaked[0]).any()


def test_a_mask_is_made_once_and_laid_over_new_photos(
    facetools: Tool, real_people: dict[str, list[bytes]], tmp_path: Path
) -> None:
    name, photos = next(iter(real_people.items()))
    for kind, some in (("old", photos[:-1]), ("new", photos[-1:])):
        (tmp_path / kind / name).mkdir(parents=True)
        for number, data in enumerate(some):
            (tmp_path / kind / name / f"{number}.jpg").write_bytes(data)
    mask = tmp_path / "mask.safetensors"
    opom = ("perturb", "--attack", "opom")
    made = facetools(*opom, "--set", "steps=4", "--save-mask", mask, "--in", tmp_path / "old", "--out", tmp_path / "1")
    assert made.code == 0, made.err
    laid = facetools(*opom, "--mask", mask, "--in", tmp_path / "new", "--out", tmp_path / "2")
    assert laid.code == 0, laid.err
    assert all(record["moved"] > 0.005 for record in [*made.records, *laid.records])
    # Who resumes takes the masks that are there, if they are those that would be made.
    words = ("--set", "steps=4", "--save-mask", mask, "--in", tmp_path / "old", "--out", tmp_path / "1", "--resume")
    again = facetools(*opom, *words)
    assert (again.code, again.err, again.out) == (0, "", made.out)
    other = facetools(*opom, *words, "--seed", "9")
    assert (other.code, "made with other seed" in other.err) == (2, True)
    # The mask says what it was made with; this run could only claim something else.
    for record in laid.records:
        assert (record["mode"], record["knobs"]["steps"], record["seed"]) == ("convex-hull", 4, 0)
    refused = (
        (), ("--mask", mask, "--save-mask", tmp_path / "other"), ("--save-mask", tmp_path / "other", "--shard", "1/2"),
        ("--mask", mask, "--seed", "5"), ("--mask", mask, "--views", "jpeg"), ("--save-mask", mask),
    )  # fmt: skip
    for words in refused:
        assert facetools(*opom, *words, "--in", tmp_path / "new", "--out", tmp_path / "3").code == 2


def test_a_targeted_attack_pulls_to_people_of_a_file(facetools: Tool, people_folder: Path, tmp_path: Path) -> None:
    targets = tmp_path / "targets.safetensors"
    photos = sorted(people_folder.iterdir())
    assert facetools("embed", "--faces", "largest", "--in", people_folder, "--out", targets).code == 0
    words = ("perturb", "--attack", "fawkes-v0.3", "--mode", "min", "--faces", "largest")
    done = facetools(*words, "--targets", targets, "--in", photos[0], "--out", tmp_path / "out")
    assert done.code == 0, done.err
    for record in done.records:
        assert record["mode"] == "min"
        assert record["targets"][0] in {photo.name for photo in photos[1:]}
    needs = facetools(*words, "--in", photos[0], "--out", tmp_path / "o2")
    assert (needs.code, "needs --targets, other people" in needs.err) == (2, True)
    assert "`facetools embed --faces largest others/ --out others.safetensors > others.jsonl`, then" in needs.err


def test_too_few_targets_are_an_error_of_that_photo(facetools: Tool, people_folder: Path, tmp_path: Path) -> None:
    """The one person to be pulled to has nobody to be pulled to; everybody else is cloaked."""
    alone, other = sorted(people_folder.iterdir())[:2]
    targets = tmp_path / "targets.safetensors"
    lines = [f"{person / '0.jpg'}\n" for person in (alone, other)]
    made = facetools("embed", "--faces", "largest", "--in", "-", "--out", targets, stdin=lines[0].encode())
    assert made.code == 0, made.err
    words = ("perturb", "--attack", "fawkes-v0.3", "--set", "steps=1", "--faces", "largest", "--targets", targets)
    done = facetools(*words, "--in", "-", "--out", tmp_path / "out", stdin="".join(lines).encode())
    assert (done.code, done.err) == (3, "")
    first, second = done.records
    assert first["error"]["kind"] == "targets"
    assert f"0 people besides {alone.name}, 1 needed" in first["error"]["message"]
    assert second["targets"] == [alone.name]


def test_a_faceless_photo_that_cannot_be_copied_fails_alone(facetools: Tool, face_photo: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    faceless((66_000, 8)).save(folder / "a.png")
    (folder / "b.jpg").write_bytes(face_photo)
    words = ("perturb", "--attack", "none", "--copy-faceless", "--format", "jpeg")
    done = facetools(*words, "--in", folder, "--out", tmp_path / "out")
    assert (done.code, done.err) == (3, "")
    first, second = done.records
    assert first["error"]["kind"] == "unwritable"
    assert second["path"] == str(tmp_path / "out" / "b.jpg")


def test_notes_say_what_was_lost_and_no_more(facetools: Tool, face_photo: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x010F] = "maker"
    preview = exif.tobytes() + saved(faceless((32, 24)), "JPEG")
    faceless((90, 90)).save(folder / "a.jpg", exif=preview)
    Image.open(io.BytesIO(face_photo)).save(folder / "b.webp", quality=80)
    Image.open(io.BytesIO(face_photo)).save(folder / "c.gif")
    copied, guessed, told = facetools(
        "perturb", "--attack", "none", "--copy-faceless", "--in", folder, "--out", tmp_path / "out"
    ).records
    assert "notes" not in copied
    assert (tmp_path / "out" / "a.jpg").read_bytes() == (folder / "a.jpg").read_bytes()
    assert guessed["notes"] == ["WEBP files do not tell their quality: saved with 95"]
    assert told["notes"] == ["palette read as RGB", "GIF is written as PNG"]
    words = ("--format", "jpeg", "--in", folder / "c.gif")
    (other,) = facetools("perturb", "--attack", "none", *words, "--out", tmp_path / "2").records
    assert other["notes"] == ["palette read as RGB"]


def test_records_of_crops_are_crops(facetools: Tool, people_folder: Path, tmp_path: Path) -> None:
    photo = sorted(people_folder.rglob("*.jpg"))[0]
    chips = facetools("align", "--faces", "largest", "--in", photo, "--out", tmp_path / "chips")
    words = ("perturb", "--attack", "none", "--crops", "--in")
    piped = facetools(*words, "-", "--out", tmp_path / "1", stdin=chips.out)
    named = facetools(*words, tmp_path / "chips", "--out", tmp_path / "2")
    assert piped.code == named.code == 0, piped.err
    for record in (*piped.records, *named.records):
        assert (record["box"], record["landmarks"]) == ([0.0, 0.0, 150.0, 150.0], None)


def test_an_ensemble_and_an_extractor_that_is_not_attacked(
    facetools: Tool, people_folder: Path, tmp_path: Path
) -> None:
    from facetools.extractors.architectures import mobilefacenet
    from facetools.extractors.files import save_extractor

    files = []
    for number in (0, 1):
        import torch

        torch.manual_seed(number)
        net = mobilefacenet.MobileFaceNet(32)
        files.append(tmp_path / f"net{number}.safetensors")
        save_extractor(files[-1], "mobilefacenet", net.state_dict(), mobilefacenet.SETTINGS, {"dimensions": 32})
    photo = sorted(people_folder.rglob("*.jpg"))[0]
    ensemble = ("--extractor", "dlib-resnet", "--extractor", files[0], "--measure", files[1])
    done = facetools("perturb", *FAST, *ensemble, "--faces", "largest", "--in", photo, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    (record,) = done.records
    assert set(record["distances"]) == {"dlib-resnet", "net0"}
    assert record["moved"] == pytest.approx(np.mean(list(record["distances"].values())), abs=1e-5)
    assert set(record["unseen"]) == {"net1"}
    both = facetools("perturb", *FAST, *ensemble, "--measure", files[0], "--in", photo, "--out", tmp_path / "o2")
    assert (both.code, "it is in the ensemble" in both.err) == (2, True)


def test_a_folder_begun_with_an_older_name_of_a_knob_is_resumed(
    facetools: Tool, plain_photos: Path, tmp_path: Path
) -> None:
    words = ("perturb", "--attack", "fawkes-v1.0", "--set", "steps=1", "--in", plain_photos, "--out", tmp_path / "out")
    first = facetools(*words, "--set", "bound=0.02")
    assert first.code == 0, first.err
    again = facetools(*words, "--set", "epsilon=0.02", "--resume")
    assert (again.code, again.err, again.out) == (0, "", first.out)
    assert first.records[0]["knobs"]["bound"] == 0.02
    other = facetools(*words, "--set", "epsilon=0.03", "--resume")
    assert (other.code, "was made with knobs" in other.err) == (2, True)


def test_others_that_are_left_out_are_told(facetools: Tool, people_folder: Path, tmp_path: Path) -> None:
    me, *rest = sorted(people_folder.iterdir())
    others = tmp_path / "others"
    rest[0].rename(others)
    (others / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (others / "notes.txt").write_text("no photo")
    words = ("perturb", *FAST, "--until-hidden", "--others", others, "--in", me / "0.jpg")
    done = facetools(*words, "--out", tmp_path / "out")
    assert (done.code, done.records[0]["reached"]) == (0, False)
    named, broken = done.err.splitlines()
    assert named == "facetools: note: --others: 1 file is left out, not named as photos; --all-files tries them"
    assert broken.startswith(f"facetools: note: --others: {others}/broken.jpg: ")
    for photo in others.glob("[0-9]*.jpg"):
        photo.unlink()
    (others / "notes.txt").unlink()
    none = facetools(*words, "--out", tmp_path / "none")
    assert (none.code, none.out) == (2, b"")
    assert none.err.splitlines() == [
        broken,
        f"facetools: error: --others: no face in {others}; name photos of other people",
    ]


def test_copies_of_another_attack_in_the_folder_are_noted(facetools: Tool, people_folder: Path, tmp_path: Path) -> None:
    one, two = sorted(people_folder.rglob("*.jpg"))[:2]
    out = tmp_path / "out"
    assert "note" not in facetools("perturb", "--attack", "none", one, "--out", out).err
    assert "note" not in facetools("perturb", "--attack", "none", two, "--out", out, "--suffix=-2").err
    done = facetools("perturb", *FAST, two, "--out", out)
    assert f"facetools: note: {out}: holds copies of --attack none too; give --attack lowkey a folder" in done.err
