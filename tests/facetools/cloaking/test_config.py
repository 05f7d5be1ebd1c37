"""What cloaked photos depend on besides the photos, and what of it cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from _toolio.errors import UsageError
from facetools.cloaking import CloakingConfig
from facetools.faces.search import FaceSearch
from facetools.photos.formats import Format
from facetools.photos.saving import Saving

FILE = Path("x")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"attack": "nothing"}, "attack nothing: not known"),
        ({"mode": "loud"}, "mode loud: lowkey has no such mode"),
        ({"knobs": {"speed": 1}}, "knobs speed=1: lowkey has the knobs steps=50"),
        ({"knobs": {"steps": -1}}, "knobs steps=-1: steps cannot be negative"),
        ({"attack": "fawkes-v0.3"}, "attack fawkes-v0.3 needs targets: embeddings of other people"),
        ({"targets": [FILE]}, "targets: lowkey pulls to nobody"),
        ({"attack": "opom"}, "attack opom needs save_mask FILE"),
        ({"attack": "opom", "mask": FILE, "save_mask": FILE}, "mask and save_mask: the one applies"),
        ({"mask": FILE}, "mask and save_mask: lowkey makes no masks"),
        ({"attack": "opom", "mask": FILE, "seed": 3}, "seed: the masks are made already"),
        ({"attack": "opom", "mask": FILE, "knobs": {"alpha": 0.1}}, "knobs: the masks are made already"),
        ({"faces": "crop", "faces_file": FILE}, "faces_file: an aligned crop is all face"),
        ({"saving": Saving.to_format(Format.png, quality=50)}, "quality is for jpeg, webp and heif"),
    ],
)
def test_configurations_that_cannot_be(config: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        CloakingConfig(**{"attack": "lowkey", **config}).check()
    assert caught.value.message.startswith(words)


def test_whose_faces() -> None:
    assert CloakingConfig(attack="lowkey").search == FaceSearch("all")
    assert CloakingConfig(attack="opom").search == FaceSearch("largest")
    assert CloakingConfig(attack="opom", faces="crop").search == FaceSearch("crop")
    searched = CloakingConfig(attack="lowkey", faces="central", min_face=30.0, min_confidence=0.9, rotations=True)
    assert searched.search == FaceSearch("central", 30.0, 0.9, rotations=True)


def test_a_configuration_is_checked_without_torch() -> None:
    code = (
        "import sys; from facetools.cloaking import CloakingConfig; CloakingConfig(attack='lowkey').check();"
        "sys.exit(bool({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"until_moved": 0.0}, "until_moved 0: a cosine distance"),
        ({"until_moved": float("nan")}, "until_moved nan: a cosine distance"),
        ({"until_hidden": True}, "until_hidden needs others"),
        ({"others": [Path("people")]}, "others: nobody is hidden among them"),
        ({"until_moved": 0.3, "attack": "none"}, "until_moved: none takes no steps"),
        ({"until_moved": 0.3, "attack": "opom", "mask": Path("m")}, "until_moved: the masks are made already"),
    ],
)
def test_goals_that_cannot_be_reached_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CloakingConfig(**{"attack": "lowkey", **settings}).check()
