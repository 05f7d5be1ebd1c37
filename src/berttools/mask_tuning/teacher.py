"""The teacher of a distillation: its logits of the training texts, and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from _toolio.errors import ToolError, param

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from berttools.classifier.model import Classifier
    from berttools.texts.examples import Example


def teacher_logits(
    folder: Path, examples: Sequence[Example], student: Classifier, *, device: torch.device, half: bool
) -> npt.NDArray[np.float32]:
    """Return a teacher's logits, in the order of the student's labels, float32 [n, outputs].

    Parameters
    ----------
    folder
        The teacher's. Its tokenizer encodes the examples, up to its own length.
    examples
        The texts.
    student
        Its labels must be the teacher's.
    device, half
        Where to compute, and whether in bfloat16.

    Raises
    ------
    ToolError
        Kind ``"other-labels"``: if the teacher has other labels, or another number of outputs, than the student.
    """
    from berttools.checkpoints.model_folder import silent_transformers
    from berttools.classifier.inference import Inference
    from berttools.classifier.model import open_model, refuse_not_finite
    from berttools.tuning.datasets import checked_texts

    teacher = open_model(folder)
    refuse_not_finite(folder, teacher.model)
    names, ours = list(teacher.labels.names), list(student.labels.names)
    if sorted(names) != sorted(ours) or teacher.labels.multiple != student.labels.multiple:
        theirs = ", ".join(names) or "of numbers"
        raise ToolError(
            f"{param('distill')} {folder}: knows the labels {theirs}{_several(teacher)}, and {param('train')} has"
            f" {', '.join(ours) or 'numbers'}{_several(student)}",
            kind="other-labels",
        )
    outputs, own = (int(each.model.config.num_labels) for each in (teacher, student))
    if outputs != own:  # a regression may have several
        raise ToolError(
            f"{param('distill')} {folder}: gives {outputs} numbers a text, and {param('base')} {own}",
            kind="other-labels",
        )
    texts = checked_texts(examples, teacher)
    with silent_transformers():
        logits = Inference(teacher, device, half=half).logits(texts)
    return logits[:, [names.index(name) for name in ours]] if ours else logits


def _several(model: Classifier) -> str:
    return " (several a text)" if model.labels.multiple else ""


def teacher_digest(folder: Path) -> str:
    """Return the sha256 of all that a teacher's logits follow from besides the texts: weights, config, tokenizer."""
    from berttools.checkpoints.digests import base_digest, tokenizer_digest
    from berttools.checkpoints.files import open_checkpoint

    teacher = open_checkpoint(folder)
    parts = [base_digest(teacher), teacher.config, tokenizer_digest(folder)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
