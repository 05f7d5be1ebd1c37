import pytest

from berttools.checkpoints.groups import GROUPS, layer_and_group

SQUARE = (8, 8)


def six(layer, *names):
    return [(f"{layer}.{name}.weight", group) for name, group in zip(names, GROUPS, strict=True)]


BERT = (
    "attention.self.query", "attention.self.key", "attention.self.value",
    "attention.output.dense", "intermediate.dense", "output.dense",
)  # fmt: skip
MODELS = [
    *six("encoder.layer.7", *BERT),
    *six("bert.encoder.layer.7", *BERT),
    *six("roberta.encoder.layer.7", *BERT),
    *six("electra.encoder.layer.7", *BERT),
    *six("layer.7", *BERT),
    *six(
        "deberta.encoder.layer.7", "attention.self.query_proj", "attention.self.key_proj",
        "attention.self.value_proj", *BERT[3:],
    ),
    *six(
        "distilbert.transformer.layer.7", "attention.q_lin", "attention.k_lin", "attention.v_lin",
        "attention.out_lin", "ffn.lin1", "ffn.lin2",
    ),
    *six(
        "model.layers.7", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.up_proj", "mlp.down_proj",
    ),
    ("model.layers.7.mlp.gate_proj.weight", "I"),
    ("transformer.h.7.attn.c_proj.weight", "AO"),
    ("h.7.mlp.c_fc.weight", "I"),
    ("h.7.mlp.c_proj.weight", "O"),
    ("model.decoder.layers.7.self_attn.out_proj.weight", "AO"),
    ("model.decoder.layers.7.fc1.weight", "I"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "group"), MODELS)
def test_a_matrix_has_its_layer_and_group(name, group):
    assert layer_and_group(name, SQUARE) == (7, group)


@pytest.mark.parametrize("name", [name for name, _ in MODELS])
def test_only_weights_of_two_dimensions_have_a_group(name):
    assert layer_and_group(name, (8,)) == (7, None)
    assert layer_and_group(name.replace(".weight", ".bias"), (8,)) == (7, None)
    assert layer_and_group(name.replace(".weight", ".lora_A.weight"), SQUARE) == (7, None)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("embeddings.word_embeddings.weight", None),
        ("pooler.dense.weight", None),
        ("classifier.out_proj.weight", None),
        ("output.dense.weight", None),
        ("encoder.layer.11.output.LayerNorm.weight", 11),
        ("encoder.layer.0.attention.self.pos_query_proj.weight", 0),
        ("h.2.attn.c_attn.weight", 2),
        ("", None),
    ],
)
def test_what_is_none_of_the_six(name, layer):
    assert layer_and_group(name, SQUARE) == (layer, None)
