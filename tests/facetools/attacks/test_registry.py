"""Finding attacks and reading their settings."""

from __future__ import annotations

import inspect
import itertools

import pytest

from _toolio.errors import UsageError
from facetools.attacks import registry as attacks
from facetools.attacks.base import Method
from facetools.attacks.registry import fill_knobs, find, names, parse_knobs


def test_attacks_are_found_by_their_files() -> None:
    assert {"fawkes-v0.3", "fawkes-v1.0", "lowkey", "none", "opom", "tip-im"} <= set(names())
    assert list(names()) == sorted(names())
    assert not [name for name in names() if "shared" in name]


@pytest.mark.parametrize("name", names())
def test_it_describes_itself(name: str) -> None:
    method = find(name)
    first_line = (inspect.getdoc(method.function) or "").splitlines()[0]
    assert first_line.endswith((".", ":"))
    parameters = list(inspect.signature(method.function).parameters.values())
    assert [p.name for p in parameters[:2]] == (["views", "mask_shape"] if method.per_person else ["view", "photos"])
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[2:])
    assert "seeds" not in method.knobs
    assert all(type(value) in (int, float) and value >= 0 for value in method.knobs.values())


@pytest.mark.parametrize("name", [name for name in names() if find(name).modes])
def test_modes_are_knobs_and_the_default_mode_is_the_default(name: str) -> None:
    method = find(name)
    assert method.default_mode in (None, *method.modes)  # None: the attack as published is none of them
    for mode, settings in method.modes.items():
        assert settings.keys() <= method.knobs.keys()
        assert all(type(value) is type(method.knobs[knob]) for knob, value in settings.items())
        assert parse_knobs(method, mode, []) == {**method.knobs, **settings}
    assert parse_knobs(method, None, []) == method.knobs


@pytest.mark.parametrize("name", [name for name in names() if "dssim_budget" in find(name).knobs])
def test_modes_go_from_weak_to_strong(name: str) -> None:
    modes = list(find(name).modes.values())
    assert len(modes) >= 3
    for weak, strong in itertools.pairwise(modes):
        assert weak["dssim_budget"] < strong["dssim_budget"]
        assert weak["steps"] < strong["steps"]
        assert weak["learning_rate"] > strong["learning_rate"]


def test_knobs_are_parsed_to_the_type_of_their_default() -> None:
    lowkey = find("lowkey")
    values = parse_knobs(lowkey, None, ["steps=20", "step_size=1e-2", "start_noise=0"])
    assert values == {**lowkey.knobs, "steps": 20, "step_size": 0.01, "start_noise": 0.0}
    assert (type(values["steps"]), type(values["start_noise"])) == (int, float)
    assert parse_knobs(lowkey, None, []) == lowkey.knobs
    assert parse_knobs(lowkey, None, ["steps=1", "steps=2"])["steps"] == 2


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
        parse_knobs(find("lowkey"), None, [setting])
    assert caught.value.message.startswith(f"knobs {setting}: ")


def test_an_attack_without_knobs() -> None:
    assert parse_knobs(find("none"), None, []) == {}
    with pytest.raises(UsageError, match="none has the knobs none"):
        parse_knobs(find("none"), None, ["steps=1"])


def test_an_unknown_attack() -> None:
    with pytest.raises(UsageError, match=r"attack fawkess: not known; choose from .*lowkey, none"):
        attacks.find("fawkess")


def test_a_mode_sets_knobs_and_settings_go_over_it() -> None:
    method = find("fawkes-v1.0")
    values = parse_knobs(method, "high", ["steps=3"])
    assert (values["dssim_budget"], values["steps"], values["learning_rate"]) == (0.017, 3, 15.0)
    with pytest.raises(UsageError, match=r"mode ultra: fawkes-v1.0 has no such mode; choose from low, mid, high"):
        parse_knobs(method, "ultra", [])
    with pytest.raises(UsageError, match="mode low: none has no such mode; it has none"):
        parse_knobs(find("none"), "low", [])


def test_help_lists_every_attack_with_its_knobs_in_short() -> None:
    text = attacks.list_knobs()
    assert all(f"{name}" in text for name in names())
    assert "epsilon=0.05882," in text
    assert "(low|mid|high; low)" in text
    assert isinstance(find("opom"), Method)


@pytest.mark.parametrize(
    ("name", "older", "today"), [("fawkes-v1.0", "bound", "epsilon"), ("opom", "step_size", "alpha")]
)
def test_an_older_name_of_a_knob_is_the_same_knob(name: str, older: str, today: str) -> None:
    method = find(name)
    assert today in method.knobs
    assert older not in method.knobs
    by_older, by_today = (parse_knobs(method, None, [f"{knob}=0.5"]) for knob in (older, today))
    assert by_older == by_today == {**method.knobs, today: 0.5}
    assert fill_knobs(method, None, {older: 0.25})[today] == 0.25
    # Records, journals and files of masks know one name, whichever was given.
    recorded = method.recorded(by_today)
    assert recorded == {**{key: value for key, value in by_today.items() if key != today}, older: 0.5}
    assert list(recorded)[list(method.knobs).index(today)] == older
    assert method.recorded(recorded) == recorded
    with pytest.raises(UsageError, match=f"^knobs {older}=-1: {today} cannot be negative$"):
        parse_knobs(method, None, [f"{older}=-1"])


def test_modes_of_lowkey_go_from_weak_to_strong_and_its_default_is_the_strongest() -> None:
    weights = [find("lowkey").modes[name]["perceptual_weight"] for name in ("low", "mid", "high")]
    assert weights == sorted(weights, reverse=True)
    assert fill_knobs(find("lowkey"), "high", {}) == fill_knobs(find("lowkey"), None, {})
    assert find("lowkey").knobs["large_brightness"] == 1


def test_a_knob_that_came_later_is_recorded_where_it_changes_something() -> None:
    """Folders that were begun before it are resumed, and records of runs without it stay as they are."""
    lowkey = find("lowkey")
    assert "falling" not in lowkey.recorded(fill_knobs(lowkey, "high", {}))
    assert lowkey.recorded(fast := fill_knobs(lowkey, "fast", {})) == fast
    assert (fast["falling"], 2 * fast["steps"]) == (1, lowkey.knobs["steps"])


@pytest.mark.parametrize(("name", "default"), [("tip-im", None), ("opom", "convex-hull")])
def test_modes_of_bounded_attacks_go_from_weak_to_strong_and_leave_the_default_as_published(
    name: str, default: str | None
) -> None:
    """The default keeps its name too, or folders begun earlier could not be resumed."""
    method = find(name)
    low, mid, high = (parse_knobs(method, mode, []) for mode in ("low", "mid", "high"))
    assert 0 < low["epsilon"] < mid["epsilon"] < high["epsilon"]
    assert {**low, "epsilon": 0} == {**mid, "epsilon": 0} == {**high, "epsilon": 0}
    assert high == parse_knobs(method, None, []) == method.knobs
    assert method.default_mode == default
