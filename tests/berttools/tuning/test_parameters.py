"""What --only, --group, --layers and --freeze choose."""

from __future__ import annotations

import json

import pytest

from _toolio.errors import ToolError, UsageError
from berttools.tuning.parameter_names import read_named
from berttools.tuning.parameters import ParameterSelection as Selection

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


def chosen(choice: Selection, shapes: dict[str, tuple[int, ...]] = SHAPES) -> list[str]:
    return choice.resolve(shapes, base=BASE, head=HEAD, others=["cls.predictions.bias"])


def lines(*records: object) -> list[bytes]:
    return [(each if isinstance(each, str) else json.dumps(each)).encode() + b"\n" for each in records]


QUERY = "bert.encoder.layer.{}.attention.self.query.weight"


def test_everything() -> None:
    assert chosen(Selection()) == list(SHAPES)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (Selection(groups=("Q",)), [QUERY.format(n) for n in range(3)]),
        (Selection(groups=("Q",), layers=frozenset([1])), [QUERY.format(1)]),
        (
            Selection(patterns=("query",), layers=frozenset([0])),
            [QUERY.format(0), QUERY.format(0)[:-6] + "bias"],
        ),
        (
            Selection(patterns=(r"^encoder\.layer\.2.*query.w", "embeddings")),
            [next(iter(SHAPES)), QUERY.format(2)],
        ),
        (Selection(groups=("Q", "K"), freeze=("key",), layers=frozenset([2])), [QUERY.format(2)]),
        (Selection(groups=("Q", "K"), freeze_groups=("K",), layers=frozenset([2])), [QUERY.format(2)]),
    ],
)
def test_what_all_that_is_given_admits_is_tuned_and_the_head(choice: Selection, expected: list[str]) -> None:
    assert chosen(choice) == [*expected, "classifier.weight"]


def test_the_head_alone_and_the_head_frozen() -> None:
    assert chosen(Selection(patterns=("classifier",))) == ["classifier.weight"]
    assert chosen(Selection(groups=("Q",), freeze=("classifier",))) == [QUERY.format(n) for n in range(3)]


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
    assert chosen(Selection(named)) == expected


def test_records_of_layers_and_groups_on_stdin() -> None:
    layer = chosen(Selection(read_named(lines({"by": "layer", "layer": 2}))))
    assert layer == [*(name for name in SHAPES if ".2." in name), "classifier.weight"]
    group = chosen(Selection(read_named(lines({"by": "group", "group": "K"}))))
    assert group == [f"bert.encoder.layer.{n}.attention.self.key.weight" for n in range(3)] + ["classifier.weight"]
    cell = chosen(Selection(read_named(lines({"layer": 0, "group": "Q"}))))
    assert cell == [QUERY.format(0), "classifier.weight"]


def test_a_record_of_what_belongs_to_no_layer_or_group_on_stdin() -> None:
    assert chosen(Selection(read_named(lines({"angle": 0.1, "by": "layer", "layer": None})))) == [
        "bert.embeddings.word_embeddings.weight", "classifier.weight",
    ]  # fmt: skip
    group = chosen(Selection(read_named(lines({"angle": 0.1, "by": "group", "group": None}))))
    assert group == [name for name in SHAPES if not any(part in name for part in ("query.w", "key", "dense"))]
    layered = {name: shape for name, shape in SHAPES.items() if ".layer." in name}
    with pytest.raises(UsageError, match="line 1: every tensor of the model has a layer"):
        Selection(read_named(lines({"by": "layer", "layer": None}))).resolve(layered, base={}, head=())


WQKV, CATTN = "layers.{}.attn.Wqkv.weight", "h.{}.attn.c_attn.weight"
FUSED = {WQKV.format(0): (24, 8), WQKV.format(1): (24, 8), CATTN.format(2): (8, 24), "layers.0.mlp.Wo.weight": (8, 8)}


def part(name: str, start: int, stop: int, axis: int = 0) -> dict[str, object]:
    return {"angle": 0.2, "name": name, "part": {"axis": axis, "start": start, "stop": stop}}


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([part(WQKV.format(0), 8, 16)], {WQKV.format(0): ((0, 8, 16),)}),
        ([part(CATTN.format(2), 16, 24, 1)], {CATTN.format(2): ((1, 16, 24),)}),
        ([part(WQKV.format(0), 16, 24), part(WQKV.format(0), 0, 8)], {WQKV.format(0): ((0, 0, 8), (0, 16, 24))}),
        ([part(WQKV.format(0), 8, 16), part(WQKV.format(0), 0, 8)], {WQKV.format(0): ((0, 0, 16),)}),
        ([part(WQKV.format(0), *each) for each in ((0, 8), (8, 16), (16, 24))], {WQKV.format(0): ()}),
        ([part(WQKV.format(0), 0, 8), WQKV.format(0)], {WQKV.format(0): ()}),
        ([part(WQKV.format(0), 0, 8), {"by": "layer", "layer": 0}], {WQKV.format(0): (), "layers.0.mlp.Wo.weight": ()}),
        ([{"layer": 1, "group": "K"}], {WQKV.format(1): ((0, 8, 16),)}),
        (
            [{"by": "group", "group": "V"}],
            {WQKV.format(0): ((0, 16, 24),), WQKV.format(1): ((0, 16, 24),), CATTN.format(2): ((1, 16, 24),)},
        ),
        ([{"by": "group", "group": "O"}], {"layers.0.mlp.Wo.weight": ()}),
    ],
)
def test_of_a_fused_matrix_only_the_part_is_tuned_that_a_record_names(
    records: list[object], expected: dict[str, tuple[object, ...]]
) -> None:
    choice = Selection(read_named(lines(*records)))
    tuned = choice.resolve(FUSED, base={}, head=())
    assert tuned == list(expected)
    assert choice.spans(tuned, FUSED, base={}, head=()) == {name: each for name, each in expected.items() if each}
    prefixed = {f"model.{name}": shape for name, shape in FUSED.items()}
    base = {f"model.{name}": name for name in FUSED}
    assert choice.spans(choice.resolve(prefixed, base=base, head=()), prefixed, base=base, head=()) == {
        f"model.{name}": each for name, each in expected.items() if each
    }


