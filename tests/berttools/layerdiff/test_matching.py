"""Which tensors of two models are compared, and which models are not."""

import re

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM
from transformers import AutoModelForSequenceClassification as ForLabels

from _toolio.errors import ToolError
from berttools.checkpoints.files import Checkpoint, open_checkpoint
from berttools.layerdiff.config import Selection
from berttools.layerdiff.diffs import diff_checkpoints
from berttools.layerdiff.matching import align_models, few_matched, match_tensors

SMALL = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12, "vocab_size": 20}


def save(folder, family, kind):
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SMALL)
    config.pad_token_id = 0
    kind.from_config(config).save_pretrained(folder)
    return open_checkpoint(folder)


def test_two_architectures_and_two_sizes_are_refused(tmp_path):
    bert, roberta = (save(tmp_path / name, name, AutoModel) for name in ("bert", "roberta"))
    with pytest.raises(ToolError, match=r"is a bert and .* a roberta: two different architectures") as caught:
        diff_checkpoints(bert, roberta)
    assert caught.value.kind == "architectures"
    file = "model.safetensors"
    anyway = list(diff_checkpoints(open_checkpoint(bert.path / file), open_checkpoint(roberta.path / file)))
    assert any(diff.distance for diff in anyway)
    torch.manual_seed(0)
    AutoModel.from_config(
        AutoConfig.for_model("bert", **(SMALL | {"hidden_size": 12, "vocab_size": 24}))
    ).save_pretrained(tmp_path / "wide")
    with pytest.raises(ToolError, match=r"no matrix of .* has the shape that it has in"):
        diff_checkpoints(bert, open_checkpoint(tmp_path / "wide"))


def test_base_and_fine_tuned_model_swapped(tmp_path):
    base = save(tmp_path / "base", "bert", AutoModelForMaskedLM)
    ft = save(tmp_path / "ft", "bert", ForLabels)
    assert list(diff_checkpoints(base, ft))
    with pytest.raises(ToolError, match="they look swapped") as caught:
        diff_checkpoints(ft, base)
    assert caught.value.kind == "swapped"


def test_matches_are_the_bases_in_order_and_then_what_only_the_other_has(tmp_path):
    query = "layer.0.attention.self.query.weight"
    base = {query: np.ones((2, 2), np.float32), "gone": np.ones(3, np.float32)}
    ft = {f"bert.{query}": np.ones((2, 2), np.float32), "classifier.weight": np.ones((2, 2), np.float32)}
    for name, tensors in (("base", base), ("ft", ft)):
        save_file(tensors, tmp_path / name)
    models = [open_checkpoint(tmp_path / name) for name in ("base", "ft")]
    found = match_tensors(*models, Selection())
    assert [(match.name, match.name_ft, match.only_in) for match in found] == [
        ("gone", None, "base"), (query, f"bert.{query}", None), ("classifier.weight", "classifier.weight", "ft"),
    ]  # fmt: skip
    assert [(match.name, match.part.group) for match in match_tensors(*models, Selection(group=frozenset("Q")))] == [
        (query, "Q")
    ]
    with pytest.raises(ToolError, match="only and group leave none of its 2 tensors") as refused:
        match_tensors(*models, Selection(only=re.compile("nowhere")))
    assert refused.value.kind == "nothing-chosen"


def write(path, tensors):
    save_file({name: np.asarray(value, np.float32) for name, value in tensors.items()}, path)
    return open_checkpoint(path)


def test_weights_that_were_not_gathered(tmp_path):
    query = "layer.0.attention.self.query.weight"
    base = {query: np.ones((4, 4)), "pooler.dense.weight": np.ones((4, 4)), "LayerNorm.weight": np.ones(4)}
    one = write(tmp_path / "one", base)
    nothing = write(tmp_path / "nothing", {name: np.zeros(0) for name in base})
    with pytest.raises(ToolError, match=r"nothing.*has no entries, as DeepSpeed ZeRO-3 leaves.*zero_to_fp32") as caught:
        diff_checkpoints(one, nothing)
    assert caught.value.kind == "empty-tensor"
    some = write(tmp_path / "some", base | {query: np.zeros(0)})
    for models in ((one, some), (some, one)):
        errors = {diff.name: diff.error for diff in diff_checkpoints(*models) if diff.error}
        assert list(errors) == [query]
        assert errors[query].kind == "empty-tensor"
        assert str(some.path) in errors[query].message
    (diff,) = diff_checkpoints(*[write(tmp_path / "both", {"pad": np.zeros(0)})] * 2)
    assert diff.error is None


def test_few_tensors_that_match(tmp_path):
    shapes = {f"encoder.layer.{n}.{part}.weight": (n + 2, 3) for n in range(4) for part in ("a", "b", "c")}
    base = write(tmp_path / "base", {name: np.ones(shape) for name, shape in shapes.items()} | {"lone": np.ones(2)})
    # A prefix with a number in it is no wrapper that is known, nor one of those that are guessed.
    under = {f"tower.v2.{name}": np.ones(shape) for name, shape in shapes.items()}
    ft = write(tmp_path / "ft", under | {"lone": np.ones(2)})
    error = few_matched(base, ft, align_models(base, ft, Selection()))
    assert error.kind == "few-matched"
    assert error.message.startswith(f"only 1 of 13 tensors of {base.path} are matched with one of the 13 of {ft.path}")
    assert error.message.endswith("try strip_prefix tower.v2.")
    stripped = Selection(strip_prefix=("tower.v2.",))
    assert few_matched(base, ft, align_models(base, ft, stripped)) is None
    with pytest.raises(ToolError, match=r"no tensor of .*; try strip_prefix tower\.v2\."):
        align_models(base, write(tmp_path / "nothing", under), Selection())
    # The smaller side counts: a head alone, or an encoder without one.
    head = write(tmp_path / "head", {"lone": np.ones(2), "encoder.layer.0.a.weight": np.ones((2, 3))})
    assert few_matched(base, head, align_models(base, head, Selection())) is None


def test_architectures_that_are_no_list(tmp_path):
    base = write(tmp_path / "base", {"w": np.ones((2, 2))})
    odd = Checkpoint(base.path, {"w": (base.tensors["w"], base)}, {"architectures": 5, "model_type": "bert"})
    (diff,) = diff_checkpoints(odd, base)
    assert diff.distance.angle == 0
