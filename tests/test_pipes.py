"""Every documented pipe that tunes the layers that moved most learns something of real texts, as it is printed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from test_docs import EXAMPLES, shell
from tiny_models import GLUE, minilm, needs_glue, needs_minilm

PIPES = [line for line in EXAMPLES if "--only -" in line and "berttools layerdiff" in line]
TEXTS = 1200


def test_the_pipes_are_found() -> None:
    kinds = {kind for line in PIPES for kind in ("finetune", "mask-tune") if f"berttools {kind} " in line}
    assert kinds == {"finetune", "mask-tune"}
    assert all("layerdiff --matrices" in line for line in PIPES), "biases move far, and hold nothing to tune"


@pytest.fixture(scope="module")
def real_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base/, a model tuned from it in full, and texts of SST-2: what the pipes speak of."""
    folder = tmp_path_factory.mktemp("sst2")
    (folder / "base").symlink_to(minilm())
    for kind, count in (("train", TEXTS), ("dev", None)):
        lines = (GLUE / "sst2" / f"{kind}.jsonl").read_text().splitlines(True)
        (folder / f"{kind}.jsonl").write_text("".join(lines[:count]))
    words = ["finetune", "--base", "base", "--train", "train.jsonl", "--epochs", "1", "--out", "ft"]
    subprocess.run([sys.executable, "-m", "berttools", *words], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.slow
@needs_glue
@needs_minilm
@pytest.mark.parametrize("line", PIPES)
def test_a_pipe_learns(line: str, real_texts: Path, tmp_path: Path) -> None:
    for name in ("base", "ft", "train.jsonl", "dev.jsonl"):
        (tmp_path / name).symlink_to(real_texts / name)
    done = shell(line, tmp_path)
    assert done.returncode in (0, 128 + 13)  # what head ends early has not failed
    assert done.stderr == ""
    said = (tmp_path / "task.jsonl").read_text() if "> task.jsonl" in line else done.stdout
    last = json.loads(said.splitlines()[-1])
    assert Path(last["path"]).name.startswith("task")
    # One standard error is 0.017.
    assert last["accuracy"] > last["chance"] + 0.15
