"""The page: every number in it, nothing from elsewhere, and no name that is more than a name."""

from __future__ import annotations

from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path

import pytest

from facetools.reporting.drawing import result_charts, training_chart
from facetools.reporting.page import Content, page
from facetools.reporting.results import Findings, read_findings
from report_records import EVIL, PEOPLE, evaluated, failures, save, trained


class Outline(HTMLParser):
    """What a browser would make of a page: its elements, their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.open = "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "elements close in order"

    def handle_data(self, data: str) -> None:
        self.text += data


def content_of(findings: Findings, title: str = "Title") -> Content:
    charts = list(result_charts(findings.results))
    return Content(title, "1", findings, charts, [training_chart(n, t) for n, t in enumerate(findings.trainings, 1)])


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    top = tmp_path_factory.mktemp("page")
    records = [*evaluated(top / "e", command=f"facetools evaluate \\\n  --protected '{EVIL}'"), *failures()]
    for record in records:
        record["cloak"] = f"{record.get('cloak')}{EVIL}"
    return read_findings([save(top / "r.jsonl", records), save(top / "t.jsonl", trained())])


def test_names_stay_names_wherever_they_stand(findings: Findings) -> None:
    outline = Outline(page(content_of(findings, title=EVIL)))
    assert outline.open == []
    tags = [tag for tag, _ in outline.elements]
    assert "script" not in tags
    assert all(set(attributes) & {"onerror", "onload", "style"} == set() for _, attributes in outline.elements)
    assert {attributes["src"] for tag, attributes in outline.elements if tag == "img"} == {
        "charts/protection-1.png",
        "charts/training-1.png",
    }
    # Not lost either: title, heading, every result's people, and the cloak in tables and headings.
    shown = EVIL.partition("\x1b")[0]
    assert outline.text.count(shown) > 2 + len(findings.results)
    assert "\x1b" not in outline.text


def test_nothing_comes_from_elsewhere_and_every_picture_has_a_text(findings: Findings) -> None:
    text = page(content_of(findings))
    outline = Outline(text)
    for tag, attributes in outline.elements:
        for key in ("src", "href", "action", "srcset", "data"):
            assert not (attributes.get(key) or "").startswith(("http", "//")), attributes
        if tag == "img":
            assert len(attributes["alt"] or "") > 10
            assert int(attributes["width"] or 0) > 100
    assert "url(" not in text
    assert "@import" not in text
    ids = {attributes["id"] for _, attributes in outline.elements if "id" in attributes}
    links = {attributes["href"] for tag, attributes in outline.elements if tag == "a"}
    assert {link.removeprefix("#") for link in links if link and link.startswith("#")} <= ids


def test_the_summary_tells_the_extremes_in_words(findings: Findings) -> None:
    text = Outline(page(content_of(findings))).text
    assert "4 results: 2 cloaks, 1 extractor, 2 classifiers; 4 people protected in each" in text
    most = max(result.summary["protection"] for result in findings.results)
    assert f"Most protection: {100 * most:.1f}% (95% interval " in text
    assert "Least protection: 0.0%" in text
    above = sum(r.summary["interval"][0] > r.summary["floor_interval"][1] for r in findings.results)
    assert f"In {above} of 4 results the 95% interval" in text
    assert "Training 1: 4 epochs, protection from 45.0% to 5.6%" in text
    assert "2 records without a number left out" in text
    assert "dora: no photo to train on has a cloaked copy" in text


def test_it_is_said_first_what_cloaks_were_made_against(findings: Findings) -> None:
    plain = Outline(page(content_of(findings))).text
    assert "What the cloaks of every result here were made against is not known" in plain
    for number, white_box in enumerate((True, False, True, None)):
        findings.results[number].summary |= {"white_box": white_box, "caution": "2 people: too few for an interval"}
    text = Outline(page(content_of(findings))).text
    assert "Intervals are 95% bootstrap intervals" in text
    told = text.index("The cloaks of results 1, 3 were made against the very recogniser that is measured")
    assert told < text.index("4 results: ")
    assert "What the cloaks of result 4 were made against is not known" in text
    assert text.count("(2 people: too few for an interval)") == 2


def test_intervals_are_explained_only_where_there_are_any(findings: Findings) -> None:
    findings = deepcopy(findings)
    for result in findings.results:
        result.summary |= {"interval": None, "floor_interval": None}
    text = Outline(page(content_of(findings))).text
    assert "95% interval" not in text


def test_commands_are_shown_where_records_tell_them_and_never_made_up(findings: Findings, tmp_path: Path) -> None:
    text = Outline(page(content_of(findings))).text
    assert text.count("facetools evaluate \\\n  --protected") == len(findings.results)
    silent = read_findings([save(tmp_path / "r.jsonl", evaluated(tmp_path / "e"))])
    text = Outline(page(content_of(silent))).text
    assert "facetools evaluate" not in text
    assert "The records do not tell which command made them" in text


def test_people_who_are_missing_are_spoken_of(tmp_path: Path) -> None:
    records = evaluated(tmp_path / "e", classifiers=("nn",))
    fewer = read_findings([save(tmp_path / "r.jsonl", [r for r in records if r["person"] != PEOPLE[0]])])
    assert "The file has the records of 3 of them" in page(content_of(fewer))
    single = read_findings([save(tmp_path / "r.jsonl", [r for r in records if r["person"] is not None])])
    assert "The file has no record of all people" in page(content_of(single))


def test_one_result_has_no_least(tmp_path: Path) -> None:
    records = evaluated(tmp_path / "e", classifiers=("nn",), cloaks={"one": 1.0})
    text = Outline(page(content_of(read_findings([save(tmp_path / "r.jsonl", records)])))).text
    assert "Most protection" in text
    assert "Least protection" not in text
    assert "1 result: 1 cloak, 1 extractor, 1 classifier" in text


def test_results_that_charts_could_confuse_stay_apart(tmp_path: Path) -> None:
    records = evaluated(tmp_path / "e", classifiers=("nn",), cloaks={"x/same": 0.1, "y/same": 1.7})
    both = [save(tmp_path / f"{name}.jsonl", records) for name in ("one", "two")]
    other = [{**record, "extractor": "other"} for record in records]
    findings = read_findings([*both, save(tmp_path / "three.jsonl", other)])
    charts = list(result_charts(findings.results))
    assert [chart.name for chart in charts] == ["charts/protection-1.png", "charts/protection-2.png"]
    for word in ("x/same", "y/same", "nn, two.jsonl"):
        assert word in charts[0].alt
    assert charts[0].alt.count("%") == 4 + 1, "four bars, and the 95%"
