"""Loss functions of classification, regression and distillation."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def task_loss(logits: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Return the loss summed over examples: cross-entropy of classes, squared error of a regression.

    Of multi-label data it is the binary cross-entropy of each class, averaged over the classes.

    Parameters
    ----------
    logits
        [n, outputs].
    targets
        Class indices, or values: [n]; of multi-label data 0 or 1: [n, outputs].
    classes
        Number of classes; 0 for a regression, which has one output.
    """
    if targets.ndim == 2:
        return F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="none").mean(1).sum()
    if classes:
        return F.cross_entropy(logits.float(), targets.long(), reduction="sum")
    return F.mse_loss(logits.float().squeeze(-1), targets.float(), reduction="sum")


TEMPERATURE, TEACHER_WEIGHT = 2.0, 0.5
"""Of distillation: the temperature, and the weight of the distillation loss against the task's."""


def distillation_loss(logits: Tensor, teacher_logits: Tensor, classes: int, *, multiple: bool = False) -> Tensor:
    """Return the distillation loss summed over examples: T^2 KL(teacher || student) at temperature T.

    Of a regression (0 classes) it is the squared error; of multi-label data the divergence of each class's two
    probabilities, averaged over the classes. Hinton, Vinyals and Dean 2015, arXiv 1503.02531, section 2.

    Parameters
    ----------
    logits, teacher_logits
        [n, outputs].
    classes
        Number of classes; 0 for a regression.
    multiple
        Whether the data is multi-label.
    """
    if multiple:
        ours, theirs = (
            torch.stack([F.logsigmoid(each), F.logsigmoid(-each)])
            for each in (logits.float() / TEMPERATURE, teacher_logits.float() / TEMPERATURE)
        )
        divergence = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(0)
        return TEMPERATURE**2 * divergence.mean(1).sum()
    if not classes:
        return F.mse_loss(logits.float(), teacher_logits, reduction="sum")
    ours, theirs = (F.log_softmax(each.float() / TEMPERATURE, -1) for each in (logits, teacher_logits))
    return TEMPERATURE**2 * F.kl_div(ours, theirs, reduction="sum", log_target=True)
