"""Rows of two vocabularies are compared only if they are of the same tokens."""

import json

import numpy as np
import pytest
import tokenizers
import transformers
from safetensors.numpy import save_file

from berttools.checkpoints.tokens import Vocabularies
from berttools.layerdiff import compare

NAME = "embeddings.word_embeddings.weight"
SPECIAL = ["[PAD]", "[UNK]"]
TOKENS = [*SPECIAL, *(f"token{n}" for n in range(28))]


def write_tokens(folder, tokens, kind):
    """Write a tokenizer as the libraries write it; `added` has its last tokens behind the vocabulary."""
    folder.mkdir(exist_ok=True)
    table = {token: row for row, token in enumerate(tokens)}
    if kind == "vocab.txt":
        (folder / kind).write_text("\n".join(tokens) + "\n")
    elif kind == "vocab.json":
        (folder / kind).write_text(json.dumps(dict(list(table.items())[:15])))
        (folder / "added_tokens.json").write_text(json.dumps(dict(list(table.items())[15:])))
    elif kind == "unigram":
        tokenizers.Tokenizer(tokenizers.models.Unigram([(token, -1.0) for token in tokens], 1)).save(
            str(folder / "tokenizer.json")
        )
    elif kind:
        model = tokenizers.models.WordLevel(dict(list(table.items())[:15]), unk_token="[UNK]")
        made = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(model))
        made.add_tokens(tokens[15:])
        assert len(made) == len(tokens)
        made.save_pretrained(folder)


def records(tmp_path, base, ft, kinds=("added", "added"), rows=(30, 20)):
    """Compare the embeddings of two models whose tokenizers have these tokens."""
    table = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    for name, tokens, kind, count in zip(("base", "ft"), (base, ft), kinds, rows, strict=True):
        write_tokens(tmp_path / name, tokens, kind)
        weights = {NAME: table[:count], "layer.0.attention.self.query.weight": table[:4]}
        save_file(weights, tmp_path / name / "model.safetensors")
    return {record["name"]: record for record in compare(tmp_path / "base", [tmp_path / "ft"])}


@pytest.mark.parametrize("kind", ["added", "vocab.txt", "vocab.json", "unigram"])
def test_a_pruned_vocabulary_is_numbered_anew(tmp_path, kind):
    kept = records(tmp_path, TOKENS, TOKENS[:20], (kind, kind))[NAME]
    assert (kept["angle"], kept["rows_common"], kept["rows_gone"], kept["vocabulary"]) == (0, 20, 10, "same")
    pruned = [*TOKENS[:5], *TOKENS[15:]]
    found = records(tmp_path, TOKENS, pruned, (kind, kind))
    assert found["layer.0.attention.self.query.weight"]["angle"] == 0
    refused = found[NAME]
    assert (refused["angle"], refused["l2"], refused["vocabulary"], refused["rows_gone"]) == (None, None, "other", 10)
    assert refused["reason"].startswith(
        "15 of 20 rows are of other tokens, such as row 5: 'token3' in base, 'token13' in ft; to compare them as they"
    )


def test_two_forms_of_one_vocabulary_and_rows_without_a_token(tmp_path):
    found = records(tmp_path, TOKENS[:25], TOKENS[:18], ("vocab.txt", "added"))[NAME]
    assert (found["angle"], found["vocabulary"]) == (0, "same")
    grown = records(tmp_path, TOKENS[:18], [*TOKENS[:18], "new"], ("unigram", "vocab.json"), (20, 30))[NAME]
    assert (grown["angle"], grown["rows_new"], grown["vocabulary"]) == (0, 10, "same")


@pytest.mark.parametrize(
    "text", [None, "", "{}", "[]", '{"model": {"vocab": [1, 2]}}', '{"model": {"vocab": {"a": "b"}}}']
)
def test_what_does_not_say_its_tokens(tmp_path, text):
    write_tokens(tmp_path / "ft", [], None)
    if text is not None:
        (tmp_path / "ft" / "tokenizer.json").write_text(text)
    found = records(tmp_path, TOKENS, [], ("added", None))[NAME]
    assert (found["angle"], found["rows_common"], found["vocabulary"]) == (0, 20, "unchecked")


def test_vocabularies_of_one_size(tmp_path):
    def compared(tokens):
        return records(tmp_path, TOKENS, tokens, rows=(30, 30))[NAME]

    assert "vocabulary" not in compared(TOKENS)
    # A row that was given to a new token is still that row.
    new = compared([*TOKENS[:5], "new", *TOKENS[6:]])
    assert (new["angle"], "vocabulary" in new) == (0, False)
    for tokens in ([*TOKENS[:4], TOKENS[5], TOKENS[4], *TOKENS[6:]], [*SPECIAL, *(f"other{n}" for n in range(28))]):
        moved = compared(tokens)
        assert (moved["angle"], moved["vocabulary"], moved["name"]) == (None, "other", NAME)


def test_the_same_file_is_not_parsed(tmp_path):
    for name in ("base", "ft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text("the very same")
    assert Vocabularies(tmp_path / "base", tmp_path / "ft").compare(9, resized=True).vocabulary == "same"
    assert Vocabularies(tmp_path / "base", tmp_path / "none").compare(9, resized=True).vocabulary == "unchecked"
    for odd in (
        '{"model": {"vocab": {"a": 1e999}}}',
        '{"model": {"vocab": {}}, "added_tokens": [{"id": 1e999}]}',
        "[]",
    ):
        (tmp_path / "ft" / "tokenizer.json").write_text(odd)
        assert Vocabularies(tmp_path / "base", tmp_path / "ft").compare(9, resized=True).vocabulary == "unchecked"
