"""Measure what cloaks do: the tables of docs/results/cloaks.md, and of TIP-IM's and OPOM's modes.

Usage: python docs/results/scripts/cloak_figures.py LFW.tar OUT [--second FILE] UNSEEN [UNSEEN ...]
       python docs/results/scripts/cloak_figures.py LFW.tar OUT --modes PHOTOS.tar UNSEEN [UNSEEN ...]

LFW.tar holds lfw/<person>/<photo>. Cloaks 1 to 6 photos each of 20 people (8 photos or more) with every attack, mode
and ensemble of ``rows``, and prints three Markdown tables: how far each cloak moves the extractors that it was made
against and the UNSEEN ones, what survives saving and scaling, and how many photos a nearest-neighbour recogniser still
identifies. UNSEEN are extractor files; FILE is one that joins dlib-resnet in ensembles, trained with `train-extractor
--held-out 0.2 --seed 0`, which has seen none of these people. An interrupted run goes on where it was; OUT keeps all
records.

With ``--modes`` it prints one table alone, that of docs/commands/facetools-perturb.md: medians for the ``MODES`` of
TIP-IM and OPOM over 2 photos each of 6 of these people, and over the ``LARGE`` ones of PHOTOS.tar, photos/<name>.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from _toolio.tensors.reader import open_safetensors
from facetools.embeddings.distances import distances
from facetools.metrics import mean_interval
from facetools.people import is_held_out, person_of

PEOPLE, LEAST, PHOTOS, KNOWN = 20, 8, 6, 6
FACETOOLS = (sys.executable, "-m", "facetools")
DLIB = "dlib-resnet"
MODES = ("low", "mid", "high")
SETTINGS = {"tip-im": "steps=10", "opom": ""}
"""Of the attacks whose modes are measured; TIP-IM moves nearly as far in 10 steps as in its 100."""
SMALL = 12
LARGE = (
    *(f"london/{person}/{face}.jpg" for person in ("003", "008") for face in ("neutral", "smiling")),
    "3dsk/female-agata.jpg",
    "3dsk/male-alex.jpg",
    "canada/010f.jpg",
    "canada/098m.jpg",
)


class Row(NamedTuple):
    """One kind of cloak; ``photos`` a person, of which an expensive one takes fewer."""

    attack: str
    mode: str | None
    ensemble: tuple[str, ...]
    photos: int = PHOTOS
    crops: bool = False
    views: str = ""
    setting: str = ""

    @property
    def name(self) -> str:
        """Name the row's folder."""
        parts = (
            self.attack,
            self.mode,
            "+".join(Path(name).stem for name in self.ensemble),
            "crops" if self.crops else "",
            self.views,
            self.setting,
        )
        return "_".join(part for part in parts if part).replace(",", "+")


def rows(second: str | None) -> list[Row]:
    """List the cloaks of the tables."""
    one = (DLIB,)
    alone = [
        Row("lowkey", None, one),
        Row("fawkes-v1.0", "low", one, 2),
        Row("fawkes-v1.0", "mid", one, 2),
        Row("fawkes-v1.0", "high", one, 2),
        Row("fawkes-v0.3", "min", one, 2),
        Row("fawkes-v0.3", "low", one, 2),
        Row("fawkes-v0.3", "mid", one, 1),
        Row("fawkes-v0.3", "high", one, 1),
        Row("fawkes-v0.3", "ultra", one, 1),
        Row("tip-im", None, one, 2),
        Row("opom", None, one, 2),
        Row("lowkey", None, one, 2, crops=True),
        Row("fawkes-v1.0", "high", one, 2, crops=True),
        Row("fawkes-v0.3", "low", one, 2, crops=True),
    ]
    if second is None:
        return alone
    both = (DLIB, second)
    return [
        Row("lowkey", None, both),
        Row("lowkey", None, both, views="jpeg,resize,blur,crop"),
        *alone,
    ]


