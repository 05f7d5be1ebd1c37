"""Cosine similarities between the hidden states of layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from _toolio.errors import ToolError
from _toolio.words import many
from berttools.classifier.inference import Inference
from berttools.classifier.model import Classifier
from berttools.texts.batches import Encoded


@torch.inference_mode()
def layer_similarities(
    inference: Inference, classifier: Classifier, texts: Sequence[Encoded], layers: int, batch: int
) -> list[float]:
    """Return for each layer the mean cosine of its hidden state to those of the other layers, -1 to 1.

    s_l = mean over texts and k != l of cos(h_l, h_k), where h_l is the output of layer l at the token that stands for
    the text: the first one ([CLS]), or the last one where attention is causal or the model reads the last place. No
    label and no gradient is used, and no head. PRiSM (LREC 2026, paper 810; earlier OpenReview Atm5Id6HZE) ranks layers
    by such similarities and tunes those that score highest. Its full text was not at hand: that all other layers count
    alike is taken from its abstract, and is a choice made here.

    Parameters
    ----------
    inference, classifier
        The model; in eval mode afterwards.
    texts
        Tokens of each.
    layers
        How many layers the names of its tensors have.
    batch
        Texts a pass.

    Raises
    ------
    ToolError
        Kind ``"no-layers"``: the model has one layer, or does not give one hidden state a layer (encoder-decoders;
        layers that share their weights).
    """
    inference.model.eval()
    order = sorted(range(len(texts)), key=lambda number: (classifier.limits.ends(texts[number]), len(texts[number])))
    total = torch.zeros(layers, layers, dtype=torch.float64)
    for start in range(0, len(order), batch):
        some = [texts[number] for number in order[start : start + batch]]
        found = inference.outputs(inference.model, some, output_hidden_states=True)
        states = getattr(found, "hidden_states", None)
        if states is None or len(states) != layers + 1 or layers < 2:
            raise ToolError(
                f"{classifier.model.config._name_or_path}: cosines need two layers or more, and a hidden state of each"
                f" and of the embeddings; its names have {many(layers, 'layer')}, and it gives"
                f" {many(len(states or ()), 'state')}; try another criterion",
                kind="no-layers",
            )
        unit = torch.nn.functional.normalize(_at_token(states[1:], some, classifier).double(), dim=-1)
        total += torch.einsum("lth,kth->lk", unit, unit).cpu()
    mean = total / len(texts)
    return [float(value) for value in (mean.sum(1) - mean.diagonal()) / (layers - 1)]


def _at_token(states: Sequence[Tensor], texts: Sequence[Encoded], classifier: Classifier) -> Tensor:
    """Return the states of the tokens that stand for texts, [layers, texts, hidden]."""
    stacked = torch.stack(list(states))
    if classifier.limits.left:
        return stacked[:, :, -1]
    causal = any(getattr(module, "is_causal", False) for module in classifier.model.modules())
    places = [len(text) - 1 if causal else 0 for text in texts]
    return stacked[:, torch.arange(len(texts)), places]
