"""The contract of every attack there is, and what is particular to one."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from _toolio.errors import UsageError
from facetools import attacks
from facetools.attacks import find, knobs, names, parse_knobs
from facetools.perceptual import multiscale_dssim

SIZE = (26, 30)


class TinyView:
    """Two small recognisers whose photos do not influence each other."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(7)
        self.filters = [torch.randn(8, 3, 5, 5, generator=generator) for _ in range(2)]

    def features(self, photos: torch.Tensor) -> list[torch.Tensor]:
        return [F.conv2d(photos, filters, stride=3).tanh().mean(3).flatten(1) for filters in self.filters]

    def perceptual(self, photos: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        return multiscale_dssim(photos, clean)


def photos(count: int = 3, *, grey: bool = False) -> torch.Tensor:
    made = torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    # Whole bytes, as photos have them; with black and white areas, where an attack meets the limits.
    made = (made * 1.4 - 0.2).clamp(0, 1).mul(255).round() / 255
    return made[:, :1].expand(-1, 3, -1, -1).contiguous() if grey else made


def few_steps(name: str) -> dict[str, Any]:
    return {"steps": 5} if "steps" in knobs(find(name)) else {}


def run(name: str, batch: torch.Tensor, seeds: list[int], **settings: Any) -> torch.Tensor:
    result: torch.Tensor = find(name)(TinyView(), batch, seeds=seeds, **{**few_steps(name), **settings})
    return result


def moved(cloaked: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    view = TinyView()
    pairs = zip(view.features(cloaked), view.features(clean), strict=True)
    return torch.stack([1 - F.cosine_similarity(a, b) for a, b in pairs]).mean(0)


def test_attacks_are_found_by_their_files() -> None:
    assert {"lowkey", "none"} <= set(names())
    assert list(names()) == sorted(names())


@pytest.mark.parametrize("name", names())
class TestEveryAttack:
    def test_it_describes_itself(self, name: str) -> None:
        function = find(name)
        first_line = (inspect.getdoc(function) or "").splitlines()[0]
        assert first_line.endswith((".", ":"))
        parameters = list(inspect.signature(function).parameters.values())
        assert [p.name for p in parameters[:2]] == ["view", "photos"]
        assert all(p.kind is p.KEYWORD_ONLY for p in parameters[2:])
        assert "seeds" not in knobs(function)
        assert all(type(value) in (int, float) and value >= 0 for value in knobs(function).values())

    def test_output_is_a_photo(self, name: str) -> None:
        clean = photos()
        before = clean.clone()
        cloaked = run(name, clean, [1, 2, 3])
        assert (cloaked.shape, cloaked.dtype) == (clean.shape, torch.float32)
        assert cloaked.min() >= 0
        assert cloaked.max() <= 1
        assert not cloaked.requires_grad
        assert torch.equal(clean, before), "the input must not be changed"
        assert cloaked.data_ptr() != clean.data_ptr()

    def test_the_same_seed_gives_the_same_bytes(self, name: str) -> None:
        torch.manual_seed(0)
        first = run(name, photos(), [1, 2, 3])
        torch.manual_seed(1)
        assert torch.equal(first, run(name, photos(), [1, 2, 3]))

    def test_photos_of_a_batch_do_not_influence_each_other(self, name: str) -> None:
        together = run(name, photos(), [5, 6, 7])
        for number in range(3):
            alone = run(name, photos()[number : number + 1], [5 + number])
            # A slope that rounds to the other side of zero flips a sign step: rare, and no more than that.
            assert ((together[number] - alone[0]).abs() > 1e-6).float().mean() < 0.01

    def test_grey_stays_grey(self, name: str) -> None:
        cloaked = run(name, photos(grey=True), [1, 2, 3])
        assert (cloaked == cloaked[:, :1]).all()

    def test_one_grey_photo_of_a_batch(self, name: str) -> None:
        mixed = torch.cat([photos(1), photos(1, grey=True)])
        cloaked = run(name, mixed, [1, 2])
        assert (cloaked[1] == cloaked[1, :1]).all()
        assert not (cloaked[0] == cloaked[0, :1]).all()


def test_none_changes_nothing() -> None:
    assert torch.equal(run("none", photos(), [1, 2, 3]), photos())


@pytest.mark.parametrize(("steps", "step_size", "start_noise"), [(0, 0.1, 0.005), (1, 0.01, 0.0), (6, 0.0025, 0.005)])
def test_lowkey_is_bounded_by_noise_and_steps(steps: int, step_size: float, start_noise: float) -> None:
    change = run("lowkey", photos(), [1, 2, 3], steps=steps, step_size=step_size, start_noise=start_noise) - photos()
    bound = start_noise + steps * step_size
    assert change.abs().max() <= bound + 1e-6
    assert change.abs().max() > bound * 0.8


def test_lowkey_without_steps_is_noise_of_its_seed() -> None:
    one, other = (run("lowkey", photos(1), [seed], steps=0) for seed in (1, 2))
    assert not torch.equal(one, other)
    assert 0 < (one - photos(1)).abs().max() <= 0.005 + 1e-6


def lowkey_objective(cloaked: torch.Tensor, clean: torch.Tensor, weight: float = 0.05) -> torch.Tensor:
    """The paper's objective, for one photo after the other, blurred by plain convolution."""
    view, total = TinyView(), []
    steps = torch.arange(7) - 3.0
    line = torch.exp(-(steps**2) / 18)
    kernel = (line[:, None] * line / line.sum() ** 2).expand(3, 1, 7, 7)
    for x, c in zip(cloaked[:, None], clean[:, None], strict=True):
        blurred = F.conv2d(F.pad(x, (3, 3, 3, 3), mode="reflect"), kernel, groups=3)
        terms = []
        for plain, smoothed, anchor in zip(view.features(x), view.features(blurred), view.features(c), strict=True):
            v = F.normalize(anchor)
            both = [((F.normalize(f) - v) ** 2).mean() / v.norm() for f in (plain, smoothed)]
            terms.append(sum(both) / 2)
        total.append(sum(terms) / len(terms) - weight * view.perceptual(x, c)[0])
    return torch.stack(total)


def test_lowkey_raises_its_objective_step_by_step() -> None:
    clean = photos()
    values = [lowkey_objective(run("lowkey", clean, [1, 2, 3], steps=steps), clean) for steps in (0, 3, 10, 30)]
    for before, after in itertools.pairwise(values):
        assert (after > before).all()
    far = moved(run("lowkey", clean, [1, 2, 3], steps=30), clean)
    assert (far > 5 * moved(run("lowkey", clean, [1, 2, 3], steps=0), clean)).all()


def test_one_step_of_lowkey_follows_the_slope_of_its_objective() -> None:
    clean = photos()
    start = run("lowkey", clean, [1, 2, 3], steps=0).clamp(0.02, 0.98)
    # Without noise a photo's own slope is that of the blurred member alone; away from the limits nothing is clamped.
    leaf = start.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(lowkey_objective(leaf, start, weight=0.05).sum(), leaf)
    stepped = run("lowkey", start, [1, 2, 3], steps=1, start_noise=0.0, step_size=0.01)
    agree = ((stepped - start).sign() == slope.sign())[slope.abs() > slope.abs().mean() / 10]
    assert agree.float().mean() > 0.99


def test_a_larger_perceptual_weight_keeps_photos_closer() -> None:
    clean = photos()
    close = multiscale_dssim(run("lowkey", clean, [1, 2, 3], steps=15, perceptual_weight=50.0), clean)
    free = multiscale_dssim(run("lowkey", clean, [1, 2, 3], steps=15, perceptual_weight=0.0), clean)
    assert (close < free).all()


def test_knobs_are_parsed_to_the_type_of_their_default() -> None:
    lowkey = find("lowkey")
    values = parse_knobs(lowkey, "lowkey", ["steps=20", "step_size=1e-2", "start_noise=0"])
    assert values == {**knobs(lowkey), "steps": 20, "step_size": 0.01, "start_noise": 0.0}
    assert (type(values["steps"]), type(values["start_noise"])) == (int, float)
    assert parse_knobs(lowkey, "lowkey", []) == knobs(lowkey)
    assert parse_knobs(lowkey, "lowkey", ["steps=1", "steps=2"])["steps"] == 2


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("steps", "lowkey has the knobs steps=50, step_size=0.0025"),
        ("speed=3", "lowkey has the knobs"),
        ("seeds=1", "lowkey has the knobs"),
        ("steps=", "'' is no int"),
        ("steps=1.5", "'1.5' is no int"),
        ("step_size=fast", "'fast' is no float"),
        ("steps=-1", "steps cannot be negative"),
        ("step_size=nan", "step_size"),
        ("step_size=inf", "step_size"),
        ("smooth_size_px=6", "odd"),
        ("smooth_size_px=0", "odd"),
        ("smooth_sigma_px=0", "smooth_sigma_px"),
    ],
)
def test_knobs_that_cannot_be(setting: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_knobs(find("lowkey"), "lowkey", [setting])
    assert caught.value.message.startswith(f"--set {setting}: ")


def test_an_attack_without_knobs() -> None:
    assert parse_knobs(find("none"), "none", []) == {}
    with pytest.raises(UsageError, match="none has the knobs none"):
        parse_knobs(find("none"), "none", ["steps=1"])


def test_an_unknown_attack() -> None:
    with pytest.raises(UsageError, match=r"--attack fawkess: not known; choose from .*lowkey, none"):
        attacks.find("fawkess")
