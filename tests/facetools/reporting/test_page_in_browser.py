"""The page in a browser: nothing is broken, nothing runs, and a phone shows it without scrolling sideways."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import Run, faceless
from report_records import EVIL, evaluated, failures, save, trained

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome to open the page with")

PHONE_PX = 360

NAME = "<script>alert(1)</script>"

# A headless window is some 500 pixels wide at least; a frame in it can be as narrow as a phone.
WRAPPER = """<!doctype html><meta charset="utf-8"><body>
<iframe style="width:%dpx;height:900px;border:0" src="report/index.html"></iframe>
<pre id="told"></pre>
<script>
addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const closed = root.scrollWidth;
  page.querySelectorAll("details").forEach(each => each.open = true);
  document.getElementById("told").textContent = JSON.stringify({
    width: root.clientWidth, closed, open: root.scrollWidth, title: page.title,
    details: page.querySelectorAll("details").length, text: page.body.innerText,
    tables: [...page.querySelectorAll(".scroll")].map(each => each.scrollWidth > each.clientWidth),
    pictures: [...page.images].map(each => [each.getAttribute("src"), each.naturalWidth, each.alt]),
  });
});
</script>"""


@dataclass(frozen=True)
class Seen:
    """What a browser made of a page, and what it wrote to its console."""

    page: dict[str, Any]
    console: list[str]

    def faults(self) -> list[str]:
        """What is wrong with the page."""
        found = [f"console: {line}" for line in self.console]
        found += [f"picture: {name}" for name, width, _ in self.page["pictures"] if not width]
        found += [f"no text: {name}" for name, _, alt in self.page["pictures"] if not alt]
        found += [f"width: {self.page[key]}" for key in ("closed", "open") if self.page[key] > PHONE_PX]
        return found + (["a script ran"] if self.page["title"] == "harm" else [])


def look(folder: Path) -> Seen:
    """Open ``folder/report`` in a frame as narrow as a phone, without network."""
    wrapper = folder / "wrapper.html"
    wrapper.write_text(WRAPPER % PHONE_PX)
    done = subprocess.run(
        [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--allow-file-access-from-files", "--enable-logging=stderr", "--window-size=800,1000", "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}", "--dump-dom",
            wrapper.as_uri(),
        ],
        capture_output=True, text=True, timeout=1200, check=True,
    )  # fmt: skip
    told = re.search(r'<pre id="told">(.+?)</pre>', done.stdout, re.S)
    assert told, done.stdout + done.stderr
    page = json.loads(html.unescape(told[1]))
    assert page["width"] == PHONE_PX, "the frame is as wide as it was asked to be"
    return Seen(page, [line for line in done.stderr.splitlines() if "CONSOLE" in line])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a report that has everything, with people and files whose names are long or mean harm."""
    from facetools.reporting.examples import check_examples
    from facetools.reporting.folder import Report
    from facetools.reporting.results import read_findings

    top = tmp_path_factory.mktemp("browser")
    long = f"build/{'a_long_name_without_a_place_to_break' * 3}/"
    records = evaluated(top / "e", cloaks={f"{long}lowkey": 1.7, "out/fawkes": 0.1}, command=f"facetools {long * 2}")
    for kind in ("clean", "cloaked"):
        (top / kind / EVIL.partition("/")[0]).mkdir(parents=True)
        for place in (EVIL.partition("/")[0], "."):
            faceless((300, 200)).save(top / kind / place / f"{'x' * 90}.png")
    inputs = [save(top / "r.jsonl", [*records, *failures()]), save(top / "t.jsonl", trained())]
    wanted = check_examples(str(top / "clean"), [f"{NAME}={top / 'cloaked'}"], "", 2, 10)
    list(Report(read_findings(inputs), f"Title {long} {EVIL}", wanted).write(top / "report"))
    return top


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "report", tmp_path / "report")
    return tmp_path


def test_a_browser_finds_nothing_wrong(made: Path) -> None:
    seen = look(made)
    assert seen.faults() == []
    assert len(seen.page["pictures"]) == 2 + 2 * 3
    assert seen.page["details"] == 4 + 1 + 1
    assert any(seen.page["tables"]), "a wide table scrolls in its own box"
    # Names that mean harm are shown as they are.
    assert seen.page["text"].count("<script>document.title='harm'</script>") == 1 + 4


def change(text: str, pattern: str, new: str) -> str:
    changed = text.replace(pattern, new)
    assert changed != text
    return changed


def no_picture(folder: Path, text: str) -> str:
    (folder / "charts" / "protection-1.png").unlink()
    return text


def broken_picture(folder: Path, text: str) -> str:
    (folder / "photos" / "1-clean.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return text


def without_escapes(folder: Path, text: str) -> str:
    policy = re.search(r"<meta http-equiv[^>]*>", text)
    assert policy
    return change(change(text, policy[0], ""), "<h2>Results</h2>", f"<h2>{EVIL}</h2>")


BREAKS: dict[str, tuple[Callable[[Path, str], str], str]] = {
    "a picture is gone": (no_picture, "picture: charts/protection-1.png"),
    "a picture is damaged": (broken_picture, "picture: photos/1-clean.png"),
    "a picture has no text": (lambda _, text: re.sub(r' alt="[^"]*"', "", text, count=1), "no text: "),
    "a name is not escaped": (without_escapes, "a script ran"),
    "the policy stops a script": (
        lambda _, text: change(text, "<h2>Results</h2>", f"<h2>{EVIL}</h2>"),
        "console: .*Content Security Policy",
    ),
    "a table has no box": (lambda _, text: change(text, 'class="scroll"', ""), r"width: \d+"),
    "a long name is not broken": (lambda _, text: change(text, "overflow-wrap: anywhere", ""), r"width: \d+"),
    "something comes from elsewhere": (
        lambda _, text: change(text, "<h2>Results</h2>", '<img src="http://example.com/x.png" alt="x">'),
        "picture: http://example.com/x.png",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_check_can_fail(copy: Path, name: str) -> None:
    spoil, fault = BREAKS[name]
    index = copy / "report" / "index.html"
    index.write_text(spoil(copy / "report", index.read_text()))
    faults = look(copy).faults()
    assert any(re.match(fault, found) for found in faults), faults


def test_the_command_writes_what_the_browser_saw(made: Path, run: Callable[..., Run], tmp_path: Path) -> None:
    cloak = f"{NAME}={made / 'cloaked'}"
    words = ["--in", str(made / "r.jsonl"), "--in", str(made / "t.jsonl"), "--clean", str(made / "clean")]
    done = run("facetools", "report", *words, "--cloaked", cloak, "--examples", "2", "--out", str(tmp_path / "report"))
    assert (done.code, done.err) == (0, "")
    for path in (made / "report").rglob("*.png"):
        assert (tmp_path / "report" / path.relative_to(made / "report")).read_bytes() == path.read_bytes()
    assert look(tmp_path).faults() == []
