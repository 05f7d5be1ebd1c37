"""Output matrices that are copies of the embeddings are found, and count once."""

import torch
from safetensors.torch import save_file

from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.tied import tied_tensors
from berttools.layerdiff.diffs import diff_checkpoints, summarise


def write(path, tensors):
    save_file(tensors, path)
    return open_checkpoint(path)


def test_tied_tensors(tmp_path):
    table, bias = torch.randn(20, 4), torch.randn(20)
    tensors = {
        "bert.embeddings.word_embeddings.weight": table, "cls.predictions.decoder.weight": table.clone(),
        "cls.predictions.bias": bias, "cls.predictions.decoder.bias": bias.clone(), "other.decoder.weight": bias + 1,
    }  # fmt: skip
    tied = tied_tensors(write(tmp_path / "tied", tensors))
    assert tied == {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    both = write(tmp_path / "tied", tensors)
    (summary,) = summarise(diff_checkpoints(both, both), "model")
    assert summary.tensors == 3
    tensors["cls.predictions.decoder.weight"] = table + 1
    assert "cls.predictions.decoder.weight" not in tied_tensors(write(tmp_path / "untied", tensors))
