"""Fisher information and gradients, against plain autograd, one text at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from _toolio.errors import ToolError
from berttools.classifier.inference import Inference
from berttools.classifier.model import Classifier, open_base
from berttools.layer_scores.gradients import fisher_diagonals, fisher_norm, gradient_times_weight, mean_gradients
from berttools.texts.batches import Dataset
from berttools.texts.examples import Example, read_examples, with_lists, with_values
from berttools.texts.labels import learn_labels
from berttools.texts.rows import parse_columns
from berttools.tuning.datasets import tokenised
from tiny_models import make_base, several, texts, write_lines

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return -logits.log_softmax(-1)[0, int(target)]


def squared_error(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (logits[0, 0] - target) ** 2


def binary(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    chance = logits[0].sigmoid()
    return -(target * chance.log() + (1 - target) * (1 - chance).log()).mean()


Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
TASKS: dict[str, tuple[str, Loss]] = {
    "classification": ("auto", cross_entropy),
    "regression": ("regression", squared_error),
    "multilabel": ("multilabel", binary),
}


def opened(folder: Path, task: str, kind: str = "bert", count: int = 9) -> tuple[Inference, Dataset]:
    lines = {"regression": texts(count, numbers=True), "multilabel": several(count)}.get(task, texts(count))
    path = str(write_lines(folder / "texts.jsonl", lines))
    examples = read_examples(path, parse_columns(None))
    if task == "regression":
        examples = with_values(examples)
    if task == "multilabel":
        examples = with_lists(examples, "label")
    classifier = open_base(make_base(folder / "base", kind), learn_labels(examples, task=TASKS[task][0]))
    with torch.no_grad():  # a head that says something: as it is drawn, its gradients are tiny
        for name, each in classifier.model.named_parameters():
            if name in classifier.head:
                each.add_(torch.randn(each.shape, generator=torch.Generator().manual_seed(3)))
    return Inference(classifier, CPU), tokenised(examples, classifier, longest=None, source="x")


def by_hand(inference: Inference, data: Dataset, loss: Loss) -> dict[str, list[torch.Tensor]]:
    """Each text's own gradient of each matrix, by ``backward``, with no padding and no batch."""
    inference.model.eval()
    found: dict[str, list[torch.Tensor]] = {}
    for text, target in zip(data.texts, data.targets, strict=True):
        inference.model.zero_grad()
        inputs = {"input_ids": torch.tensor([text.ids.tolist()])}
        if text.types is not None:
            inputs["token_type_ids"] = torch.tensor([text.types.tolist()])
        loss(inference.model(**inputs).logits.double(), torch.from_numpy(target[None])[0]).backward()
        for name, each in inference.model.named_parameters():
            if each.ndim == 2 and each.grad is not None and "embedding" not in name:
                found.setdefault(name, []).append(each.grad.double().clone())
    return found


@pytest.mark.parametrize("task", TASKS)
def test_fisher_information_is_the_mean_of_each_texts_squared_gradient(tmp_path: Path, task: str) -> None:
    inference, data = opened(tmp_path, task)
    hand = by_hand(inference, data, TASKS[task][1])
    parameters = {name: each for name, each in inference.model.named_parameters() if name in hand}
    found = fisher_diagonals(inference, data, parameters)
    for name, gradients in hand.items():
        wanted = torch.stack(gradients).square().mean(0)
        assert torch.allclose(found[name].double(), wanted, rtol=1e-3, atol=1e-6 * float(wanted.max())), name
        assert fisher_norm(found[name]) == pytest.approx(float(wanted.norm()), rel=1e-4)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("batch", [1, 4, 100])
def test_the_mean_gradient_is_of_the_mean_loss_whatever_the_batch(tmp_path: Path, task: str, batch: int) -> None:
    inference, data = opened(tmp_path, task)
    hand = by_hand(inference, data, TASKS[task][1])
    parameters = {name: each for name, each in inference.model.named_parameters() if name in hand}
    found = mean_gradients(inference, data, parameters, batch)
    for name, gradients in hand.items():
        wanted = torch.stack(gradients).mean(0)
        assert torch.allclose(found[name].double(), wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max())), name
        score = gradient_times_weight(found[name], parameters[name])
        assert score == pytest.approx(float(wanted.norm() * parameters[name].detach().double().norm()), rel=1e-4)


def test_the_square_of_the_mean_gradient_is_no_more_than_the_mean_of_squares(tmp_path: Path) -> None:
    inference, data = opened(tmp_path, "classification", "gpt2")
    parameters = {name: each for name, each in inference.model.named_parameters() if "attn" in name and each.ndim == 2}
    squares, means = (
        fisher_diagonals(inference, data, parameters),
        mean_gradients(inference, data, parameters, 4),
    )
    for name, square in squares.items():
        assert (square >= means[name] ** 2 - 1e-9).all()
        assert (square > 2 * means[name] ** 2 + 1e-12).any(), "texts of two classes pull in different directions"


def test_a_text_twice_counts_twice(tmp_path: Path) -> None:
    inference, data = opened(tmp_path, "classification", count=6)
    name, parameter = next((n, p) for n, p in inference.model.named_parameters() if "query.weight" in n)
    twice = Dataset([*data.texts] * 2, torch.from_numpy(data.targets).repeat(2).numpy())
    for one, two in (
        (fisher_diagonals(inference, each, {name: parameter})[name] for each in (data, twice)),
        (mean_gradients(inference, each, {name: parameter}, 3)[name] for each in (data, twice)),
    ):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-9)


def test_dropout_is_off_and_a_gradient_that_is_not_finite_names_matrix_and_text(classifier: Classifier) -> None:
    inference = Inference(classifier, CPU)
    inference.model.train()
    examples = [Example(f"a.jsonl, line {n}", text, label=n % 2) for n, text in enumerate(["good film", "bad day"])]
    data = tokenised(examples, classifier, longest=None, source="x")
    parameters = {name: each for name, each in inference.model.named_parameters() if "query.weight" in name}
    first, second = (fisher_diagonals(inference, data, parameters) for _ in range(2))
    assert all((first[name] == second[name]).all() for name in parameters)
    word = data.texts[1].ids[1]
    with torch.no_grad():
        inference.model.get_input_embeddings().weight[word] = float("inf")
    with pytest.raises(
        ToolError, match=r"gradient of bert.encoder.layer.2.attention.self.query.weight is NaN .*line 1;"
    ):
        fisher_diagonals(inference, data, parameters)