def test_rows_and_columns_of_one_tensor_and_no_parts_where_stdin_names_none() -> None:
    choice = Selection(read_named(lines(part(WQKV.format(0), 0, 8), part(WQKV.format(0), 0, 4, 1))))
    with pytest.raises(UsageError, match=r"rows and columns of layers\.0\.attn\.Wqkv\.weight; give one"):
        choice.spans(choice.resolve(FUSED, base={}, head=()), FUSED, base={}, head=())
    assert Selection(groups=("Q", "K", "V")).spans(list(FUSED), FUSED, base={}, head=()) == {}
    named = Selection(read_named(lines(part(WQKV.format(0), 0, 8))))
    assert named.spans([WQKV.format(0)], FUSED, base={}, head=[WQKV.format(0)]) == {}, "a head is tuned whole"


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"name": "nowhere.weight"}], "stdin, line 1: the model has no tensor nowhere.weight"),
        ([{"layer": 7}], "stdin, line 1: the model has no layer 7"),
        ([{"layer": 0, "group": "O"}], "the model has no layer 0 group O"),
        ([{"angle": 1}], "has no name, no layer and no group"),
        ([{"by": "model", "layer": None}], "has no name, no layer and no group"),
        ([{"name": QUERY.format(0), "part": {"axis": 0, "start": 4, "stop": 9}}], "line 1: bert.encoder.layer.0"),
        ([{"name": QUERY.format(0), "part": {"axis": 2, "start": 0, "stop": 4}}], "no part of axis 2 from 0 to 4"),
        ([{"name": QUERY.format(0), "part": {"axis": 0, "start": 4, "stop": 4}}], "no part of axis 0 from 4 to 4"),
        ([{"name": QUERY.format(0)[:-6] + "bias", "part": {"axis": 0, "start": 0, "stop": 4}}], "of shape [8] has no"),
        ([{"name": QUERY.format(0), "part": {"axis": 0, "start": "0"}}], "part is no axis, start and stop"),
        ([], "stdin names no tensor"),
        ([{"name": "cls.predictions.bias"}], "nothing is left to tune"),
        (["{broken"], "stdin, line 1: not a JSON record"),
    ],
)
def test_what_stdin_cannot_name(records: list[object], message: str) -> None:
    with pytest.raises(ToolError) as raised:
        chosen(Selection(read_named(lines(*records))))
    assert message in raised.value.message


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Selection(groups=("V",)), "group V: no matrix of the model is known as one"),
        (Selection(layers=frozenset([2, 3])), "layers 3: the model has none such; its layers are 0 to 2"),
        (Selection(patterns=("xyz",)), "only xyz: fits no tensor"),
        (Selection(freeze=("xyz",)), "freeze xyz: fits no tensor"),
        (Selection(groups=("Q",), freeze_groups=("Q",)), "nothing is left to tune"),
        (Selection(freeze=(".",)), "nothing is left to tune"),
    ],
)
def test_what_the_model_lacks(choice: Selection, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        chosen(choice)
    assert message in raised.value.message


def test_a_matrix_that_holds_three_groups_is_tuned_as_a_whole() -> None:
    shapes = {"model.layers.0.attn.Wqkv.weight": (24, 8), "model.layers.0.mlp.Wo.weight": (8, 8)}
    assert Selection(groups=("Q", "K", "V")).resolve(shapes, base={}, head=()) == ["model.layers.0.attn.Wqkv.weight"]
    with pytest.raises(UsageError, match="holds Q,K,V in one; give all of them"):
        Selection(groups=("Q",)).resolve(shapes, base={}, head=())


def test_records_of_one_of_two_stacks() -> None:
    shapes = {f"model.{stack}.layers.{n}.fc1.weight": (8, 8) for stack in ("encoder", "decoder") for n in (0, 1)}
    named = read_named(lines({"by": "layer", "stack": "decoder", "layer": 1}, {"stack": "encoder", "layer": 0}))
    found = Selection(named).resolve(shapes, base={}, head=())
    assert found == ["model.encoder.layers.0.fc1.weight", "model.decoder.layers.1.fc1.weight"]
    with pytest.raises(UsageError, match="the model has no stack vision_model layer 0"):
        Selection(read_named(lines({"stack": "vision_model", "layer": 0}))).resolve(shapes, base={}, head=())
    assert not any(each.name for each in read_named(lines({"name": "lm_head", "tied_base": "wte"}, {"layer": 0})))
