"""Write the folder of a report: complete or absent, and in place of nothing but an older report."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _toolio.errors import InputError, UsageError, param
from _toolio.files.atomic import atomic_folder
from _toolio.files.hashing import sha256_of
from _toolio.files.overwriting import refuse_file
from _toolio.version import tool_version
from facetools.reporting.drawing import Picture, result_charts, training_chart
from facetools.reporting.examples import ExamplesConfig, draw_examples
from facetools.reporting.page import MARK, Content, page
from facetools.reporting.results import Findings, LeftOut
from facetools.reporting.tables import markdown, tidy_csv

INDEX = "index.html"

_OURS = re.compile(rf"{re.escape(INDEX)}|tables\.(csv|md)|(charts|photos)/[a-z0-9-]+\.png")


def refuse_folder(out: Path, *, force: bool) -> None:
    """Refuse a folder that cannot be written, or that holds other files, before any work is done.

    Raises
    ------
    UsageError
        The folder is refused.
    """
    try:
        refuse_file(out)
        held = [Path(top) / name for top, _, names in os.walk(out) for name in names]
        above = next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.exists())
        above = above.parent if above == out.resolve() else above
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise UsageError(f"{param('out')} {out}: {above} may not be written to; name a folder elsewhere")
        if held and not force:
            raise UsageError(f"{param('out')} {out}: is not empty; use {param('force')} to replace the report in it")
        foreign = sorted(str(path) for path in held if not _OURS.fullmatch(path.relative_to(out).as_posix()))
        if held and (foreign or MARK.encode() not in _head(out / INDEX)):
            which = f"{foreign[0]} is not of a report" if foreign else "it is no report"
            raise UsageError(
                f"{param('out')} {out}: {which}, and {param('force')} replaces nothing else; name another folder"
            )
    except OSError as error:
        raise UsageError(f"{param('out')} {out}: {error.strerror}; name another folder") from None


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as stream:
        return stream.read(4096)


@dataclass(slots=True)
class Report:
    """A report.

    Attributes
    ----------
    findings
        Its results.
    title
        The headline.
    examples
        Example photos, if any.
    """

    findings: Findings
    title: str
    examples: ExamplesConfig | None = None

    def write(self, out: Path) -> Iterator[Mapping[str, Any] | tuple[str, InputError]]:
        """Write the folder; yield photos that could not be used with the reason, then a record's fields for each file.

        Nothing is yielded before the whole report is in its place.

        Raises
        ------
        ToolError
            It cannot be written.
        """
        content = Content(self.title, tool_version(), self.findings)
        failed = self._draw(content)
        files = {INDEX: page(content).encode(), "tables.csv": tidy_csv(self.findings).encode()}
        files["tables.md"] = markdown(self.findings, self.title).encode()
        kinds = {INDEX: "page", "tables.csv": "table", "tables.md": "table"}
        for picture in _pictures(content):
            files[picture.name] = picture.data
            kinds[picture.name] = "chart" if picture.name.startswith("charts/") else "photo"
        with atomic_folder(out) as folder:
            for name, data in files.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(data)
        yield from failed
        for name, data in files.items():
            about = {"path": str(out / name), "relative": name, "kind": kinds[name], "sha256": sha256_of(data)}
            yield {"bytes": len(data), **about}

    def _draw(self, content: Content) -> list[tuple[str, InputError]]:
        content.charts = list(result_charts(self.findings.results))
        content.training_charts = [training_chart(n, each) for n, each in enumerate(self.findings.trainings, 1)]
        failed = []
        for each in draw_examples(self.examples) if self.examples else ():
            if isinstance(each, tuple):
                item, error = each
                failed.append((item.path, error))
                content.unusable.append(LeftOut("", item.path, error.message))
            else:
                content.examples.append(each)
        return failed


def _pictures(content: Content) -> Iterator[Picture]:
    """Yield every picture once: a photo's clean one stands in several rows."""
    yield from content.charts
    yield from content.training_charts
    for example in content.examples:
        yield from {each.name: each for _, pictures in example.rows for each in pictures}.values()
