"""The line that ends ``facetools detect`` on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import pytest

from conftest import Run, command, faceless, saved
from facetools.commands._detect import Summary


def of(*photos: tuple[str | None, ...]) -> Summary:
    summary = Summary()
    for labels in photos:
        summary.add(labels)
    return summary


@pytest.mark.parametrize(
    ("summary", "failed", "line"),
    [
        (of(("clean",)), 0, "1 photo, 1 face: 0 cloaked, 0 unclear, 1 clean (no cloak seen)"),
        (of(), 1, "0 photos, 0 faces: 0 cloaked, 0 unclear, 0 clean; 1 failed"),
        (
            of(("clean", "cloaked", "unclear"), (), ("clean", None), ("clean",)),
            2,
            "4 photos, 6 faces: 1 cloaked, 1 unclear, 3 clean (no cloak seen), 1 without a score; "
            "1 photo without a face; 2 failed",
        ),
        (of(*[("clean",)] * 1200, (), ()), 0,
         "1,202 photos, 1,200 faces: 0 cloaked, 0 unclear, 1,200 clean (no cloak seen); 2 photos without a face"),
    ],
)  # fmt: skip
def test_a_line_sums_up_a_run(summary: Summary, failed: int, line: str) -> None:
    assert summary.line(failed) == line


def with_stderr_on_a_terminal(*arguments: str) -> tuple[int, bytes, str]:
    """Run a command whose stdout is a pipe: exit code, stdout, and what the terminal showed."""
    main, other = pty.openpty()
    process = subprocess.Popen(command("facetools", *arguments), stdout=subprocess.PIPE, stderr=other, stdin=other)
    os.close(other)
    assert process.stdout is not None
    shown, end = b"", time.monotonic() + 120
    while time.monotonic() < end and select.select([main], [], [], 120)[0]:
        try:
            shown += os.read(main, 65536)
        except OSError:  # the other side has closed
            break
    out = process.stdout.read()
    os.close(main)
    return process.wait(10), out, shown.decode()


def test_a_terminal_sees_the_sum_last_and_a_pipe_never(plain_photos: Path) -> None:
    (plain_photos / "b.png").write_bytes(saved(faceless((90, 90)), "PNG"))
    (plain_photos / "c.jpg").write_bytes(b"Dear diary")
    code, out, shown = with_stderr_on_a_terminal("detect", "--in", str(plain_photos))
    records = [json.loads(line) for line in out.splitlines()]
    labels = [record["label"] for record in records if record.get("score") is not None]
    none, failed = (sum(key in record for record in records) for key in ("face", "error"))
    photos = len({record["path"] for record in records}) - failed
    faceless_photos = none - len(labels)
    counts = ", ".join(f"{labels.count(label)} {label}" for label in ("cloaked", "unclear", "clean"))
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown).replace("\r", "").rstrip("\n").rpartition("\n")[2]
    counts += " (no cloak seen)" if "clean" in labels else ""
    faces = f"{len(labels)} face{'s' if len(labels) != 1 else ''}"
    nobody = f"{faceless_photos} photo{'s' if faceless_photos != 1 else ''} without a face"
    assert last == f"{photos} photos, {faces}: {counts}; {nobody}; 1 failed"
    assert code == 3


def test_nothing_is_said_in_a_pipe(run: object, plain_photos: Path) -> None:
    done: Run = run("facetools", "detect", "--in", plain_photos)  # type: ignore[operator]
    assert (done.code, done.err) == (0, "")
