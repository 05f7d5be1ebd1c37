"""Names of embeddings and of language models' outputs."""

import pytest

from berttools.checkpoints.names.vocabulary import common_rows, is_embedding, is_output, is_tied, may_be_copy

EMBEDDINGS = [
    "bert.embeddings.word_embeddings.weight", "transformer.wte.weight", "model.embed_tokens.weight", "shared.weight",
    "text_model.embeddings.token_embedding.weight", "gpt_neox.embed_in.weight",
    "model.embeddings.tok_embeddings.weight",
]  # fmt: skip
OUTPUTS = [
    "lm_head.weight", "cls.predictions.decoder.bias", "embed_out.weight", "proj_out.weight", "decoder.weight",
    "final_logits_bias", "language_model.lm_head.weight", "generator_lm_head.weight", "module.proj_out.weight",
]  # fmt: skip
NEITHER = [
    "embeddings.position_embeddings.weight", "classifier.weight", "score.weight", "mlp.proj_out.weight",
    "encoder.layer.0.output.weight", "embeddings.token_type_embeddings.weight", "lm_head.dense.weight",
]  # fmt: skip


def test_names() -> None:
    assert [is_embedding(name) for name in (*EMBEDDINGS, *OUTPUTS, *NEITHER)] == [True] * 7 + [False] * 16
    assert [is_output(name) for name in (*EMBEDDINGS, *OUTPUTS, *NEITHER)] == [False] * 7 + [True] * 9 + [False] * 7


def test_copies_of_shared_embeddings_are_of_these_alone() -> None:
    assert is_tied("model.decoder.embed_tokens.weight")
    assert may_be_copy("model.decoder.embed_tokens.weight", "model.shared.weight")
    assert not may_be_copy("model.decoder.embed_tokens.weight", "model.encoder.embed_tokens.weight")


@pytest.mark.parametrize(
    ("name", "one", "other", "rows"),
    [
        ("wte.weight", (20, 4), (24, 4), (20, 0, 4)),
        ("lm_head.weight", (24, 4), (20, 4), (20, 4, 0)),
        ("lm_head.weight", (4, 4), (12, 4), (4, 0, 8)),
        ("cls.predictions.bias", (20,), (24,), (20, 0, 4)),
        ("final_logits_bias", (1, 20), (1, 24), (20, 0, 4)),
        ("wte.weight", (20, 4), (24, 5), None),
        ("wte.weight", (0, 4), (24, 4), None),
        ("wte.weight", (20,), (20, 4), None),
        ("classifier.weight", (2, 4), (3, 4), None),
        ("embeddings.position_embeddings.weight", (20, 4), (24, 4), None),
    ],
)
def test_common_rows(name: str, one: tuple[int, ...], other: tuple[int, ...], rows: tuple[int, ...] | None) -> None:
    assert common_rows(name, one, other) == rows
