"""Inputs that a model has no room for, and tokenizers that are not quite its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from _toolio.errors import InputError, ToolError
from berttools.classifier.inference import Inference
from berttools.classifier.limits import InputLimits, limits_of, settle_padding
from berttools.classifier.model import Classifier, open_model
from berttools.classifier.predictor import Prediction, Predictor
from berttools.texts.batches import encode
from berttools.texts.examples import Example
from berttools.texts.rows import Columns, Row
from tiny_models import make_base, make_tokenizer, make_tuned, with_tokens

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def predicted(model: Classifier, *rows: dict[str, str], **more: Any) -> list[Prediction | InputError]:
    numbered = [Row(f"line {number}", row) for number, row in enumerate(rows, 1)]
    return Predictor(model, CPU, half=False, batch=8, **more).predict(numbered, Columns({}))


def of_transformers(model: Classifier, *texts: str | tuple[str, str], **more: Any) -> list[list[float]]:
    """Return the probabilities that transformers gives each text alone, where nothing is padded."""
    found = []
    for text in texts:
        words = (text,) if isinstance(text, str) else text
        inputs = model.tokenizer(*words, return_tensors="pt", **more)
        with torch.no_grad():
            found.append(model.model(**inputs).logits.double().softmax(1)[0].tolist())
    return found


def test_only_texts_with_a_token_beyond_the_embedding_fail(base: Path, tmp_path: Path) -> None:
    model = open_model(with_tokens(make_tuned(base, tmp_path / "more", change=0.3), "novel"))
    good, bad, other, cut = predicted(
        model, {"text": "good"}, {"text": "a novel day"}, {"text": "bad film"}, {"text": "good " * 60 + "novel"}
    )
    for found, text in ((good, "good"), (other, "bad film")):
        assert isinstance(found, Prediction)
        assert list(found.scores.values()) == pytest.approx(of_transformers(model, text)[0], abs=2e-6)
    assert isinstance(cut, Prediction)  # the token is cut off
    assert isinstance(bad, InputError)
    assert bad.kind == "unknown-token"
    rows = model.model.get_input_embeddings().num_embeddings
    assert f"line 2: token 'novel' has number {rows}, and the model's embedding has {rows} rows for the {rows + 1}" in (
        bad.message
    )
    assert f"resize_token_embeddings({rows + 1})" in bad.message


def test_token_types_that_a_model_takes_not_are_left_out(tmp_path: Path) -> None:
    folder = make_tuned(make_base(tmp_path / "base", "distilbert"), tmp_path / "tuned", change=0.3)
    make_tokenizer(folder, "bert")  # which gives token types
    model = open_model(folder)
    (found,) = predicted(model, {"text_a": "good day", "text_b": "bad film"})
    assert isinstance(found, Prediction)
    [expected] = of_transformers(model, ("good day", "bad film"), return_token_type_ids=False)
    assert list(found.scores.values()) == pytest.approx(expected, abs=2e-6)


def test_token_types_beyond_their_embedding_fail_by_line(tmp_path: Path) -> None:
    folder = make_tuned(make_base(tmp_path / "base", "roberta"), tmp_path / "tuned", change=0.3)
    make_tokenizer(folder, "bert")
    model = open_model(folder)
    assert model.model.config.type_vocab_size == 1
    single, pair = predicted(model, {"text": "good"}, {"text_a": "good", "text_b": "bad film"})
    assert isinstance(single, Prediction)
    assert list(single.scores.values()) == pytest.approx(of_transformers(model, "good")[0], abs=2e-6)
    assert isinstance(pair, InputError)
    assert pair.kind == "unknown-type"
    assert "gives token type 1, and the model's embedding of token types has 1 rows (type_vocab_size)" in pair.message


@pytest.mark.parametrize("kind", ["gpt2", "roberta"])
def test_texts_are_padded_as_the_model_counts(tmp_path: Path, kind: str) -> None:
    # By config.json and not the tokenizer: GPT-2 reads the last token that is no padding, RoBERTa counts positions so.
    import transformers as t

    rows, size = 24, {"vocab_size": 24, "pad_token_id": 1}
    folder = tmp_path / "model"
    if kind == "gpt2":
        config: Any = t.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=48, **size)
    else:
        config = t.RobertaConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            max_position_embeddings=50, **size,
        )  # fmt: skip
    torch.manual_seed(0)
    model = t.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for each in model.parameters():
            each += 0.3 * torch.randn_like(each)
    model.save_pretrained(folder)
    make_tokenizer(folder, "roberta")
    opened = open_model(folder)
    assert (opened.tokenizer.pad_token_id, opened.limits.rows) == (0, rows)
    texts = ("good", "bad film was very dull", "the day")
    found = predicted(opened, *({"text": text} for text in texts))
    for each, expected in zip(found, of_transformers(opened, *texts), strict=True):
        assert isinstance(each, Prediction)
        assert list(each.scores.values()) == pytest.approx(expected, abs=2e-6)


def test_an_encoder_decoder_reads_the_end_of_texts_and_of_pairs(tmp_path: Path) -> None:
    import transformers as t

    torch.manual_seed(0)
    config = t.BartConfig(
        vocab_size=24, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=48, pad_token_id=0,
        eos_token_id=3, decoder_start_token_id=3, init_std=0.5, id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1},
    )  # fmt: skip
    t.BartForSequenceClassification(config).save_pretrained(tmp_path / "model")
    make_tokenizer(tmp_path / "model", "bart")
    model = open_model(tmp_path / "model")
    assert (model.limits.end, model.limits.length) == (3, 48)
    found = predicted(
        model, {"text": "good"}, {"text_a": "good", "text_b": "bad film"}, {"text": "a very dull day"},
        {"text": "[SEP] good"},
    )  # fmt: skip
    expected = of_transformers(model, "good", ("good", "bad film"), "a very dull day", "[SEP] good")
    for each, chances in zip(found, expected, strict=True):
        assert isinstance(each, Prediction)
        assert list(each.scores.values()) == pytest.approx(chances, abs=2e-6)
    examples = [Example("line 1", "good"), Example("line 2", "[SEP] good")]
    with pytest.raises(ToolError, match="line 2: has the token that ends a text 2 times, and line 1 1 times"):
        model.limits.check_alike(encode(model.tokenizer, examples, most=48), examples)
    other = InputLimits(24, None, takes_types=False, length=48, end=9)
    with pytest.raises(InputError, match=r"l: the tokenizer ends no text with token 9 \(eos_token_id\)"):
        other.check(encode(model.tokenizer, examples, most=48)[0], "l", model.tokenizer)


def test_a_padding_token_must_have_a_row(base: Path, tmp_path: Path) -> None:
    folder = with_tokens(make_tuned(base, tmp_path / "tuned"), "[MORE]", pad_token="[MORE]")
    assert open_model(folder).model.config.pad_token_id == 0  # the model's own is used
    config = json.loads((folder / "config.json").read_text())
    for padding in (None, -1):
        (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": padding}))
        with pytest.raises(
            ToolError, match=r"padding token '\[MORE\]' has number 24, and the embedding has 24 rows"
        ) as e:
            open_model(folder)
        assert e.value.kind == "no-padding"
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": 24}))
    with pytest.raises(ToolError, match="transformers cannot open it"):
        open_model(folder)


def test_a_text_without_a_token_fails_alone(base: Path, tmp_path: Path) -> None:
    folder = make_tuned(base, tmp_path / "tuned")
    plain = json.loads((folder / "tokenizer.json").read_text())
    plain |= {"post_processor": None}  # as GPT-2's: no token of its own around a text
    plain["normalizer"] = {"type": "Replace", "pattern": {"Regex": "[^a-z]"}, "content": ""}
    (folder / "tokenizer.json").write_text(json.dumps(plain))
    empty, good = predicted(open_model(folder), {"text": "\u4f60\u597d"}, {"text": "good"})
    assert isinstance(good, Prediction)
    assert isinstance(empty, InputError)
    assert (empty.kind, empty.message) == ("no-token", "line 1: the tokenizer makes no token of this text")


def test_limits_are_those_of_the_modules(classifier: Classifier) -> None:
    limits = limits_of(classifier.model, classifier.tokenizer)
    assert (limits.rows, limits.types, limits.takes_types, limits.length) == (24, 2, True, 48)
    assert limits.unused_tokens(classifier.tokenizer) is None
    classifier.model.config.max_position_embeddings = -1  # as where there are none
    assert limits_of(classifier.model, classifier.tokenizer).length == classifier.tokenizer.model_max_length
    for odd in ("3", None, 0, 0.5, True, -1, float("nan"), {}):
        classifier.tokenizer.model_max_length = odd
        with pytest.raises(ToolError, match=r"its tokenizer's model_max_length is .*, no number of tokens that a text"):
            limits_of(classifier.model, classifier.tokenizer)
    classifier.tokenizer.model_max_length = float("inf")
    classifier.model.config.max_position_embeddings = 48
    assert limits_of(classifier.model, classifier.tokenizer).length == 48
    classifier.model.config.pad_token_id = None
    settle_padding(classifier.model, classifier.tokenizer, Path("folder"), limits.rows)
    assert classifier.model.config.pad_token_id == 0
    ids = encode(classifier.tokenizer, [Example("l", "good " * 60)], most=limits.length)
    assert np.isfinite(Inference(classifier, CPU).logits(ids)).all()


def xlnet(folder: Path, **settings: Any) -> Path:
    from transformers import XLNetConfig, XLNetForSequenceClassification

    folder.mkdir()
    torch.manual_seed(0)
    sizes = {"vocab_size": 24, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 32, "pad_token_id": 0}
    model = XLNetForSequenceClassification(XLNetConfig(**sizes, **settings))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    make_tokenizer(folder, "bert")
    return folder


def test_a_model_that_reads_the_last_place_gives_each_text_what_it_gives_it_alone(tmp_path: Path) -> None:
    model = open_model(xlnet(tmp_path / "xlnet"))
    texts = ["good", "the story was very good and it was not dull and this film is a lovely film", "bad film"]
    found = predicted(model, *({"text": text} for text in texts))
    for each, expected in zip(found, of_transformers(model, *texts), strict=True):
        assert isinstance(each, Prediction)
        assert list(each.scores.values()) == pytest.approx(expected, abs=2e-6)


def test_a_model_that_reads_padding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="reads its texts by summary_type 'mean', which padding changes"):
        open_model(xlnet(tmp_path / "xlnet", summary_type="mean"))
