"""The loop: its arithmetic against one written out, and what frozen tensors cost."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from _toolio.errors import ToolError
from berttools.classifier.inference import Inference
from berttools.classifier.model import Classifier, open_base
from berttools.texts.batches import Dataset, collate, draw_steps
from berttools.texts.labels import Labels
from berttools.tuning import trainer as training
from berttools.tuning.config import TrainingConfig
from berttools.tuning.parameters import ParameterSelection
from berttools.tuning.trainer import Trainer
from tiny_models import dataset_for

CPU = torch.device("cpu")
CONFIG = TrainingConfig(steps=6, every=3, batch=8, learning_rate=1e-2, warmup=0.34, weight_decay=0.1, seed=3)


def still(classifier: Classifier) -> Classifier:
    """Leave dropout out, so that two computations of a gradient can be compared."""
    for module in classifier.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    classifier.model.config._attn_implementation = "eager"
    return classifier


def names_of(classifier: Classifier, choice: ParameterSelection = ParameterSelection()) -> list[str]:  # noqa: B008
    shapes = {name: tuple(each.shape) for name, each in classifier.model.named_parameters()}
    return choice.resolve(shapes, base={}, head=classifier.head)


def values(classifier: Classifier) -> dict[str, np.ndarray]:
    return {name: each.detach().numpy().copy() for name, each in classifier.model.state_dict().items()}


def written_out(classifier: Classifier, data: Dataset, config: TrainingConfig) -> None:
    """Tune with AdamW as in arXiv 1711.05101, algorithm 2, by hand."""
    parameters = dict(classifier.model.named_parameters())
    first = {name: torch.zeros_like(each) for name, each in parameters.items()}
    second = {name: torch.zeros_like(each) for name, each in parameters.items()}
    lengths = np.array([len(text) for text in data.texts])
    per_epoch = -(-len(lengths) // config.batch)
    for step in range(config.steps):
        drawn = draw_steps(lengths, config.batch, seed=config.seed, epoch=step // per_epoch)[step % per_epoch]
        inputs = collate([data.texts[number] for number in drawn], 0, CPU)
        loss = F.cross_entropy(classifier.model(**inputs).logits, torch.tensor(data.targets[drawn]).long())
        gradients = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
        length = sum(float((each**2).sum()) for each in gradients.values()) ** 0.5
        warm = round(config.warmup * config.steps)
        slope = (step + 1) / warm if step < warm else (config.steps - step) / (config.steps - warm)
        with torch.no_grad():
            for name, parameter in parameters.items():
                gradient = gradients[name] * min(1.0, config.clip / (length + 1e-6))
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.999 * second[name] + 0.001 * gradient**2
                head = name.startswith("classifier") and config.head_learning_rate
                rate = slope * (head or config.learning_rate)
                if not (name.endswith("bias") or "LayerNorm" in name):
                    parameter *= 1 - rate * config.weight_decay
                mean, square = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.999 ** (step + 1))
                parameter -= rate * mean / (square.sqrt() + 1e-8)


@pytest.mark.parametrize("head_rate", [None, 3e-2])
def test_steps_are_those_of_adamw_written_out(base: Path, classifier: Classifier, head_rate: float | None) -> None:
    other = still(open_base(base, Labels(("0", "1")), seed=0))
    data = dataset_for(classifier)
    before = values(other)
    config = replace(CONFIG, head_learning_rate=head_rate)
    written_out(other.model.train() and other, data, config)
    trainer = Trainer(still(classifier), names_of(classifier), data, config, device=CPU)
    assert len(list(trainer.rounds())) == 2
    expected, found = values(other), values(classifier)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=2e-5, err_msg=name)
    moved = [np.abs(expected[name] - before[name]).max() for name in before if before[name].dtype.kind == "f"]
    assert np.median(moved) > 1e-3


def test_accumulating_changes_no_gradient(base: Path, classifier: Classifier) -> None:
    other = still(open_base(base, Labels(("0", "1")), seed=0))
    data = dataset_for(classifier)
    for each, parts in ((still(classifier), 1), (other, 3)):
        config = replace(CONFIG, accumulate=parts, steps=3)
        losses = list(Trainer(each, names_of(each), data, config, device=CPU).rounds())
        assert losses[0] == pytest.approx(0.69, abs=0.1)
    for name, value in values(classifier).items():
        np.testing.assert_allclose(values(other)[name], value, atol=1e-5, err_msg=name)


def test_making_a_trainer_sets_nothing_of_the_whole_process(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "Inference", lambda classifier, device, half: Inference(classifier, CPU, half=half))
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    filters = list(warnings.filters)
    Trainer(classifier, names_of(classifier), dataset_for(classifier), CONFIG, device=torch.device("cuda"))
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert list(warnings.filters) == filters


def test_it_learns(classifier: Classifier) -> None:
    data = dataset_for(classifier, 64)
    config = replace(CONFIG, steps=60, every=60)
    trainer = Trainer(classifier, names_of(classifier), data, config, device=CPU)
    assert (trainer.inference.measure(data)["accuracy"] or 0) < 0.75
    list(trainer.rounds())
    assert trainer.inference.measure(data)["accuracy"] == 1


class Watch:
    """Notes, module by module, whether its output has a graph behind it and how much was kept for going back."""

    def __init__(self, model: Any, prefixes: tuple[str, ...]) -> None:
        self.graphs: dict[str, bool] = {}
        self.kept: dict[str, int] = {}
        self._inside: list[str] = []
        self._hooks = []
        for name, module in model.named_modules():
            if name.endswith(prefixes):
                self._hooks.append(module.register_forward_pre_hook(lambda *_, name=name: self._inside.append(name)))
                self._hooks.append(module.register_forward_hook(self._after))

    def _after(self, module: Any, inputs: Any, output: Any) -> None:
        del module, inputs
        tensor = output[0] if isinstance(output, tuple) else output
        self.graphs[self._inside.pop()] = tensor.grad_fn is not None

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._inside:
            self.kept[self._inside[-1]] = self.kept.get(self._inside[-1], 0) + tensor.numel()
        return tensor


def test_no_graph_is_kept_below_the_lowest_tuned_layer(classifier: Classifier) -> None:
    data = dataset_for(classifier)
    choice = ParameterSelection(layers=frozenset([2]))
    trainer = Trainer(classifier, names_of(classifier, choice), data, replace(CONFIG, steps=1), device=CPU)
    watch = Watch(classifier.model, ("bert.embeddings", "layer.0", "layer.1", "layer.2"))
    with torch.autograd.graph.saved_tensors_hooks(watch.keep, lambda tensor: tensor):
        list(trainer.rounds())
    graphs = {name.removeprefix("bert.").removeprefix("encoder."): there for name, there in watch.graphs.items()}
    assert graphs == {"embeddings": False, "layer.0": False, "layer.1": False, "layer.2": True}
    assert list(watch.kept) == ["bert.encoder.layer.2"]


def test_frozen_tensors_have_no_gradient_no_moments_and_stay(classifier: Classifier) -> None:
    before, data = values(classifier), dataset_for(classifier)
    names = names_of(classifier, ParameterSelection(groups=("Q", "I"), layers=frozenset([0, 2])))
    trainer = Trainer(classifier, names, data, CONFIG, device=CPU)
    list(trainer.rounds())
    parameters = dict(classifier.model.named_parameters())
    assert {name for name, each in parameters.items() if each.grad is not None} == set(names)
    held = [p for group in trainer._optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(parameters[name]) for name in names}
    moments = sum(slot.numel() for slots in trainer._optimizer.state.values() for slot in slots.values() if slot.ndim)
    assert moments == 2 * trainer.tuned == 2 * sum(parameters[name].numel() for name in names)
    changed = {name for name, value in values(classifier).items() if (value != before[name]).any()}
    assert changed == set(names)


@pytest.mark.parametrize("axis", [0, 1])
def test_of_a_tensor_only_the_part_is_tuned(base: Path, classifier: Classifier, axis: int) -> None:
    name, other = (f"bert.encoder.layer.1.attention.self.{each}.weight" for each in ("query", "key"))
    before = values(classifier)
    spans = {name: [(axis, 2, 5), (axis, 9, 16)]}
    trainer = Trainer(classifier, [name, other], dataset_for(classifier), CONFIG, device=CPU, spans=spans)
    assert trainer.tuned == 10 * 16 + 16 * 16
    list(trainer.rounds())
    moments = [slots["exp_avg"].numel() for slots in trainer._optimizer.state_dict()["state"].values()]
    assert sorted(moments) == [3 * 16, 7 * 16, 16 * 16], "what is not tuned has no moments"
    after = values(classifier)
    tuned = np.zeros(16, bool)
    tuned[2:5] = tuned[9:16] = True
    was, now = (np.moveaxis(each[name], axis, 0) for each in (before, after))
    assert was[~tuned].tobytes() == now[~tuned].tobytes(), "not even decay moves the rest"
    assert (was[tuned] != now[tuned]).all()
    assert [key for key in before if before[key].tobytes() != after[key].tobytes()] == [name, other]
    assert all(parameter.grad is None for key, parameter in classifier.model.named_parameters() if key != other)


def test_all_parts_of_a_tensor_are_tuned_as_the_whole_is(base: Path, classifier: Classifier) -> None:
    name = "bert.encoder.layer.1.attention.self.query.weight"
    cuts = {name: [(1, 0, 7), (1, 7, 16)]}
    found = []
    for spans in ({}, cuts):
        same = open_base(base, Labels(("0", "1")), seed=0)
        list(Trainer(same, [name], dataset_for(same), CONFIG, device=CPU, spans=spans).rounds())
        found.append(values(same)[name])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-8)


def test_frozen_layers_drop_as_tuned_ones_do_and_only_in_training(classifier: Classifier) -> None:
    data = dataset_for(classifier)
    names = names_of(classifier, ParameterSelection(patterns=("classifier",)))
    trainer = Trainer(classifier, names, data, replace(CONFIG, learning_rate=1e-9), device=CPU)
    seen: list[torch.Tensor] = []
    classifier.model.bert.encoder.layer[0].register_forward_hook(
        lambda _m, _i, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    frozen: Iterator[Any] = trainer.rounds()
    next(frozen)
    trained = len(seen)
    assert (trained, {each.requires_grad for each in seen}) == (3, {False})
    for step in (0, 0):
        trainer._step(step)
    # The same step is the same computation, dropout and all.
    assert torch.equal(seen[trained], seen[trained + 1])
    assert torch.equal(seen[trained], seen[0])
    first, again = trainer.inference.logits(data.texts), trainer.inference.logits(data.texts)
    assert np.array_equal(first, again)
    classifier.model.train()
    one, other = (trainer.inference.forward(classifier.model, data.texts[:4]) for _ in range(2))
    assert not torch.equal(one, other)


def test_bfloat16_computes_nearly_the_same_and_keeps_float32_weights(classifier: Classifier) -> None:
    data = dataset_for(classifier)
    full = Inference(classifier, CPU).logits(data.texts)
    trainer = Trainer(classifier, names_of(classifier), data, replace(CONFIG, half=True, steps=3), device=CPU)
    half = trainer.inference.logits(data.texts)
    assert 0 < np.abs(half - full).max() < 0.05
    list(trainer.rounds())
    assert {each.dtype for each in classifier.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_loss_that_is_no_number_ends_the_run(classifier: Classifier, clip: float) -> None:
    config = replace(CONFIG, learning_rate=1.0, weight_decay=0.0, clip=clip)
    with torch.no_grad():
        classifier.model.classifier.weight.fill_(torch.inf)
    before = values(classifier)
    said = r"the loss, and the gradient of .* became NaN or infinite in step 1, on the texts .* try a lower learning_"
    with pytest.raises(ToolError, match=said) as caught:
        list(Trainer(classifier, names_of(classifier), dataset_for(classifier), config, device=CPU).rounds())
    assert (caught.value.kind, caught.value.exit_code) == ("diverged", 1)
    assert all(np.array_equal(value, before[name]) for name, value in values(classifier).items())


@pytest.mark.parametrize("half", [False, True])
def test_a_gradient_that_is_no_number_ends_the_run_and_names_tensor_step_and_texts(
    classifier: Classifier, half: bool
) -> None:
    data = replace(dataset_for(classifier), places=[f"train.jsonl, line {n}" for n in range(1, 21)])
    trainer = Trainer(
        classifier, names_of(classifier), data, replace(CONFIG, half=half), device=CPU, rate="score_learning_rate"
    )
    named, calls = "bert.encoder.layer.1.output.dense.weight", []

    def third(gradient: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return gradient * torch.nan if len(calls) == 3 else gradient

    classifier.model.get_parameter(named).register_hook(third)
    rounds = trainer.rounds()
    with pytest.raises(ToolError) as caught:
        list(rounds)
    drawn = draw_steps(np.array([len(text) for text in data.texts]), 8, seed=3, epoch=0)[2]
    lines = ", ".join(f"train.jsonl, line {n + 1}" for n in drawn[:3])
    rest = f" and {len(drawn) - 3} more" if len(drawn) > 3 else ""
    assert caught.value.message.startswith(
        f"the gradient of {named} became NaN or infinite in step 3, on the texts {lines}{rest}; try a lower score_"
    )
    assert ("or precision float32" in caught.value.message) == half
    assert trainer.step == 2


def test_the_best_weights_are_kept_on_the_cpu_and_only_where_they_may_not_be_the_last(classifier: Classifier) -> None:
    trainer = Trainer(classifier, names_of(classifier), dataset_for(classifier), CONFIG, device=CPU)
    rounds = trainer.rounds()
    next(rounds)
    trainer.keep({}, best=True, last=True)
    assert list(trainer._parts()) == ["tuned"]
    last = values(classifier)
    trainer.restore_best()
    assert all(np.array_equal(value, last[name]) for name, value in values(classifier).items())
    trainer.keep({}, best=True)
    next(rounds)
    assert any((value != last[name]).any() for name, value in values(classifier).items())
    trainer.keep({}, best=False)
    assert {each.device for each in trainer._parts()["best"].parameters()} == {CPU}
    assert not any(each.requires_grad for each in trainer._parts()["best"].parameters())
    trainer.restore_best()
    assert all(np.array_equal(value, last[name]) for name, value in values(classifier).items())
