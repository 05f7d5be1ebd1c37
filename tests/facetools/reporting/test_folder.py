"""The folder of a report, from Python."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pytest

from _toolio.errors import UsageError
from facetools.reporting.folder import Report, refuse_folder
from facetools.reporting.results import read_findings
from report_records import evaluated, save, trained


@pytest.fixture
def report(tmp_path: Path) -> Report:
    inputs = [save(tmp_path / "r.jsonl", evaluated(tmp_path / "e")), save(tmp_path / "t.jsonl", trained())]
    return Report(read_findings(inputs), "Title")


def test_every_file_is_described_and_whole(report: Report, tmp_path: Path) -> None:
    described = list(report.write(tmp_path / "out"))
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {each["relative"] for each in described if isinstance(each, dict)} == files
    assert {"index.html", "tables.csv", "tables.md", "charts/protection-1.png", "charts/training-1.png"} <= files
    for each in described:
        assert isinstance(each, dict)
        data = Path(each["path"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (each["bytes"], each["sha256"])
    with (tmp_path / "out" / "tables.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["table"] for row in rows} == {"result", "person", "training"}
    assert "Title" in (tmp_path / "out" / "index.html").read_text()


def test_an_older_report_is_replaced_only_with_force_and_other_folders_never(report: Report, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refuse_folder(out, force=False)
    list(report.write(out))
    with pytest.raises(UsageError, match=r"^out .*: is not empty; use force to replace the report in it"):
        refuse_folder(out, force=False)
    refuse_folder(out, force=True)
    (out / "mine.txt").write_text("keep me")
    with pytest.raises(UsageError, match=r"mine\.txt is not of a report, and force replaces nothing else"):
        refuse_folder(out, force=True)
    with pytest.raises(UsageError, match="is no folder; name one that is new or empty"):
        refuse_folder(out / "mine.txt", force=True)
