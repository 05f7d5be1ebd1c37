"""Loss functions of classification, regression and distillation."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def loss_of(logits: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Sum the losses of examples: cross-entropy of classes, squared error of a regression (0 classes)."""
    if classes:
        return F.cross_entropy(logits.float(), truth.long(), reduction="sum")
    return F.mse_loss(logits.float().squeeze(-1), truth.float(), reduction="sum")


TEMPERATURE, TAUGHT = 2.0, 0.5
"""Of distillation: what logits are divided by, and the teacher's share of the loss."""


def taught_loss(logits: Tensor, taught: Tensor, classes: int) -> Tensor:
    """Sum how far examples are from a teacher: T^2 KL of softened classes, squared error of a regression.

    Hinton, Vinyals and Dean 2015, arXiv 1503.02531.
    """
    if not classes:
        return F.mse_loss(logits.float(), taught, reduction="sum")
    ours, theirs = (F.log_softmax(each.float() / TEMPERATURE, -1) for each in (logits, taught))
    return TEMPERATURE**2 * F.kl_div(ours, theirs, reduction="sum", log_target=True)
