"""Scores from gradients of the task's loss at the base: empirical Fisher information, and gradient times weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from _toolio.errors import ToolError
from berttools.classifier.inference import Inference
from berttools.classifier.losses import task_loss
from berttools.texts.batches import Dataset

Batches = Callable[[Sequence[Sequence[int]]], Iterable[Sequence[int]]]
"""Called with numbers of texts, by pass; yields them, and may show how many are done."""

_NAMED = 3
"""Texts of a pass that are named where it failed."""


def fisher_diagonals(
    inference: Inference, data: Dataset, parameters: Mapping[str, nn.Parameter], *, show: Batches = iter
) -> dict[str, Tensor]:
    """Return the diagonal of the empirical Fisher information of each parameter, in its shape.

    F = 1/N sum_n (d log p(y_n | x_n) / d theta)^2, entry by entry, with the true labels y_n: "empirical", for labels
    are not drawn from the model. The square is of the gradient of one text, not of a batch, whose mean gradient is
    smaller. Dropout is off. Of a regression the likelihood is normal (the squared error); of multi-label data the loss
    is the mean binary cross-entropy of the classes.
    """
    sums = {name: torch.zeros_like(each) for name, each in parameters.items()}
    inference.model.eval()
    for texts in show([[number] for number in range(len(data.texts))]):
        for total, gradient in zip(sums.values(), _gradient(inference, data, texts, parameters), strict=True):
            total.addcmul_(gradient, gradient)
    return {name: total / len(data.texts) for name, total in sums.items()}


def mean_gradients(
    inference: Inference, data: Dataset, parameters: Mapping[str, nn.Parameter], batch: int, *, show: Batches = iter
) -> dict[str, Tensor]:
    """Return the gradient of the mean loss over all texts for each parameter; dropout is off.

    ``batch`` texts a pass, which changes it by rounding only.
    """
    sums = {name: torch.zeros_like(each) for name, each in parameters.items()}
    inference.model.eval()
    order = sorted(range(len(data.texts)), key=lambda number: -len(data.texts[number]))
    for texts in show([order[start : start + batch] for start in range(0, len(order), batch)]):
        for total, gradient in zip(sums.values(), _gradient(inference, data, texts, parameters), strict=True):
            total += gradient
    return {name: total / len(data.texts) for name, total in sums.items()}


def fisher_norm(diagonal: Tensor) -> float:
    """Return the Frobenius norm of a matrix of Fisher information, the FIM score.

    Lodha et al. 2023, arXiv 2310.17041, whose public code adds up these norms over the tensors of a layer; of a single
    matrix there is nothing to add up. They take 100 texts, one at a time, and a head as it is drawn.
    """
    return float(torch.linalg.vector_norm(diagonal, dtype=torch.float64))


def gradient_times_weight(gradient: Tensor, weight: Tensor) -> float:
    """Return ||g||_F ||W||_F, the norms of the mean loss's gradient and of the matrix.

    It is the largest change of the loss, to first order, by a change of W of the length ||W||: how much the loss
    depends on W for a relative change. It has no paper of its own; the inner product <g, W> in place of the product of
    the norms is a first-order Taylor saliency, whose terms cancel.
    """
    return math.prod(float(torch.linalg.vector_norm(each.detach(), dtype=torch.float64)) for each in (gradient, weight))


def _gradient(
    inference: Inference, data: Dataset, texts: Sequence[int], parameters: Mapping[str, nn.Parameter]
) -> list[Tensor]:
    """Return the gradient of the loss, summed over some texts, for each parameter.

    Raises
    ------
    ToolError
        Kind ``"diverged"``: it is NaN or infinite.
    """
    logits = inference.forward(inference.model, [data.texts[number] for number in texts])
    targets = torch.from_numpy(data.targets[list(texts)]).to(logits.device)
    loss = task_loss(logits, targets, inference.classes)
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
    if not math.isfinite(float(nn.utils.get_total_norm(found))):
        # The last one: what is not finite goes down from where it began to all layers below.
        worst = max(n for n, each in enumerate(found) if not each.isfinite().all())
        places = [data.places[number] for number in texts[:_NAMED]] if data.places else [*map(str, texts[:_NAMED])]
        rest = f" and {len(texts) - len(places)} more" if len(texts) > len(places) else ""
        raise ToolError(
            f"the gradient of {list(parameters)[worst]} is NaN or infinite on the texts {', '.join(places)}{rest}; try"
            " without these",
            kind="diverged",
        )
    return list(found)
