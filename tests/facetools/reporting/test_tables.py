"""Tables, and what CSV and Markdown make of them: the records' numbers, and no harm from names."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from facetools.reporting.results import KEYS, Findings, read_findings
from facetools.reporting.tables import markdown, people_table, summary_table, tidy_csv, training_table
from report_records import EVIL, PEOPLE, evaluated, failures, save, trained


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    top = tmp_path_factory.mktemp("tables")
    records = [*evaluated(top / "e", command="facetools evaluate --seed 1"), *failures()]
    return read_findings([save(top / "r.jsonl", records), save(top / "t.jsonl", trained())])


def test_the_summary_has_every_number_of_the_records(findings: Findings) -> None:
    table = summary_table(findings.results)
    titles = [column.title for column in table.columns]
    assert titles[:5] == ["no.", "cloak", "extractor", "classifier", "preprocess"]
    assert "attack" not in titles, "no record has one"
    assert "file" not in titles, "there is one"
    assert "TAR at FAR 0.001" not in titles, "so few pairs give no limit"
    for result, cells in zip(findings.results, table.shown(), strict=True):
        row, one = dict(zip(titles, cells, strict=True)), result.summary
        assert row["cloak"] == result.about["cloak"]
        assert row["protection"] == f"{100 * one['protection']:.1f}%"
        assert row["95% interval"] == " to ".join(f"{100 * end:.1f}" for end in one["interval"])
        assert row["floor"] == f"{100 * one['floor']:.1f}%"
        assert row["floor's 95% interval"] == " to ".join(f"{100 * end:.1f}" for end in one["floor_interval"])
        assert row["others named rightly"] == f"{100 * one['others_accuracy']:.1f}%"
        assert row["rank-5"] == f"{100 * one['rank5']:.1f}%"
        assert (row["n people"], row["n photos"]) == (str(len(PEOPLE)), str(one["test_photos"]))


def test_rates_and_files_are_shown_where_there_are_any(tmp_path: Path) -> None:
    records = evaluated(tmp_path / "e", classifiers=("nn",))
    for record in records:
        record["tar"], record["tar_clean"] = {"0.0001": None, "0.001": 0.25}, {"0.0001": None, "0.001": 0.75}
    one, two = (save(tmp_path / f"{name}.jsonl", records) for name in "ab")
    table = summary_table(read_findings([one, two]).results)
    rows = [dict(zip([column.title for column in table.columns], cells, strict=True)) for cells in table.shown()]
    assert [row["file"] for row in rows] == [one, one, two, two]
    assert {row["TAR at FAR 0.001"] for row in rows} == {"25.0%"}
    assert {row["clean TAR at FAR 0.001"] for row in rows} == {"75.0%"}
    assert not any("0.0001" in title for title in rows[0])


def test_people_and_epochs(findings: Findings) -> None:
    people = list(people_table(1, findings.results[0]).shown())
    assert len(people) == len(PEOPLE)
    shares = [float(row[1].rstrip("%")) for row in people]
    assert shares == sorted(shares)
    epochs = list(training_table(1, findings.trainings[0]).shown())
    assert epochs[0] == ["1", "45.0%", "80.0%", "4", "3"]
    assert epochs[1] == ["2", "22.5%", "90.0%", "2", ""]


def test_csv_holds_every_number_as_it_is(findings: Findings) -> None:
    rows = list(csv.DictReader(io.StringIO(tidy_csv(findings))))
    assert [row["table"] for row in rows].count("result") == len(findings.results)
    assert [row["table"] for row in rows].count("person") == len(findings.results) * len(PEOPLE)
    assert [row["table"] for row in rows].count("training") == 4
    for number, result in enumerate(findings.results, 1):
        mine = [row for row in rows if row["number"] == str(number) and row["table"] != "training"]
        assert float(mine[0]["protection"]) == pytest.approx(result.summary["protection"], abs=1e-6)
        ends = [float(mine[0][f"protection_{end}"]) for end in ("low", "high")]
        assert ends == pytest.approx(result.summary["interval"], abs=1e-6)
        assert mine[0]["command"] == "facetools evaluate --seed 1"
        assert {key: mine[0][key] for key in KEYS if mine[0][key]} == result.about
        for row, record in zip(mine[1:], result.people, strict=True):
            assert float(row["protection"]) == pytest.approx(record["protection"], abs=1e-6)
            assert row["test_photos"] == str(record["test_photos"])


def test_a_spreadsheet_takes_no_name_for_a_formula(tmp_path: Path) -> None:
    names = ("=1+1", "@x", "+a", "-b")
    records = evaluated(tmp_path / "e", classifiers=("nn",), people=names, cloaks={"-": 1.0})
    rows = list(csv.DictReader(io.StringIO(tidy_csv(read_findings([save(tmp_path / "r.jsonl", records)])))))
    assert {row["person"] for row in rows if row["table"] == "person"} == {f"'{name}" for name in names}
    assert rows[0]["cloak"] == "-", "stdin's name is no formula"


def test_markdown_has_a_table_each_and_names_are_only_names(findings: Findings) -> None:
    text = markdown(findings, "A <b>title</b>")
    assert text.startswith("# A \\<b\\>title\\</b\\>\n")
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert headings == ["Results", *(f"People of result {n}" for n in range(1, 5)), "Training 1", "Left out"]
    for block in text.split("\n## ")[1:]:
        lines = [line for line in block.splitlines() if line.startswith("|")]
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(cells) == 1, "each line of a table has as many cells"
    assert "<script" not in text.replace("\\<", "")
    assert "\x1b" not in text
    assert EVIL.partition("\x1b")[0].replace("\\", "")[:4].strip("<") in text


def test_a_row_says_what_the_page_says_first(tmp_path: Path) -> None:
    records = evaluated(tmp_path / "e", classifiers=("nn",), cloaks={"a": 1.0, "b": 1.0})
    for record in records:
        known = {"made_against": {"net": "0" * 64}, "white_box": True, "caution": "too few for an interval: 1 of 3"}
        record |= known if record["cloak"] == "a" else {"made_against": None, "white_box": None}
    findings = read_findings([save(tmp_path / "r.jsonl", records)])
    head, _, *rows = [line for line in markdown(findings, "t").splitlines() if line.startswith("|")][:4]
    assert "made against | white box" in head
    assert "| net | yes | " in rows[0]
    assert "| too few for an interval: 1 of 3 |" in rows[0]
    assert "| not known | not known | " in rows[1]
    told = [(row["made_against"], row["white_box"]) for row in csv.DictReader(io.StringIO(tidy_csv(findings)))]
    assert told == [("net", "yes")] * (1 + len(PEOPLE)) + [("not known", "not known")] * (1 + len(PEOPLE))
