"""The charts of a report."""

from __future__ import annotations

import pytest

from facetools.reporting import drawing
from facetools.reporting.charts import Bar
from facetools.reporting.drawing import label_of, result_charts, training_chart
from facetools.reporting.results import Findings, Result, read_findings
from report_records import evaluated, save, trained


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    top = tmp_path_factory.mktemp("drawing")
    records = [*evaluated(top / "one", extractor="one"), *evaluated(top / "two", extractor="two")]
    return read_findings([save(top / "r.jsonl", records), save(top / "t.jsonl", trained())])


def test_each_extractor_has_a_chart_with_every_result(findings: Findings) -> None:
    charts = list(result_charts(findings.results))
    assert [chart.name for chart in charts] == ["charts/protection-1.png", "charts/protection-2.png"]
    for chart, extractor in zip(charts, ("one", "two"), strict=True):
        assert chart.data.startswith(b"\x89PNG")
        assert f"extractor {extractor}" in chart.caption
        for result in findings.results:
            if result.about["extractor"] == extractor:
                assert f"{100 * result.summary['protection']:.1f}%" in chart.alt
        width, height = chart.size
        assert 200 < width < 3000
        assert 100 < height < 3000


def test_a_caption_names_intervals_only_where_there_are_any() -> None:
    def caption(*intervals: list[float] | None) -> str:
        results = [
            Result("r", {"cloak": str(n)}, {"protection": 0.5, "floor": 0.0, "interval": ends})
            for n, ends in enumerate(intervals)
        ]
        (chart,) = result_charts(results)
        assert ("interval" in chart.alt) == ("interval" in chart.caption)
        return chart.caption.partition("unnamed")[2]

    assert caption([0.4, 0.6]) == ", with 95% intervals over people."
    assert caption(None) == "."
    assert caption(None, [0.4, 0.6]) == ", with 95% intervals over people where there are people and photos enough."


def test_many_bars_go_into_several_charts(findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facetools.reporting.charts.MOST_BARS", 2)
    charts = list(result_charts(findings.results))
    assert len(charts) == 4
    assert "part 2 of 2" in charts[1].caption


def test_results_that_differ_in_their_file_alone_keep_a_bar_each() -> None:
    about = {"cloak": "lowkey", "extractor": "net", "classifier": "nn"}
    results = [Result(f"{n}/r.jsonl", about, {"protection": n / 2, "floor": 0.0, "interval": None}) for n in (0, 1)]
    bars = drawing._bars(results, {"0/r.jsonl": "0", "1/r.jsonl": "1", "lowkey": "lowkey"})
    assert bars == {("lowkey", "nn"): Bar(0.0, None, 0.0), ("lowkey", "nn, 1"): Bar(0.5, None, 0.0)}


def test_labels_are_the_values_of_keys_and_never_markup() -> None:
    result = Result("r", {"cloak": "out/lowkey", "mode": "a\x1b[31m"}, {})
    assert label_of(result, ("cloak", "attack", "mode"), {"out/lowkey": "lowkey"}) == "lowkey, a\\x1b[31m"


def test_a_training_is_told_from_its_first_to_its_last_epoch(findings: Findings) -> None:
    chart = training_chart(3, findings.trainings[0])
    assert chart.name == "charts/training-3.png"
    assert "4 epochs: protection of cloaked photos from 45.0% to 5.6%" in chart.alt
    assert "training loss from 4 to 1" in chart.alt