def run(words: Sequence[str | Path], records: Path, lines: str | None = None) -> list[dict[str, Any]]:
    """Run a command of facetools unless its records are there; give them."""
    if not records.exists():
        command = [*FACETOOLS, *map(str, words)]
        done = subprocess.run(command, input=lines, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode not in (0, 3):
            sys.exit(f"{Path(sys.argv[0]).stem}: error: {' '.join(command)} exited {done.returncode}")
        partial = records.with_suffix(".partial")
        partial.write_text(done.stdout)
        partial.rename(records)
    return [json.loads(line) for line in records.read_text().splitlines()]


def lay_out(lfw: Path, out: Path) -> list[str]:
    """Unpack LFW and link the photos of each set into folders; give the 20 people."""
    if not (out / "lfw").exists():
        with tarfile.open(lfw) as archive:
            archive.extractall(out, filter="data")
    found = {folder.name: sorted(folder.iterdir()) for folder in sorted((out / "lfw").iterdir())}
    chosen = [name for name, photos in found.items() if len(photos) >= LEAST and is_held_out(name, 0, 0.2)][:PEOPLE]
    others = [name for name, photos in found.items() if len(photos) >= 10 and name not in chosen]
    sets = {f"photos{n}": [p for name in chosen for p in found[name][:n]] for n in (1, 2, PHOTOS)}
    sets["known"] = [p for name in others for p in found[name][:KNOWN]]
    sets["asked"] = [p for name in chosen for p in found[name][KNOWN : KNOWN + 10]]
    sets["targets"] = [found[name][0] for name in list(found)[::4] if name not in chosen]
    for name, photos in sets.items():
        for photo in photos:
            place = out / name / photo.parent.name / photo.name
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                os.link(photo, place)
    return chosen


def lay_out_sizes(photos: Path, out: Path, chosen: Sequence[str]) -> dict[str, Path]:
    """Link 12 photos of LFW and unpack the large ones, a folder a person; give the folders by what they hold."""
    folders = {"LFW": out / "small", "large": out / "large"}
    with tarfile.open(photos) as archive:
        for name in LARGE:
            stream = archive.extractfile(f"photos/{name}")
            assert stream is not None
            place = folders["large"] / Path(Path(name).parts[1]).stem / Path(name).name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(stream.read())
    for photo in [p for name in chosen for p in sorted((out / "photos2" / name).iterdir())][:SMALL]:
        place = folders["LFW"] / photo.parent.name / photo.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            os.link(photo, place)
    return folders


def cloak(out: Path, row: Row, unseen: Sequence[str], photos: Path | None = None) -> list[dict[str, Any]]:
    """Cloak a row's photos, or those of another folder, and give the records."""
    source = photos or out / (f"photos{row.photos}" if not row.crops else f"crops{row.photos}")
    name = f"{row.name}_{photos.name}" if photos else row.name
    if row.crops and not source.exists():
        whole = out / f"photos{row.photos}"
        run(["align", "--faces", "largest", "--in", whole, "--out", source], out / f"{source.name}.jsonl")
    words = [*words_of(out, row, name), "--in", source]
    words += [word for extractor in unseen for word in ("--measure", extractor)]
    return [r for r in run(words, out / f"{name}.jsonl") if r.get("moved") is not None]


def words_of(out: Path, row: Row, name: str) -> list[str | Path]:
    """Return the command that makes a row's cloaks, but for the photos; ``name`` names its outputs."""
    words: list[str | Path] = ["perturb", "--resume", "--format", "png", "--attack", row.attack]
    words += ["--out", out / "cloaks" / name, *(["--mode", row.mode] if row.mode else [])]
    words += ["--crops"] if row.crops else ["--faces", "largest"]
    words += [word for extractor in row.ensemble for word in ("--extractor", extractor)]
    words += ["--views", row.views] if row.views else []
    words += ["--set", row.setting] if row.setting else []
    if row.attack in ("fawkes-v0.3", "tip-im"):
        for extractor in row.ensemble:
            file = out / f"targets-{Path(extractor).stem}.safetensors"
            making = ["embed", "--force", "--faces", "largest", "--extractor", extractor]
            run([*making, "--in", out / "targets", "--out", file], file.with_suffix(".jsonl"))
            words += ["--targets", file]
    if row.attack == "opom":
        words += ["--save-mask", out / f"{name}.safetensors"]
    return words


def seconds_of(out: Path, row: Row, person: str) -> float:
    """Cloak one person's photos once more, with nothing beside it: seconds a photo.

    The rows may have been made while the machine was busy. One mask is made for both photos, and counts half each.
    """
    source = out / ("crops2" if row.crops else "photos2") / person
    records = out / f"{row.name}.seconds.json"
    if not records.exists():
        start = time.perf_counter()
        made = run([*words_of(out, row, f"timed-{row.name}"), "--in", source], out / f"timed-{row.name}.jsonl")
        whole = time.perf_counter() - start
        each = [record["seconds"] for record in made if record.get("moved") is not None]
        records.write_text(json.dumps(whole / len(each) if row.attack == "opom" else float(np.mean(each))))
    return float(json.loads(records.read_text()))


def by_person(records: Iterable[dict[str, Any]], key: str, part: str | None = None) -> list[float]:
    """Return the mean of a field over each person's faces."""
    each = defaultdict(list)
    for record in records:
        value = record[key] if part is None else record[key][part]
        each[person_of(record["relative"])].append(value)
    return [float(np.mean(values)) for values in each.values()]


def interval(values: Sequence[float]) -> str:
    """Write a mean with its 95% bootstrap interval over people."""
    mean, low, high = mean_interval(values)
    return f"{mean:.3f} ({low:.3f}-{high:.3f})"


def embed(out: Path, name: str, folder: Path, extractor: str) -> tuple[list[str], Any]:
    """Embed a folder's largest faces: the people and the embeddings."""
    file = out / f"{name}-{Path(extractor).stem}.safetensors"
    words: list[str | Path] = [
        "embed",
        "--force",
        "--faces",
        "largest",
        "--extractor",
        extractor,
        "--in",
        folder,
        "--out",
        file,
    ]
    records = run(words, file.with_suffix(".jsonl"))
    with open_safetensors(file) as opened:
        rows_ = np.array(opened.tensor("embeddings"))
    return [person_of(r["relative"]) for r in records if r.get("row") is not None], rows_


def protection(out: Path, row: Row | None, extractor: str, chosen: Sequence[str]) -> list[float]:
    """Return each person's share of test photos that a nearest neighbour names wrongly.

    Known are 6 photos each of everybody; of one person at a time they are cloaked. None: nobody is cloaked.
    """
    people, rows_ = embed(out, "known", out / "known", extractor)
    own_people, own = embed(out, "clean", out / f"photos{PHOTOS}", extractor)
    cloaked_people, cloaked = (
        (own_people, own) if row is None else embed(out, row.name, out / "cloaks" / row.name, extractor)
    )
    asked_people, asked = embed(out, "asked", out / "asked", extractor)
    result = []
    for person in chosen:
        clean = [n for other in chosen if other != person for n in _of(own_people, other)]
        mine = _of(cloaked_people, person)
        gallery = np.concatenate([rows_, own[clean], cloaked[mine]])
        names = np.array([*people, *[own_people[n] for n in clean], *[person] * len(mine)])
        questions = asked[[n for n, name in enumerate(asked_people) if name == person]]
        nearest = names[distances(questions, gallery, "cosine").argmin(1)]
        result.append(float((nearest != person).mean()))
    return result


def _of(people: Sequence[str], person: str) -> list[int]:
    return [n for n, name in enumerate(people) if name == person][:KNOWN]


def print_modes(out: Path, folders: dict[str, Path], unseen: Sequence[str]) -> None:
    """Print medians for each attack and mode, and each folder of photos."""
    stems = [Path(name).stem for name in unseen]
    measured = ["moved", *[f"moved, {stem}" for stem in stems], "SSIM", "PSNR dB", "perceptual"]
    print("| attack | mode | photos | n | " + " | ".join(measured) + " |\n|---|---|---|---|" + "---|" * len(measured))
    for attack, setting in SETTINGS.items():
        for kind, photos in folders.items():
            for mode in MODES:
                records = cloak(out, Row(attack, mode, (DLIB,), setting=setting), unseen, photos)
                values = [
                    [r["moved"], *[r["unseen"][stem] for stem in stems], r["ssim"], r["psnr"], r["perceptual_distance"]]
                    for r in records
                ]
                cells = [f"{v:.{1 if title == 'PSNR dB' else 3}f}"
                         for title, v in zip(measured, np.median(values, axis=0), strict=True)]  # fmt: skip
                print("| " + " | ".join([attack, mode, kind, str(len(records)), *cells]) + " |")


def main(lfw: Path, out: Path, second: str | None, unseen: list[str], photos: Path | None = None) -> None:
    """Make what is missing and print the tables."""
    out.mkdir(parents=True, exist_ok=True)
    chosen, stems = lay_out(lfw, out), [Path(name).stem for name in unseen]
    if photos is not None:
        print_modes(out, lay_out_sizes(photos, out, chosen), unseen)
        return
    done = [(row, cloak(out, row, unseen)) for row in rows(second)]
    print("| attack | mode | made against | photos | n | moved, white-box | "
          + " | ".join(f"moved, {stem}" for stem in stems) + " | SSIM | PSNR dB | s a photo |")  # fmt: skip
    print("|---|---|---|---|---|---|" + "---|" * (len(stems) + 3))
    for row, records in done:
        cells = [
            row.attack + (" --views" if row.views else ""),
            row.mode or "",
            " + ".join(Path(name).stem for name in row.ensemble),
        ]
        cells += ["crops" if row.crops else "full", str(len(records)), interval(by_person(records, "moved"))]
        cells += [interval(by_person(records, "unseen", stem)) for stem in stems]
        cells += [f"{np.mean([r['ssim'] for r in records]):.3f}", f"{np.mean([r['psnr'] for r in records]):.1f}"]
        cells.append(f"{seconds_of(out, row, chosen[0]):.1f}")
        print("| " + " | ".join(cells) + " |")
    print("\n| cloak | saved as | " + " | ".join(f"moved, {stem}" for stem in stems) + " |")
    print("|---|---|" + "---|" * len(stems))
    ways = ("none", "jpeg:75", "resize:0.5")
    for row in (row for row, _ in done if row.attack == "lowkey" and len(row.ensemble) == 2 and not row.crops):
        words: list[str | Path] = ["compare", out / f"photos{PHOTOS}", out / "cloaks" / row.name, "--faces", "largest"]
        words += [word for name in unseen for word in ("--extractor", name)]
        words += [word for way in ways for word in ("--preprocess", way)]
        records = [r for r in run(words, out / f"{row.name}.compare.jsonl") if r.get("moved") is not None]
        for way in ways:
            part = [record for record in records if record["preprocess"] == way]
            cells = [row.name, way, *[interval(by_person(part, "distances", stem)) for stem in stems]]
            print("| " + " | ".join(cells) + " |")
    print("\n| cloak | " + " | ".join(f"protection, {stem}" for stem in stems) + " |")
    print("|---|" + "---|" * len(stems))
    for kind in (None, *[row for row, _ in done if row.photos == PHOTOS and not row.crops]):
        cells = [kind.name if kind else "none", *[interval(protection(out, kind, name, chosen)) for name in unseen]]
        print("| " + " | ".join(cells) + " |")


def _named(words: list[str], option: str) -> str | None:
    """Take an option and its value out of the words; None where it is not among them."""
    if option not in words:
        return None
    place = words.index(option)
    value = words[place + 1]
    del words[place : place + 2]
    return value


if __name__ == "__main__":
    given = sys.argv[3:]
    joined, sizes = _named(given, "--second"), _named(given, "--modes")
    main(Path(sys.argv[1]), Path(sys.argv[2]), joined, given, Path(sizes) if sizes else None)
