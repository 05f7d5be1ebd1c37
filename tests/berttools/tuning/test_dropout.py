"""Dropout by example: passes, their order and processes change nothing, and attention is torch's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from berttools.classifier.inference import Inference
from berttools.classifier.model import open_base
from berttools.mask_tuning.convert import can_mask, mask_model
from berttools.mask_tuning.draws import Draws
from berttools.mask_tuning.recipe import Method, Recipe
from berttools.texts.labels import Labels
from berttools.tuning import dropout
from berttools.tuning.dropout import ExampleDropout
from berttools.tuning.trainer import Trainer, TrainingConfig
from tiny_models import dataset_for, make_base

CPU = torch.device("cpu")
CONFIG = TrainingConfig(steps=8, every=8, batch=8, learning_rate=1e-4, clip=0.0, seed=3)
STEP = np.array([17, 4, 9, 12, 0])
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=["numpy", "torch"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Draw as on a CPU, and as on a GPU."""
    if request.param == "torch":
        monkeypatch.setattr(dropout, "_NUMPY", frozenset[str]())
    return str(request.param)


@pytest.fixture(scope="module", params=["bert", "distilbert", "roberta", "deberta-v2"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("tiny") / "base", request.param)


def gradients(base: Path, step: int = 0, **more: Any) -> dict[str, npt.NDArray[np.float32]]:
    """Return the gradient of one step; with ``masked`` that of a mask's scores and the head."""
    masked = more.pop("masked", False)
    classifier = open_base(base, Labels(("0", "1")), seed=0)
    tuned, draws = [name for name, _ in classifier.model.named_parameters()], Draws(0, CONFIG.steps, step)
    if masked:
        matrices = [name for name in tuned if name not in classifier.head and can_mask(classifier.model, name)]
        recipe = Recipe(Method.bernoulli, initial_score=1.0)
        tuned = [*mask_model(classifier.model, matrices, recipe, draws).values(), *classifier.head]
    trainer = Trainer(classifier, tuned, dataset_for(classifier), replace(CONFIG, **more), device=CPU)
    trainer.inference.model.train()
    trainer._step(step)
    parameters = dict(classifier.model.named_parameters())
    found = {name: parameters[name].grad for name in trainer.names}
    return {name: each.numpy() for name, each in found.items() if each is not None}


@pytest.mark.parametrize(("masked", "step"), [(False, 0), (True, 2)])
def test_a_step_has_the_same_gradient_in_however_many_passes(
    tiny: Path, source: str, masked: bool, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    del source
    whole = gradients(tiny, step, masked=masked)
    size = max(np.abs(each).max() for each in whole.values())
    for parts in (2, 4):
        found = gradients(tiny, step, masked=masked, accumulate=parts)
        assert found.keys() == whole.keys()
        for name, each in whole.items():
            np.testing.assert_allclose(found[name], each, atol=1e-6 * size, err_msg=name)
    # It is dropout that agrees, and not that there is none.
    key = ExampleDropout._key
    monkeypatch.setattr(ExampleDropout, "_key", lambda self, *numbers: key(self, *numbers, 1))
    other = gradients(tiny, step, masked=masked)
    apart = [np.abs(other[name] - each).max() / max(np.abs(each).max(), 1e-9) for name, each in whole.items()]
    assert np.median(apart) > 0.1


def test_in_bfloat16_it_is_the_same_to_its_own_rounding(tiny: Path) -> None:
    whole, parts = (gradients(tiny, half=True, accumulate=count) for count in (1, 4))
    size = max(np.abs(each).max() for each in whole.values())
    for name, each in whole.items():
        np.testing.assert_allclose(parts[name], each, atol=1e-2 * size, err_msg=name)


def test_what_stands_beside_an_example_and_in_which_order_changes_nothing(tiny: Path, source: str) -> None:
    del source
    classifier = open_base(tiny, Labels(("0", "1")), seed=0)
    data, inference = dataset_for(classifier), Inference(classifier, CPU)
    length = max(len(data.texts[number]) for number in STEP)
    classifier.model.train()

    def logits(*rows: int, step: int = 2) -> Tensor:
        with torch.no_grad(), ExampleDropout(5, step, np.array(rows), STEP, CPU):
            return inference.forward(classifier.model, [data.texts[row] for row in rows], length=length)

    whole = logits(*STEP)
    assert torch.equal(logits(*STEP), whole)
    torch.testing.assert_close(logits(0, 9, 4, 17, 12)[[3, 2, 1, 4, 0]], whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.cat([logits(17, 9), logits(0)]), whole[[0, 2, 4]], atol=1e-6, rtol=0)
    assert ((logits(*STEP, step=3) - whole).abs().amax(1) > 1e-4).all()


def test_a_step_leaves_torchs_generators_as_they_were(tiny: Path) -> None:
    classifier = open_base(tiny, Labels(("0", "1")), seed=0)
    trainer = Trainer(classifier, list(classifier.head), dataset_for(classifier), CONFIG, device=CPU)
    trainer.inference.model.train()
    state = torch.get_rng_state()
    trainer._step(0)
    assert torch.equal(torch.get_rng_state(), state)


def drop(values: Tensor, p: float = 0.25, examples: Any = STEP, *, step: int = 1, calls: int = 1) -> Tensor:
    """Drop, at the last of some calls."""
    with ExampleDropout(0, step, np.asarray(examples), STEP, CPU):
        for _ in range(calls):
            found = F.dropout(values, p)
    return found


def test_as_many_are_dropped_as_should_be_and_the_mean_stays(source: str) -> None:
    del source
    found = drop(torch.ones(5, 40, 1000))
    assert set(found.unique().tolist()) == {0.0, found.max().item()}
    assert found.max() == pytest.approx(4 / 3)
    assert (found == 0).float().mean(dim=(1, 2)).numpy() == pytest.approx(0.25, abs=0.01)
    assert (found == 0).float().mean(dim=(0, 1)).std() == pytest.approx(np.sqrt(0.25 * 0.75 / 200), rel=0.1)
    # Examples, steps and calls have nothing to do with each other.
    others = [found.roll(1, 0), drop(torch.ones(5, 40, 1000), step=2), drop(torch.ones(5, 40, 1000), calls=2)]
    for other in others:
        both = torch.corrcoef(torch.stack([(each == 0).float().flatten() for each in (found, other)]))
        assert abs(both[0, 1]) < 0.01


def test_values_of_no_example_are_dropped_alike_in_all_passes_of_a_step(source: str) -> None:
    del source
    positions = torch.ones(32, 16)
    whole = drop(positions)
    assert torch.equal(drop(positions, examples=[4]), whole)
    assert torch.equal(drop(positions, examples=[12, 9]), whole)
    assert not torch.equal(drop(positions, step=2), whole)
    assert not torch.equal(drop(positions, calls=2), whole)


def test_where_time_comes_first_a_pass_is_dropped_by_its_examples_together(source: str) -> None:
    del source
    values = torch.ones(32, 2, 16)
    whole = drop(values, examples=[4, 9])
    assert torch.equal(drop(values, examples=[9, 4]), whole)
    assert not torch.equal(drop(values, examples=[4, 12]), whole)


def test_what_is_not_to_be_dropped_is_left_as_it_is() -> None:
    values = torch.randn(5, 7)
    with ExampleDropout(0, 0, STEP, STEP, CPU):
        assert torch.equal(F.dropout(values, 0.5, training=False), values)
        assert torch.equal(F.dropout(values, 0.0), values)
        assert torch.equal(F.dropout(values, 1.0), torch.zeros(5, 7))
        assert F.dropout(torch.ones(0, 3), 0.5).shape == (0, 3)
        with pytest.raises(ValueError, match="between 0 and 1"):
            F.dropout(values, 1.5)
        inside = torch.ones(5, 7)
        assert torch.nn.Dropout(0.5, inplace=True)(inside) is inside
    assert set(inside.unique().tolist()) == {0.0, 2.0}


KEPT = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(2)) > 0.3
KEPT[0, 0, 2] = False  # a row that may look nowhere


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"attn_mask": KEPT},
        {"attn_mask": torch.where(KEPT, 0.3, -torch.inf)},
        {"attn_mask": torch.linspace(-1, 1, 36).view(6, 6), "scale": 0.7},
        {"is_causal": True},
        {"attn_mask": KEPT, "enable_gqa": True},
    ],
)
def test_attention_is_that_of_torch(how: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(1)
    heads = 2 if how.get("enable_gqa") else 4
    shapes = (5, 4, 6, 8), (5, heads, 6, 8), (5, heads, 6, 3)
    ours, theirs = ([torch.randn(shape, generator=generator).requires_grad_() for shape in shapes] for _ in range(2))
    for each, other in zip(ours, theirs, strict=True):
        other.data.copy_(each.data)
    expected = F.scaled_dot_product_attention(*theirs, **how)
    expected.square().sum().backward()
    with ExampleDropout(0, 0, STEP, STEP, CPU):
        # A probability that rounds to none: all that is left is the arithmetic.
        found = F.scaled_dot_product_attention(*ours, dropout_p=1e-9, **how)
    found.square().sum().backward()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    for each, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(each.grad, other.grad, atol=1e-5, rtol=0)


def test_attention_drops_weights(source: str) -> None:
    del source
    equal, names = torch.zeros(5, 2, 8, 4), torch.eye(8).expand(5, 2, 8, 8)
    with ExampleDropout(0, 0, STEP, STEP, CPU):
        weights = F.scaled_dot_product_attention(equal, equal, names, dropout_p=0.5)
    assert set(weights.unique().tolist()) == {0.0, 0.25}
    with pytest.raises(RuntimeError, match="causal"), ExampleDropout(0, 0, STEP, STEP, CPU):
        mask = torch.ones(8, 8, dtype=torch.bool)
        F.scaled_dot_product_attention(equal, equal, names, attn_mask=mask, dropout_p=0.5, is_causal=True)
