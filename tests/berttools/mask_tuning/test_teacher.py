"""A teacher's logits in the order of the student's labels, and its digest."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from _toolio.errors import ToolError
from berttools.classifier.inference import Inference
from berttools.classifier.model import Classifier, open_model
from berttools.mask_tuning.teacher import teacher_digest, teacher_logits
from berttools.texts.batches import encode
from berttools.texts.examples import Example
from tiny_models import make_tuned, texts

CPU = torch.device("cpu")


def test_logits_follow_the_students_labels(base: Path, classifier: Classifier, tmp_path: Path) -> None:
    examples = [Example("l", record["text"]) for record in texts(6)]
    turned = make_tuned(base, tmp_path / "turned", ("1", "0"), change=0.3)
    found = teacher_logits(turned, examples, classifier, device=CPU, half=False)
    opened = open_model(turned)
    encoded = encode(opened.tokenizer, examples, most=opened.longest)
    assert np.array_equal(found, Inference(opened, CPU).logits(encoded)[:, ::-1])
    other = make_tuned(base, tmp_path / "other", ("red", "green"))
    with pytest.raises(ToolError, match="knows the labels red, green, and train has 0, 1") as raised:
        teacher_logits(other, examples, classifier, device=CPU, half=False)
    assert raised.value.kind == "other-labels"


def test_the_digest_is_that_of_what_decides_the_logits(base: Path, tmp_path: Path) -> None:
    one, other = (make_tuned(base, tmp_path / str(n), change=n / 100) for n in (1, 2))
    copied = Path(shutil.copytree(one, tmp_path / "copied"))
    (copied / "README.md").write_text("mine")
    assert teacher_digest(one) == teacher_digest(copied) != teacher_digest(other)
    (copied / "config.json").write_text((copied / "config.json").read_text().replace('"0": "0"', '"0": "no"'))
    assert teacher_digest(one) != teacher_digest(copied)
