"""What --only, --group, --layers and --freeze choose."""

from __future__ import annotations

import json

import pytest

from _toolio.errors import ToolError, UsageError
from berttools.selecting import Choice, parse_freeze, parse_groups, parse_layers, read_named

SHAPES = {
    "bert.embeddings.word_embeddings.weight": (30, 8),
    **{
        f"bert.encoder.layer.{layer}.{part}": shape
        for layer in range(3)
        for part, shape in {
            "attention.self.query.weight": (8, 8),
            "attention.self.query.bias": (8,),
            "attention.self.key.weight": (8, 8),
            "attention.output.dense.weight": (8, 8),
            "output.LayerNorm.weight": (8,),
        }.items()
    },
    "classifier.weight": (2, 8),
}
BASE = {name: name.removeprefix("bert.") for name in SHAPES if name.startswith("bert.")}
HEAD = {"classifier.weight"}


def chosen(choice: Choice, shapes: dict[str, tuple[int, ...]] = SHAPES) -> list[str]:
    return choice.resolve(shapes, base=BASE, head=HEAD, others=["cls.predictions.bias"])


def lines(*records: object) -> list[bytes]:
    return [(each if isinstance(each, str) else json.dumps(each)).encode() + b"\n" for each in records]


QUERY = "bert.encoder.layer.{}.attention.self.query.weight"


def test_everything() -> None:
    assert chosen(Choice()) == list(SHAPES)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Choice(groups=("Q",)), [QUERY.format(n) for n in range(3)]),
        (Choice(groups=("Q",), layers=frozenset([1])), [QUERY.format(1)]),
        (Choice(patterns=("query",), layers=frozenset([0])), [QUERY.format(0), QUERY.format(0)[:-6] + "bias"]),
        (Choice(patterns=(r"^encoder\.layer\.2.*query.w", "embeddings")), [next(iter(SHAPES)), QUERY.format(2)]),
        (Choice(groups=("Q", "K"), freeze=("key",), layers=frozenset([2])), [QUERY.format(2)]),
        (Choice(groups=("Q", "K"), freeze_groups=("K",), layers=frozenset([2])), [QUERY.format(2)]),
    ],
)
def test_what_all_that_is_given_admits_is_tuned_and_the_head(choice: Choice, expected: list[str]) -> None:
    assert chosen(choice) == [*expected, "classifier.weight"]


def test_the_head_alone_and_the_head_frozen() -> None:
    assert chosen(Choice(patterns=("classifier",))) == ["classifier.weight"]
    assert chosen(Choice(groups=("Q",), freeze=("classifier",))) == [QUERY.format(n) for n in range(3)]


def test_names_and_records_on_stdin() -> None:
    named = read_named(
        lines(
            {"angle": 0.1, "name": "encoder.layer.1.attention.self.query.weight", "layer": 1, "group": "Q"},
            "bert.encoder.layer.0.output.LayerNorm.weight",
            "",
            {"angle": None, "name": "classifier.bias", "only_in": "ft"},
            {"angle": None, "name": "cls.predictions.bias"},
        )
    )
    expected = ["bert.encoder.layer.0.output.LayerNorm.weight", QUERY.format(1), "classifier.weight"]
    assert chosen(Choice(named)) == expected


def test_records_of_layers_and_groups_on_stdin() -> None:
    layer = chosen(Choice(read_named(lines({"by": "layer", "layer": 2}))))
    assert layer == [*(name for name in SHAPES if ".2." in name), "classifier.weight"]
    group = chosen(Choice(read_named(lines({"by": "group", "group": "K"}))))
    assert group == [f"bert.encoder.layer.{n}.attention.self.key.weight" for n in range(3)] + ["classifier.weight"]
    cell = chosen(Choice(read_named(lines({"layer": 0, "group": "Q"}))))
    assert cell == [QUERY.format(0), "classifier.weight"]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"name": "nowhere.weight"}], "stdin, line 1: the model has no tensor nowhere.weight"),
        ([{"layer": 7}], "stdin, line 1: the model has no layer 7"),
        ([{"layer": 0, "group": "O"}], "the model has no layer 0 group O"),
        ([{"angle": 1}], "has no name, no layer and no group"),
        ([{"by": "layer", "layer": None}], "has no name, no layer and no group"),
        ([], "stdin names no tensor"),
        ([{"name": "cls.predictions.bias"}], "nothing is left to tune"),
        (["{broken"], "stdin, line 1: not a JSON record"),
    ],
)
def test_what_stdin_cannot_name(records: list[object], message: str) -> None:
    with pytest.raises(ToolError) as raised:
        chosen(Choice(read_named(lines(*records))))
    assert message in raised.value.message


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(groups=("V",)), "--group V: no matrix of the model is known as one"),
        (Choice(layers=frozenset([2, 3])), "--layers 3: the model has none such; its layers are 0 to 2"),
        (Choice(patterns=("xyz",)), "--only xyz: fits no tensor"),
        (Choice(freeze=("xyz",)), "--freeze xyz: fits no tensor"),
        (Choice(groups=("Q",), freeze_groups=("Q",)), "nothing is left to tune"),
        (Choice(freeze=(".",)), "nothing is left to tune"),
    ],
)
def test_what_the_model_lacks(choice: Choice, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        chosen(choice)
    assert message in raised.value.message


def test_a_matrix_that_holds_three_groups_is_tuned_as_a_whole() -> None:
    shapes = {"model.layers.0.attn.Wqkv.weight": (24, 8), "model.layers.0.mlp.Wo.weight": (8, 8)}
    assert Choice(groups=("Q", "K", "V")).resolve(shapes, base={}, head=()) == ["model.layers.0.attn.Wqkv.weight"]
    with pytest.raises(UsageError, match="holds Q,K,V in one; give all of them"):
        Choice(groups=("Q",)).resolve(shapes, base={}, head=())


def test_words_of_options() -> None:
    assert parse_groups("Q, K,Q") == ("Q", "K")
    assert parse_layers("0,8-10") == {0, 8, 9, 10}
    assert parse_freeze(["Q,K", "^embed", "O"]) == (("^embed",), ("Q", "K", "O"))
    for wrong in (lambda: parse_groups("Q,X"), lambda: parse_layers("3-1"), lambda: parse_layers("-"),
                  lambda: parse_freeze(["(("])):  # fmt: skip
        with pytest.raises(UsageError):
            wrong()
