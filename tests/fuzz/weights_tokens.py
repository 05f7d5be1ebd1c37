"""Damaged tokenizers and lists of modules in models' folders, and what compares, opens and runs them."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from berttools.checkpoints.model_folder import check_folder, has_head, inner_folder, made_of
from berttools.checkpoints.tokens import Vocabularies
from berttools.classifier.model import open_model
from berttools.texts.batches import encode
from berttools.texts.examples import Example
from fuzzing import fuzz, how_it_ended, mutated, mutated_json
from tiny_models import make_base, make_tuned

NAME = "tokens"
MODULES = [
    {"idx": 0, "name": "0", "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def _damaged_json(path: Path, rng: random.Random) -> None:
    text = json.dumps(mutated_json(json.loads(path.read_bytes()), rng)).encode()
    path.write_bytes(mutated(text, rng) if rng.random() < 0.1 else text)


def _copied(source: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def _vocabulary(folder: Path, rng: random.Random) -> None:
    tokens = [f"t{number}" for number in range(20)]
    table = {token: row for row, token in enumerate(tokens)}
    one, other = folder / "one", folder / "other"
    kind = rng.choice(("vocab.json", "vocab.txt", "tokenizer.json", "unigram"))
    for place in (one, other):
        place.mkdir()
        if kind == "vocab.txt":
            (place / kind).write_text("\n".join(tokens) + "\n")
        elif kind == "vocab.json":
            (place / kind).write_text(json.dumps(table))
            (place / "added_tokens.json").write_text(json.dumps({"new": 20}))
        else:
            listed = [[token, -1.0] for token in tokens] if kind == "unigram" else table
            found = {"model": {"vocab": listed}, "added_tokens": [{"id": 20, "content": "new"}]}
            (place / "tokenizer.json").write_text(json.dumps(found))
    path = rng.choice(sorted(other.iterdir()))
    if kind == "vocab.txt":
        path.write_bytes(mutated(path.read_bytes(), rng))
    else:
        _damaged_json(path, rng)
    for rows in (0, 20, 21):
        Vocabularies(one, other).compare(rows, resized=bool(rng.getrandbits(1)))


def _modules(folder: Path, rng: random.Random) -> None:
    _copied(TUNED, folder / "0_Transformer")
    (folder / "modules.json").write_text(json.dumps(MODULES))
    (folder / "berttools.json").write_text(json.dumps({"figures": {"accuracy": 0.5}, "seed": 3}))
    _damaged_json(folder / rng.choice(("modules.json", "berttools.json")), rng)
    assert folder in (inner_folder(folder), inner_folder(folder).parent)
    has_head(folder)
    made_of(folder)
    check_folder(folder)


def _tokenizer(folder: Path, rng: random.Random) -> None:
    copy = _copied(TUNED, folder / "model")
    _damaged_json(copy / rng.choice(("tokenizer.json", "tokenizer.json", "tokenizer_config.json")), rng)
    opened = open_model(copy)
    examples = [Example("1", "the film was good"), Example("2", "a dull day " * 30), Example("3", "", "fine")]
    encode(opened.tokenizer, examples, most=min(opened.longest, 48))


def try_one(rng: random.Random) -> str:
    """Damage one file of a folder, and read it by everything that takes it."""
    return how_it_ended(rng.choices((_vocabulary, _modules, _tokenizer), (4, 2, 2))[0], rng)


def prepare(folder: Path) -> None:
    """Make the model whose tokenizer is damaged."""
    global TUNED
    TUNED = make_tuned(make_base(folder / "base"), folder / "tuned")


if __name__ == "__main__":
    sys.exit(fuzz(NAME, try_one, prepare))
