"""Records of ``facetools evaluate``, made by evaluating small galleries, for tests of reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from _toolio.streams.records import dump_record
from embedding_files import write
from facetools.evaluation.cloaks import match_cloaks
from facetools.evaluation.config import ProtocolConfig
from facetools.evaluation.experiment import Evaluation
from facetools.evaluation.gallery import name_people
from facetools.evaluation.gallery_sources import read_gallery
from facetools.evaluation.summary import summarise

EVIL = "<script>document.title='harm'</script><img src=x onerror=\"document.title='harm'\">| `a` \x1b[31m\n& ${x}"
"""Who would do harm to a page, a table, a terminal or a chart that took their name for markup."""

PEOPLE = ("anna", "bo", "cleo", EVIL)
EACH, WIDTH = 6, 8


def evaluated(
    folder: Path,
    *,
    cloaks: dict[str, float] | None = None,
    classifiers: Sequence[str] = ("nn", "linear"),
    people: Sequence[str] = PEOPLE,
    extractor: str = "net",
    **more: Any,
) -> list[dict[str, Any]]:
    """Evaluate cloaks as the command does; ``more`` goes into each record.

    A cloak's number is how far it moves people on the way to the next: 1 is all of it, for the last of them.
    """
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    names = tuple(f"{person}/{number}.jpg" for person in range(len(people)) for number in range(EACH))
    labels = {name: people[int(name.partition("/")[0])] for name in names}
    centres = 2 * rng.normal(size=(len(people), WIDTH))
    around = rng.normal(size=(len(names), WIDTH))
    rows = (np.repeat(centres, EACH, 0) + around).astype(np.float32)
    shares = np.linspace(0.3, 1.0, len(people))[:, None]
    way = np.repeat(shares * (np.roll(centres, -1, 0) - centres), EACH, 0)
    clean = read_gallery(str(write(folder, "clean", names=names, rows=rows)))
    records = []
    for cloak, far in (cloaks or {"out/lowkey": 1.7, "out/fawkes": 0.1}).items():
        moved = (rows + far * way).astype(np.float32)
        copies = read_gallery(str(write(folder, "cloaked", names=names, rows=moved)))
        matched = [match_cloaks(cloak, clean, copies)]
        protocol = ProtocolConfig(seed=1, split=0.3)  # four tests a person: more make an interval, and shares are exact
        evaluation = Evaluation([clean], [[copies]], matched, name_people(clean, labels), protocol)
        for classifier in classifiers:
            about = {"classifier": classifier, "extractor": extractor, "preprocess": "none", "cloak": cloak}
            done = list(evaluation.run(classifier, evaluation.protected))
            assert all(isinstance(fields, dict) for _, fields in done)
            singles = [dict(fields) for _, fields in done if isinstance(fields, dict)]
            for person, fields in zip([name for name, _ in done], singles, strict=True):
                records.append(_record({"person": person, **about, **fields, "seed": 1, **more}))
            records.append(_record({"person": None, **about, **summarise(singles), "seed": 1, **more}))
    return records


def _record(fields: dict[str, Any]) -> dict[str, Any]:
    return {"protection": fields["protection"], "schema": "facetools.evaluate/1", **fields}


def failures() -> list[dict[str, Any]]:
    """Records without a number, as ``facetools evaluate`` writes them."""
    schema = "facetools.evaluate/1"
    gone = {"kind": "no-cloak", "message": "dora: no photo to train on has a cloaked copy; cloak more photos"}
    return [
        {"protection": None, "schema": schema, "person": "dora", "error": gone},
        {"protection": None, "schema": schema, "path": "in/x.jpg", "reason": "no face found: not used"},
    ]


def trained(epochs: int = 4) -> list[dict[str, Any]]:
    """Records of a training; the loss on clean photos is not known of every epoch."""
    return [
        {
            "protection": 0.9 * 0.5**epoch,
            "schema": "facetools.train-robust/1",
            "epoch": epoch,
            "loss": 4 / epoch,
            "clean_accuracy": 1 - 0.2 / epoch,
            **({"clean_loss": 3 / epoch} if epoch % 2 else {}),
        }
        for epoch in range(1, epochs + 1)
    ]


def lines_of(records: Sequence[dict[str, Any]]) -> bytes:
    """Write records as a command writes them."""
    return b"".join(map(dump_record, records))


def save(path: Path, records: Sequence[dict[str, Any]]) -> str:
    """Write a file of records; give its name."""
    path.write_bytes(lines_of(records))
    return str(path)
