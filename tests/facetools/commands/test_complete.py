"""What a shell completes, and that it imports nothing heavy for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from facetools.attacks import registry

HEAVY = ("torch", "transformers", "numpy", "PIL")


def completed(line: str, folder: Path) -> tuple[list[str], set[str]]:
    """Return what bash is offered for the last word of a line, and which heavy modules were imported."""
    tool = line.partition(" ")[0]
    code = (
        f"import sys; sys.argv = [{tool!r}]\nfrom {tool}.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print(*[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    environment = {
        **os.environ, f"_{tool.upper()}_COMPLETE": "complete_bash", "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1), "PYTHONPATH": str(ROOT / "src"),
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True)
    return done.stdout.split(), set(done.stderr.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("facetools perturb --attack ", list(registry.names())),
        ("facetools perturb --attack fawkes-v1.0 --mode ", list(registry.find("fawkes-v1.0").modes)),
        ("facetools perturb --attack tip-im --mode ", ["low", "mid", "high"]),
        (
            "facetools perturb --attack lowkey --set st",
            ["steps=", "step_size=", "start_noise="],
        ),
        ("facetools embed --extractor ", ["dlib-resnet", "mine.safetensors", "sub/"]),
        ("berttools evaluate --metric m", ["macro-f1", "matthews", "micro-f1"]),
        ("berttools layerdiff --group Q,", ["Q,K", "Q,V", "Q,AO", "Q,I", "Q,O", "Q,XQ", "Q,XK", "Q,XV", "Q,XAO"]),
    ],
)
def test_values(line: str, offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").touch()
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "sub").mkdir()
    found, heavy = completed(line, tmp_path)
    assert [word.partition("=")[0] for word in found] == [word.partition("=")[0] for word in offered]
    assert not heavy
