"""The page of a report: static HTML that needs no script and no network, readable on a phone and in the dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from _toolio.words import many, printable
from facetools.reporting.drawing import Picture
from facetools.reporting.examples import Example
from facetools.reporting.results import Findings, LeftOut, Result, Source, Training, share_of
from facetools.reporting.tables import KEY_TITLES, Table, interval, people_table, percent, summary_table, training_table

MARK = "facetools.report/1"
"""The generator named in the page's head."""

CSS = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --faint: #595959; --line: #d0d0d0; --soft: #f3f4f6;
  --link: #0b57d0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181c; --faint: #a8adb5; --line: #3a3f47;
  --soft: #22262c; --link: #8ab4f8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.25rem 0 .5rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p, ul { max-width: 46rem; margin: .6rem 0; }
ul { padding-left: 1.25rem; }
a { color: var(--link); }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .4rem; margin: .6rem 0; }
.scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: collapse; font-size: .875rem; width: 100%; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
th, td { padding: .35rem .6rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
th { background: var(--soft); vertical-align: bottom; white-space: normal; line-height: 1.25; }
th.n, td.n { text-align: right; }
th.n { min-width: 5.5rem; }
details { border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .75rem; margin: .6rem 0; }
summary { cursor: pointer; }
details:has(:target) { border-color: var(--link); }
:target { scroll-margin-top: 5rem; }
pre { white-space: pre-wrap; background: var(--soft); padding: .6rem; border-radius: .4rem; font-size: .8125rem;
  margin: .5rem 0; }
figure { margin: 1rem 0; }
figcaption { color: var(--faint); font-size: .8125rem; margin-top: .25rem; }
img { display: block; max-width: 100%; height: auto; }
.chart { max-width: 32rem; }
.chart img { background: #fff; padding: .25rem; border: 1px solid var(--line); border-radius: .4rem; }
.three { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .5rem; max-width: 46rem; }
.three figure { margin: .25rem 0; }
footer { color: var(--faint); font-size: .8125rem; margin-top: 3rem; border-top: 1px solid var(--line); }
@media print { details { break-inside: avoid; } }
""".strip()

# No script runs even if an escape were missing; pictures and styles are left to the browser, as files have no origin.
POLICY = "; ".join(
    f"{what} 'none'"
    for what in ("script-src", "object-src", "frame-src", "connect-src", "font-src", "media-src", "base-uri",
                 "form-action")
)  # fmt: skip


@dataclass(slots=True)
class Content:
    """The content of a page."""

    title: str
    version: str
    findings: Findings
    charts: Sequence[Picture] = ()
    training_charts: Sequence[Picture] = ()
    examples: list[Example] = field(default_factory=list)
    unusable: list[LeftOut] = field(default_factory=list)


def show(text: str) -> str:
    """Escape text for an element or a quoted attribute; control characters become visible."""
    return escape(printable(text))


def page(content: Content) -> str:
    """Write the page."""
    findings = content.findings
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="generator" content="{MARK}">\n<meta name="referrer" content="no-referrer">\n'
        # An icon of nothing: a browser requests none.
        '<link rel="icon" href="data:,">\n'
        f"<title>{show(content.title)}</title>\n<style>\n{CSS}\n</style>\n</head>\n<body>\n<main>\n"
    )
    blocks = [f"<h1>{show(content.title)}</h1>", *_summary(findings)]
    if findings.results:
        blocks += [
            "<h2>Results</h2>",
            _terms(findings.results),
            html_table(summary_table(findings.results), linked=True),
        ]
        blocks += [html_chart(chart) for chart in content.charts]
        blocks += ["<h2>Each result</h2>", _about_commands(findings.results)]
        blocks += [_result(number, result) for number, result in enumerate(findings.results, 1)]
    if findings.trainings:
        blocks.append("<h2>Trainings</h2>")
        for number, training in enumerate(findings.trainings, 1):
            blocks += _training(number, training, content.training_charts[number - 1])
    blocks += _examples(content.examples)
    blocks += _left_out([*findings.left_out, *content.unusable])
    blocks += ["</main>", _footer(content.version, findings.sources), "</body>\n</html>\n"]
    return head + "\n".join(blocks)


def html_table(table: Table, *, linked: bool = False) -> str:
    """Write a table in a box that scrolls where it is too wide.

    Parameters
    ----------
    table
        The table.
    linked
        The first column is the number of a result, linked to its details.
    """
    kinds = [' class="n"' if column.is_number else "" for column in table.columns]
    heads = "".join(
        f'<th scope="col"{kind}>{show(column.title)}</th>' for kind, column in zip(kinds, table.columns, strict=True)
    )
    lines = []
    for row in table.shown():
        cells = [show(cell) for cell in row]
        if linked:
            cells[0] = f'<a href="#result-{cells[0]}">{cells[0]}</a>'
        lines.append("".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, cells, strict=True)))
    rows = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{show(table.title)}">\n<table>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
    )


def html_picture(picture: Picture) -> str:
    """Write a picture with its alternative text."""
    width, height = picture.size
    return f'<img src="{show(picture.name)}" width="{width}" height="{height}" alt="{show(picture.alt)}">'


def html_chart(picture: Picture) -> str:
    """Write a chart and its caption."""
    return f'<figure class="chart">{html_picture(picture)}<figcaption>{show(picture.caption)}</figcaption></figure>'


def _command(command: str | None) -> str:
    if command is None:
        return ""
    lines = "\n".join(show(line) for line in command.split("\n"))
    return f"<pre>{lines}</pre>"


def _summary(findings: Findings) -> list[str]:
    """Summarise the findings in sentences."""
    blocks = []
    if findings.results:
        blocks += _origins(findings.results)
        blocks += ["<p>" + _scope(findings.results) + "</p>", "<ul>", *_extremes(findings.results), "</ul>"]
    for number, training in enumerate(findings.trainings, 1):
        blocks.append(f"<p>{_course(number, training)}</p>")
    missing = len(findings.left_out)
    if missing:
        blocks.append(f'<p><a href="#left-out">{many(missing, "record")} without a number</a> left out.</p>')
    return blocks


def _origins(results: Sequence[Result]) -> list[str]:
    """Say first which figures are of a recogniser that the cloaks were made against, and which may be."""
    lines = []
    for white_box, text in (
        (True, "The cloaks of {} were made against the very recogniser that is measured: another one may see through "
               "them, and these figures say nothing about it."),
        (None, "What the cloaks of {} were made against is not known; were it the recogniser that is measured, another "
               "one may see through them."),
    ):  # fmt: skip
        numbers = [n for n, each in enumerate(results, 1) if each.summary.get("white_box") is white_box]
        if numbers:
            which = "every result here" if len(numbers) == len(results) else _which(numbers)
            lines.append(f"<p><strong>{text.format(which)}</strong></p>")
    return lines


def _which(numbers: Sequence[int]) -> str:
    linked = [f'<a href="#result-{number}">{number}</a>' for number in numbers]
    return f"result{'' if len(linked) == 1 else 's'} {', '.join(linked)}"


def _scope(results: Sequence[Result]) -> str:
    counts = [
        many(len({result.about[key] for result in results if key in result.about}), name)
        for key, name in (("cloak", "cloak"), ("extractor", "extractor"), ("classifier", "classifier"))
    ]
    people = [int(result.summary["people"]) for result in results if result.summary.get("people")]
    least, most = min(people, default=0), max(people, default=0)
    each = f"{many(most, 'person')}" if least == most else f"{least:,} to {most:,} people"
    each = each.replace("persons", "people")
    tried = f"{many(len(results), 'result')}: {counts[0]}, {counts[1]}, {counts[2]}"
    return (
        f"{tried}; {each} protected in each, one at a time. Protection is the share of a person's clean photos that "
        "a recogniser names wrongly after it was trained on their cloaked ones."
    )


def _extremes(results: Sequence[Result]) -> list[str]:
    """List the strongest and the weakest result, the range of floors, and how many results exceed their floor."""
    ranked = sorted(enumerate(results, 1), key=lambda pair: float(pair[1].summary["protection"]))
    lines = [f"<li>Most protection: {_stated(*ranked[-1])}</li>"]
    if len(ranked) > 1:
        lines.append(f"<li>Least protection: {_stated(*ranked[0])}</li>")
    floors = [float(result.summary["floor"]) for result in results]
    low, high = percent(min(floors)), percent(max(floors))
    span = low if low == high else f"{low} to {high}"
    lines.append(f"<li>With nothing cloaked, {span} of the same photos are named wrongly: the floor.</li>")
    known = [one for each in results if (one := each.summary).get("interval") and one.get("floor_interval")]
    if known:
        above = sum(each["interval"][0] > each["floor_interval"][1] for each in known)
        lines.append(
            f"<li>In {above} of {many(len(known), 'result')} the 95% interval of the protection lies above that of "
            "the floor.</li>"
        )
    return lines


def _stated(number: int, result: Result) -> str:
    one = result.summary
    ends = f" (95% interval {interval(one['interval'])})" if one.get("interval") else ""
    ends += f" ({show(one['caution'])})" if isinstance(one.get("caution"), str) else ""
    return (
        f"{percent(one['protection'])}{ends}, floor {percent(one['floor'])}: "
        f'<a href="#result-{number}">result {number}</a>, {_named(result)}.'
    )


def _named(result: Result) -> str:
    """Name a result by all its settings."""
    known = {key: value for key, value in result.about.items() if (key, value) != ("preprocess", "none")}
    stated = [f"{KEY_TITLES.get(key, key)} {value}" for key, value in known.items() if key != "seed"]
    return show(", ".join(stated))


def _course(number: int, training: Training) -> str:
    stated = [f"{many(len(training.epochs), 'epoch')}"]
    for key, name in (("protection", "protection"), ("clean_accuracy", "accuracy on clean photos")):
        values = [value for each in training.epochs if (value := share_of(each, key)) is not None]
        if values:
            stated.append(f"{name} from {percent(values[0])} to {percent(values[-1])}")
    return f'<a href="#training-{number}">Training {number}</a>: {", ".join(stated)}.'


def _terms(results: Sequence[Result]) -> str:
    has_intervals = any(result.summary.get("interval") for result in results)
    intervals = "Intervals are 95% bootstrap intervals over people. " if has_intervals else ""
    return (
        f"<p>{intervals}White box: the cloaks were made against the very "
        "recogniser that is measured. The floor is the protection with nothing cloaked, on "
        "the same photos. Rank-5: the right person is among the five nearest. TAR: share of a person's pairs of photos "
        "that are accepted as one person's, where that share of other people's pairs (FAR) is; clean TAR: with nothing "
        "cloaked. The same tables are in "
        '<a href="tables.csv">tables.csv</a> and <a href="tables.md">tables.md</a>.</p>'
    )


def _about_commands(results: Sequence[Result]) -> str:
    if any(result.command for result in results):
        return "<p>The command that a result can be made again with stands at its head.</p>"
    return "<p>The records do not tell which command made them.</p>"


def _result(number: int, result: Result) -> str:
    blocks = [_command(result.command)]
    if result.counted:
        blocks.append("<p>The file has no record of all people; the numbers are of those that it has.</p>")
    elif result.people and len(result.people) != result.summary.get("people", len(result.people)):
        blocks.append(f"<p>The file has the records of {len(result.people)} of them.</p>")
    if result.people:
        blocks += ["<p>Least protected first.</p>", html_table(people_table(number, result))]
    else:
        blocks.append("<p>The file has no records of single people.</p>")
    head = f"{number}. {_named(result)}: {percent(result.summary['protection'])}"
    inside = "\n".join(block for block in blocks if block)
    # The mark is inside: a browser opens what it is led into.
    return f'<details><summary>{head}</summary>\n<div id="result-{number}">\n{inside}\n</div>\n</details>'


def _training(number: int, training: Training, chart: Picture) -> list[str]:
    return [
        f'<h3 id="training-{number}">Training {number}: {show(training.source)}</h3>',
        _command(training.command),
        html_chart(chart),
        f"<details><summary>{many(len(training.epochs), 'epoch')}</summary>",
        html_table(training_table(number, training)),
        "</details>",
    ]


def _examples(examples: Sequence[Example]) -> list[str]:
    if not examples:
        return []
    blocks = ["<h2>Example photos</h2>", "<p>Mid grey in a difference is no change. Photos are drawn small.</p>"]
    for example in examples:
        blocks.append(f"<h3>{show(example.title)}</h3>")
        for _, pictures in example.rows:
            figures = "".join(
                f"<figure>{html_picture(each)}<figcaption>{show(each.caption)}</figcaption></figure>"
                for each in pictures
            )
            blocks.append(f'<div class="three">{figures}</div>')
    return blocks


def _left_out(left_out: Sequence[LeftOut]) -> list[str]:
    if not left_out:
        return []
    lines = [
        f"<li>{show(each.message)}{f' ({show(each.what)})' if each.what and each.what not in each.message else ''}</li>"
        for each in left_out
    ]
    head = f"<summary>{many(len(left_out), 'input')} without a number or picture</summary>"
    return ['<h2 id="left-out">Left out</h2>', f"<details>{head}\n<ul>", *lines, "</ul></details>"]


def _footer(version: str, sources: Sequence[Source]) -> str:
    lines = [f"<li>{show(each.name)}: {many(each.records, 'record')}, sha256 {each.sha256}</li>" for each in sources]
    made = f"<p>Made by facetools report, version {show(version)}, from:</p>"
    return "\n".join([f"<footer>{made}<ul>", *lines, "</ul></footer>"])
