"""What a mask may say of a model's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from _toolio.errors import ToolError
from berttools.masks.file import open_mask
from berttools.masks.task_config import TASK_KEYS, label_fields, model_config, task_config, unfit_tensor
from mask_forging import forged
from small_masks import written


@pytest.mark.parametrize(
    "config",
    [
        "hello", "[1]", "", "[" * 5000, '{"id2label":{"0":"a","7":"b"}}', '{"id2label":{"0":1}}', '{"id2label":[]}',
        '{"id2label":{"0":"a","1":"b"},"num_labels":3}', '{"num_labels":1e3}', '{"num_labels":1000000000}',
        '{"label2id":{"a":"b"}}', '{"architectures":"BertModel"}', '{"dtype":"int8"}', '{"pad_token_id":true}',
        '{"label_thresholds":[2]}', '{"label_thresholds":[true]}', '{"label_thresholds":{}}',
        '{"label_thresholds":[NaN]}', '{"label_thresholds":[0.5,0.5],"problem_type":"single_label_classification"}',
        '{"problem_type":"none"}', '{"model_type":3}', '{"id2label":{"0":"\\ud800"}}',
    ],
)  # fmt: skip
def test_a_configuration_that_no_task_has_is_refused(tmp_path: Path, config: str) -> None:
    _, out = written(tmp_path)
    forged(out, out, lambda about: about.__setitem__("config", config))
    with pytest.raises(ToolError, match="damaged: its configuration") as refused:
        open_mask(out)
    assert (refused.value.kind, refused.value.message.count("\n")) == ("bad-mask", 0)


def test_only_the_keys_of_a_task_come_from_the_mask() -> None:
    base = {"model_type": "bert", "hidden_size": 8, "num_labels": 5, "dtype": "float16"}
    task = {"model_type": "bert", "hidden_size": 999, "id2label": {"0": "no", "1": "yes"}, "auto_map": {"x": "y"}}
    found = model_config(base, task, mask=Path("m"), folder=Path("b"))
    assert found == {"model_type": "bert", "hidden_size": 8, "id2label": {"0": "no", "1": "yes"}}
    assert "auto_map" not in TASK_KEYS
    # A base that does not say its type takes that of the mask.
    assert model_config({}, task, mask=Path("m"), folder=Path("b"))["model_type"] == "bert"
    with pytest.raises(ToolError, match="m: was made for a model of type 'bert', and b is one of type 'gpt2'"):
        model_config({"model_type": "gpt2"}, task, mask=Path("m"), folder=Path("b"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"id2label":{"1":"yes","0":"no"}}', {0: "no", 1: "yes"}),
        ('{"num_labels":3}', {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}),
        ("{}", {0: "LABEL_0", 1: "LABEL_1"}),
    ],
)
def test_labels_are_those_that_transformers_makes(text: str, names: dict[int, str]) -> None:
    fields = label_fields(task_config(text))
    assert fields["id2label"] == names
    assert fields["label2id"] == {name: number for number, name in names.items()}


def test_thresholds_of_multi_label_data_are_the_tasks() -> None:
    config = task_config('{"id2label":{"0":"a","1":"b"},"label_thresholds":[0.25,1]}')
    assert label_fields(config)["label_thresholds"] == [0.25, 1]
    merged = model_config({"label_thresholds": [0.1]}, {"id2label": {"0": "a"}}, mask=Path("m"), folder=Path("b"))
    assert "label_thresholds" not in merged  # those of a base are of its own head


def test_a_tensor_of_the_wrong_shape_is_named() -> None:
    error = unfit_tensor(Path("m"), Path("b"), 2, "classifier.weight", (3, 8))
    assert (error.kind, "no model of 2 labels over b has a classifier.weight of shape 3x8" in error.message) == (
        "bad-mask", True,
    )  # fmt: skip
