"""From records to results: grouping, order, what is refused and how it is said."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from _toolio.errors import ToolError, UsageError
from facetools.names import short_names
from facetools.reporting.results import Findings, read_findings
from report_records import PEOPLE, evaluated, failures, lines_of, save, trained

Read = Callable[[bytes], Findings]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def call(data: bytes) -> Findings:
        (tmp_path / "r.jsonl").write_bytes(data)
        return read_findings([str(tmp_path / "r.jsonl")])

    return call


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    return lambda data: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_each_combination_is_a_result_with_its_people_least_protected_first(read: Read, tmp_path: Path) -> None:
    records = evaluated(tmp_path / "e", command="facetools evaluate ...")
    findings = read(lines_of([*records, *failures()]))
    assert len(findings.results) == 4
    assert len(findings.left_out) == 2
    for result in findings.results:
        about = {"cloak", "extractor", "classifier", "preprocess", "seed"}
        assert set(result.about) == about
        mine = [r for r in records if all(str(r[key]) == result.about[key] for key in about)]
        assert result.summary == next(r for r in mine if r["person"] is None)
        assert sorted(r["person"] for r in result.people) == sorted(PEOPLE)
        shares = [r["protection"] for r in result.people]
        assert shares == sorted(shares)
        assert result.command == "facetools evaluate ..."
        assert not result.counted
    # The test is of something only if cloaks differ.
    assert findings.results[0].summary["protection"] > 0.3
    assert findings.results[2].summary["protection"] < 0.2


def test_order_does_not_matter_to_what_is_found(read: Read, tmp_path: Path) -> None:
    records = evaluated(tmp_path / "e")
    mixed = random.Random(0).sample(records, len(records))

    def told(findings: Findings) -> list[Any]:
        return sorted((sorted(r.about.items()), r.summary, r.people) for r in findings.results)

    assert told(read(lines_of(records))) == told(read(lines_of(mixed)))


def test_without_a_record_of_all_people_the_numbers_are_made_as_evaluate_makes_them(read: Read, tmp_path: Path) -> None:
    records = evaluated(tmp_path / "e")
    whole = read(lines_of(records)).results
    made = read(lines_of([record for record in records if record["person"] is not None])).results
    for one, other in zip(whole, made, strict=True):
        assert (one.counted, other.counted) == (False, True)
        given = {key: value for key, value in one.summary.items() if key in other.summary}
        assert other.summary == {**other.summary, **given}
        assert other.summary.keys() >= {
            "protection",
            "interval",
            "floor",
            "floor_interval",
            "people",
            "rank5",
            "tar",
        } - (set() if one.about["classifier"] == "nn" else {"tar"})


def test_stdin_folders_and_archives(tmp_path: Path, stdin: Callable[[bytes], None]) -> None:
    records = evaluated(tmp_path / "e", classifiers=("nn",))
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "b.jsonl", trained())
    save(tmp_path / "in" / "a.jsonl", records)
    (tmp_path / "in" / "notes.txt").write_text("not a record")
    stdin(lines_of(failures()))
    findings = read_findings([str(tmp_path / "in"), "-"])
    assert [Path(source.name).name for source in findings.sources] == ["a.jsonl", "b.jsonl", "stdin"]
    assert [source.records for source in findings.sources] == [10, 4, 2]
    assert (len(findings.results), len(findings.trainings), len(findings.left_out)) == (2, 1, 2)
    stdin(lines_of(records))
    assert len(read_findings(None).results) == 2


def test_training_records_come_in_the_order_of_epochs(read: Read) -> None:
    (training,) = read(lines_of(list(reversed(trained(12))))).trainings
    assert [epoch["epoch"] for epoch in training.epochs] == list(range(1, 13))


def change(record: dict[str, Any], **fields: Any) -> bytes:
    return lines_of([{**record, **fields}])


RESULT = {
    "protection": 0.5, "schema": "facetools.evaluate/1", "person": None, "floor": 0.0, "interval": [0.4, 0.6],
    "people": 2, "tar": {"0.001": None},
}  # fmt: skip
LINE = lines_of([RESULT])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "r.jsonl: no record; give what"),
        (b"\n \n", "r.jsonl: no record; give what"),
        (LINE + b"{broken\n", "r.jsonl, line 2: not a JSON record"),
        (LINE + b"\n\n[1]\n", "r.jsonl, line 4: a record must be a JSON object"),
        (
            LINE + change(RESULT, schema="facetools.detect/1"),
            "line 2: schema 'facetools.detect/1' is nothing to report",
        ),
        (LINE + b'{"protection":0.5}\n', "line 2: no schema is nothing to report"),
        (lines_of(failures()), "all 2 records are of failures (the first: dora: no photo"),
        (change(RESULT, protection=None), "line 1: protection is None, and not a number from 0 to 1"),
        (change(RESULT, protection=1.5), "line 1: protection is 1.5"),
        (change(RESULT, floor="<b>"), "line 1: floor is '<b>'"),
        (LINE.replace(b'"floor":0.0', b'"floor":NaN'), "line 1: floor is nan"),
        (change(RESULT, people=True), "line 1: people is True"),
        (change(RESULT, interval=[0.1]), "line 1: interval is [0.1], and not two numbers"),
        (change(RESULT, interval=[0.1, "x"]), "line 1: interval is 'x'"),
        (change(RESULT, tar=[1]), "line 1: tar is [1], and not rates"),
        (change(RESULT, tar={"0.001": "x"}), "line 1: tar is 'x'"),
        (LINE + LINE, "line 2: a second result of the same cloak"),
        (change(RESULT, person="a"), "line 1: rank1 is None"),
        (lines_of([*trained(2), trained(1)[0]]), "line 3: a second record of this epoch; the first is at"),
        (lines_of([{**trained(1)[0], "loss": "small"}]), "line 1: loss is 'small'"),
        (lines_of([{**trained(1)[0], "epoch": "1"}]), "line 1: epoch is '1'"),
    ],
)
def test_what_cannot_be_reported_is_said_with_file_and_line(read: Read, data: bytes, message: str) -> None:
    with pytest.raises(ToolError) as caught:
        read(data)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_inputs_that_are_not_there(tmp_path: Path, stdin: Callable[[bytes], None]) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.txt").write_text("x")
    with pytest.raises(ToolError, match=r"no \.jsonl file in it"):
        read_findings([str(tmp_path / "none")])
    with pytest.raises(ToolError, match="no such file"):
        read_findings([str(tmp_path / "gone.jsonl")])
    stdin(b"")
    with pytest.raises(ToolError, match="stdin: no record"):
        read_findings(["-"])
    with pytest.raises(UsageError, match="once"):
        read_findings(["-", "-"])


def test_names_are_cut_to_what_tells_them_apart() -> None:
    assert short_names(["out/a/lowkey/", "out/b/fawkes"]) == {"out/a/lowkey/": "lowkey", "out/b/fawkes": "fawkes"}
    assert short_names(["out/a/x", "out/b/x", "y"]) == {"out/a/x": "a/x", "out/b/x": "b/x", "y": "y"}
    assert short_names(["p/a+p/b", "p/a"]) == {"p/a+p/b": "a+b", "p/a": "a"}
    assert short_names(["x", "in/x"])["in/x"] != short_names(["x", "in/x"])["x"]
    assert short_names(["", "/"]) == {"": "", "/": "/"}
