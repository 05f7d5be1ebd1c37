"""A training that is interrupted says how far it came, and how to go on."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Run
from tiny_models import make_base, texts, write_lines

MANY = 100_000
"""Epochs: more than there is time for."""


@pytest.fixture
def inputs(tmp_path: Path) -> Callable[[str], list[str]]:
    """Return the arguments of a training that goes on for ever."""

    def photos(folder: str) -> str:
        for person in range(6):
            (tmp_path / folder / f"p{person}").mkdir(parents=True)
            for number in range(2):
                rng = np.random.default_rng([len(folder), person, number])
                small = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
                small.resize((48, 48)).save(tmp_path / folder / f"p{person}" / f"{number}.png")
        return str(tmp_path / folder)

    def words(name: str) -> list[str]:
        if name in ("finetune", "mask-tune"):
            base, train = make_base(tmp_path / "base"), write_lines(tmp_path / "train.jsonl", texts(8))
            return ["--base", str(base), "--train", str(train), "--max-steps", f"{MANY}", "--evaluate-every", "2"]
        more = ["--epochs", f"{MANY}", "--held-out", "0.4", "--batch", "4"]
        if name == "train-extractor":  # it takes no crops, but what says where a face is
            found = [{"path": str(path), "box": [0, 0, 48, 48]} for path in Path(photos("clean")).rglob("*.png")]
            write_lines(tmp_path / "stdin", found)
            return ["--in", "-", *more]
        more += ["--crops"]
        more += ["--max-clean-loss", "100", "--patience", f"{MANY}"] if name == "train-robust" else []
        return ["--clean", photos("clean"), "--cloaked", photos("cloaked"), *more]

    return words


@pytest.mark.parametrize(
    ("tool", "name", "number", "unit"),
    [
        ("berttools", "finetune", signal.SIGINT, "steps"),
        ("berttools", "mask-tune", signal.SIGTERM, "steps"),
        ("facetools", "train-detector", signal.SIGINT, "epochs"),
        ("facetools", "train-extractor", signal.SIGTERM, "epochs"),
        ("facetools", "train-robust", signal.SIGINT, "epochs"),
    ],
)
def test_how_far_it_came(
    run: Callable[..., Run],
    warm_command: Callable[..., list[str]],
    inputs: Callable[[str], list[str]],
    tmp_path: Path,
    tool: str,
    name: str,
    number: int,
    unit: str,
) -> None:
    from _toolio.compute.checkpoints import how_far

    arguments = [name, *inputs(name), "--out", str(tmp_path / "out")]
    checkpoint = tmp_path / "out.checkpoint"
    (tmp_path / "stdin").touch()
    with (
        (tmp_path / "stdin").open() as stdin,
        subprocess.Popen(
            warm_command(tool, *arguments),
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process,
    ):
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        assert process.stderr is not None
        said = process.stderr.read().decode()
    assert process.returncode == (130 if number == signal.SIGINT else 128 + number), said
    done, total, _ = how_far(checkpoint) or (0, 0, "")
    assert done > 0
    assert total == MANY
    assert said.splitlines()[-1] == f"{tool}: stopped after {done:,} of 100,000 {unit}; go on with --resume"
