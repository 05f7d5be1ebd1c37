"""Real models of every family that is named, tiny and with random weights: names, groups, fused matrices."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM
from transformers import AutoModelForSequenceClassification as ForLabels

from _toolio.errors import UsageError
from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.groups import GROUPS, KNOWN_GROUPS, Grouping, read_group_map
from berttools.classifier.limits import _longest
from berttools.layerdiff.config import Selection
from berttools.layerdiff.diffs import diff_checkpoints
from berttools.layerdiff.distances import tensor_distance

SMALL = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12, "vocab_size": 20}
DECODER = SMALL | {"num_key_value_heads": 1}
FAMILIES = {
    "bert": SMALL,
    "roberta": SMALL,
    "electra": SMALL | {"embedding_size": 8},
    "deberta-v2": SMALL | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 4},
    "distilbert": {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12, "vocab_size": 20},
    "modernbert": SMALL
    | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
    "gpt2": {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_inner": 12, "vocab_size": 20, "n_positions": 16},
    "llama": DECODER,
    "mistral": DECODER,
    "qwen2": DECODER,
    "qwen3": DECODER | {"head_dim": 4},
}


def save(folder, family, kind, seed=0):
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **FAMILIES[family])
    config.pad_token_id = 0
    model = kind.from_config(config)
    model.save_pretrained(folder)
    return open_checkpoint(folder)


def moved(folder, family, kind, base):
    """Save the same model, each tensor a little off."""
    model = kind.from_pretrained(base.path)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    return open_checkpoint(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_layer_has_the_six_groups(family, tmp_path):
    base = save(tmp_path / "base", family, AutoModel)
    diffs = list(diff_checkpoints(base, moved(tmp_path / "ft", family, AutoModel, base)))
    assert all(diff.distance.angle > 0 for diff in diffs if diff.distance and diff.distance.reason is None)
    for layer in range(2):
        groups = [diff.group for diff in diffs if diff.layer == layer and diff.group]
        assert set(groups) == set(GROUPS)
        assert groups.count("I") == (2 if family in ("llama", "mistral", "qwen2", "qwen3") else 1)
        assert all(groups.count(group) == 1 for group in GROUPS if group != "I")
    # DeBERTa's projections of positions are none of the six.
    matrices = [d for d in diffs if d.layer is not None and len(d.shape_base) == 2 and ".pos_" not in d.name]
    assert all(diff.group for diff in matrices), [diff.name for diff in matrices if not diff.group]


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "distilbert", "deberta-v2", "modernbert"])
def test_a_bare_encoder_meets_one_with_a_head(family, tmp_path):
    base = save(tmp_path / "base", family, AutoModelForMaskedLM)
    config = AutoConfig.from_pretrained(base.path)
    ft = ForLabels.from_pretrained(base.path, config=config)
    ft.save_pretrained(tmp_path / "ft")
    diffs = list(diff_checkpoints(base, open_checkpoint(tmp_path / "ft")))
    inside = [diff for diff in diffs if diff.layer is not None]
    assert inside
    assert all(diff.distance is not None and diff.distance.angle in (0, None) for diff in inside)
    assert any(diff.only_in == "ft" and "classifier" in diff.name for diff in diffs)


def test_fused_matrices_are_told_apart(tmp_path):
    for family, kind, name in (
        ("modernbert", AutoModel, "layers.1.attn.Wqkv.weight"),
        ("gpt2", AutoModel, "h.1.attn.c_attn.weight"),
    ):
        base = save(tmp_path / family, family, kind)
        ft = moved(tmp_path / f"{family}-ft", family, kind, base)
        a, b = (dict(kind.from_pretrained(model.path).state_dict())[name].numpy() for model in (base, ft))
        if family == "gpt2":
            a, b = a.T, b.T
        parts = [diff for diff in diff_checkpoints(base, ft) if diff.name == name]
        assert [diff.group for diff in parts] == ["Q", "K", "V"]
        for number, diff in enumerate(parts):
            rows = slice(8 * number, 8 * number + 8)
            want = tensor_distance(a[rows], b[rows])
            assert diff.shape_base == (8, 8)
            assert diff.part == (0 if family == "modernbert" else 1, rows.start, rows.stop)
            assert diff.distance.angle == pytest.approx(want.angle, rel=1e-13)
            assert diff.distance.l1 == pytest.approx(want.l1, rel=1e-13)


def test_tied_embeddings_are_said_and_count_once(tmp_path):
    base = save(tmp_path / "base", "gpt2", AutoModelForCausalLM)
    both = AutoModelForCausalLM.from_pretrained(base.path).state_dict()
    torch.save(both, tmp_path / "both.bin")
    found = {diff.name: diff for diff in diff_checkpoints(open_checkpoint(tmp_path / "both.bin"), base)}
    head = found["lm_head.weight"]
    assert (head.only_in, head.tied_to) == ("base", "transformer.wte.weight")
    assert head.reason == "only in base, as a copy of transformer.wte.weight"


def test_a_group_map(tmp_path):
    file = tmp_path / "map.txt"
    file.write_text(
        "# an unusual model\n\nQ  stack/(?P<layer>[0-9]+)/wq$\nX+Y stack/[0-9]+/both\nM+N+P@1 wide$\n"
        "K attention\\.self\\.query\n"
    )
    grouping = read_group_map(file)
    assert grouping.names == (*KNOWN_GROUPS, "X", "Y", "M", "N", "P")
    assert grouping.parts("stack/3/wq", (4, 4)) == [(3, "Q", None, 0, 0)]
    assert grouping.parts("stack/3/wq", (4,)) == [(None, None, None, 0, 0)]
    assert grouping.parts("stack/3/both", (6, 4)) == [(None, "X", 0, 0, 3), (None, "Y", 0, 3, 6)]
    assert grouping.parts("a.layer.2.wide", (2, 6)) == [
        (2, "M", 1, 0, 2), (2, "N", 1, 2, 4), (2, "P", 1, 4, 6),
    ]  # fmt: skip
    assert grouping.parts("a.layer.2.wide", (2, 7)) == [(2, None, None, 0, 0)]
    # In front of the table, which still knows all else.
    assert grouping.parts("layer.0.attention.self.query.weight", (4, 4))[0].group == "K"
    assert grouping.parts("layer.0.attention.self.value.weight", (4, 4))[0].group == "V"


@pytest.mark.parametrize("text", ["", "# nothing\n", "Q\n", "Q+ x\n", "Q (\n", "Q@2 x\n"])
def test_a_bad_group_map_is_one_line(text, tmp_path):
    (tmp_path / "map").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_group_map(tmp_path / "map")
    assert str(tmp_path / "map") in caught.value.message
    assert "\n" not in caught.value.message


def test_a_group_map_that_is_not_there(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            read_group_map(path)


def test_groups_are_chosen(tmp_path):
    base = save(tmp_path / "base", "gpt2", AutoModel)
    chosen = list(diff_checkpoints(base, base, Selection(Grouping(), group=frozenset("QO"))))
    assert [diff.group for diff in chosen] == ["Q", "O"] * 2
    assert np.all([diff.distance.angle == 0 for diff in chosen])


@pytest.mark.parametrize(
    ("family", "padding", "most"),
    [
        ("bert", 1, 20), ("electra", 1, 20), ("deberta-v2", 1, 20), ("roberta", 1, 18), ("xlm-roberta", 1, 18),
        ("camembert", 1, 18), ("mpnet", 1, 18), ("roberta", 0, 19), ("roberta-prelayernorm", 1, 18),
    ],
)  # fmt: skip
def test_a_text_has_as_many_tokens_as_there_are_positions(family, padding, most):
    config = AutoConfig.for_model(family, **(FAMILIES.get(family) or SMALL), max_position_embeddings=20)
    config.pad_token_id = padding
    model = ForLabels.from_config(config).eval()
    assert _longest(model, SimpleNamespace(model_max_length=512)) == most
    assert _longest(model, SimpleNamespace(model_max_length=10)) == 10
    for length in (most, most + 1):
        ids = torch.full((1, length), 5)
        if length == most:
            assert torch.isfinite(model(ids).logits).all()
        else:
            with pytest.raises((IndexError, RuntimeError)):
                model(ids)
