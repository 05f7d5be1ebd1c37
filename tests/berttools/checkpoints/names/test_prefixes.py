"""A part of a model meets the part that it is of, or is refused: never another part of the same form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as t

from _toolio.errors import ToolError
from berttools.checkpoints.names import AmbiguousNamesError, align_names
from berttools.checkpoints.names.prefixes import best_match

BART: dict[str, Any] = {
    "d_model": 8, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 12, "decoder_ffn_dim": 12, "vocab_size": 20, "pad_token_id": 1, "decoder_start_token_id": 1,
}  # fmt: skip
SIZES: dict[str, Any] = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12}
TEXT = {**SIZES, "vocab_size": 20, "max_position_embeddings": 16}
VISION = {**SIZES, "image_size": 8, "patch_size": 4}


def bart(**sizes: int) -> Any:
    with torch.device("meta"):
        return t.BartForConditionalGeneration(t.BartConfig(**(BART | sizes)))


def clip(text: int, vision: int) -> Any:
    layers = {"text_config": text, "vision_config": vision}
    configs = {key: (TEXT if "text" in key else VISION) | {"num_hidden_layers": n} for key, n in layers.items()}
    with torch.device("meta"):
        return t.CLIPModel(t.CLIPConfig(**configs, projection_dim=4))


def names(module: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def under(prefix: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {prefix + name: shape for name, shape in shapes.items()}


def stored(module: Any) -> dict[str, tuple[int, ...]]:
    """Return the names of a file, which has tied tensors once."""
    tied = {"model.encoder.embed_tokens.weight", "lm_head.weight", "model.shared.weight"}
    return {name: shape for name, shape in names(module).items() if name not in tied}


def test_an_encoder_by_itself_fits_the_decoder_too() -> None:
    model = bart()
    # The whole encoder, and without the embeddings, which the file has under the decoder's name only.
    encoder = names(model.model.encoder)
    layers = {name: shape for name, shape in encoder.items() if name.startswith("layers.")}
    for part in (encoder, layers):
        for base, ft in ((stored(model), part), (part, stored(model))):
            with pytest.raises(AmbiguousNamesError, match=r"model\.decoder\..* or model\.encoder\..*fit equally") as no:
                align_names(base, ft)
            assert no.value.kind == "ambiguous"
            assert no.value.message.endswith("give model.decoder. or model.encoder. as strip_prefix")
        pairs = align_names(stored(model), part, strip=["model.encoder."]).pairs
        shared = "embed_tokens.weight"  # which the file has once, as the decoder's
        assert pairs == {f"model.{'decoder' if name == shared else 'encoder'}.{name}": name for name in part}
    # A wrapper of its own in front of it changes nothing.
    with pytest.raises(AmbiguousNamesError, match=r"model\.encoder\. \(net\. too\) as strip_prefix"):
        align_names(stored(model), under("net.", layers))
    pairs = align_names(stored(model), under("net.", layers), strip=["model.encoder.", "net."]).pairs
    assert pairs == {f"model.encoder.{name}": f"net.{name}" for name in layers}


def test_names_shapes_and_other_tensors_that_decide() -> None:
    model = bart()
    whole, encoder, decoder = names(model), names(model.model.encoder), names(model.model.decoder)
    # Its own name is in its names; the decoder has cross-attention; and shapes, or a layer more, tell others apart.
    assert align_names(whole, under("encoder.", encoder)).pairs == {
        f"model.encoder.{name}": f"encoder.{name}" for name in encoder
    }
    assert align_names(whole, decoder).pairs == {f"model.decoder.{name}": name for name in decoder}
    for sizes in ({"encoder_ffn_dim": 16}, {"encoder_layers": 3}):
        other = bart(**sizes)
        part = names(other.model.encoder)
        assert align_names(names(other), part).pairs == {f"model.encoder.{name}": name for name in part}
    assert align_names(whole, names(model.model)).pairs == {f"model.{name}": name for name in names(model.model)}


@pytest.mark.parametrize(("text", "vision"), [(2, 2), (3, 2), (2, 3)])
def test_towers_of_two(text: int, vision: int) -> None:
    model = clip(text, vision)
    whole, tower = names(model), names(model.vision_model)
    prefix = "vision_model."
    assert {prefix + name for name in tower} <= whole.keys()
    assert align_names(whole, tower).pairs == {prefix + name: name for name in tower}
    assert align_names(tower, whole).pairs == {name: prefix + name for name in tower}
    head = tower | {"classifier.weight": (2, 8), "classifier.bias": (2,)}
    assert align_names(whole, head).only_ft == ["classifier.bias", "classifier.weight"]
    layers = names(model.vision_model.encoder)
    if text >= vision:  # all of its layers are in the other tower too
        with pytest.raises(AmbiguousNamesError, match=r"give text_model\.encoder\. or vision_model\.encoder\. as"):
            align_names(whole, layers)
        pairs = align_names(whole, layers, strip=["vision_model.encoder."]).pairs
    else:
        pairs = align_names(whole, layers).pairs
    assert pairs == {f"vision_model.encoder.{name}": name for name in layers}


def test_a_copy_whose_prefix_has_a_digit_is_a_rival() -> None:
    layers = {f"layers.{n}.weight": (4, 4) for n in range(3)}
    with pytest.raises(AmbiguousNamesError, match=r"give encoder\. or encoder2\. as strip_prefix"):
        align_names(under("encoder.", layers) | under("encoder2.", layers), layers)
    both = under("model.", layers) | under("model_ema.", layers)
    with pytest.raises(ToolError, match=r"two parts of the fine-tuned model fit equally well; give model\. or model_e"):
        align_names(layers, both)
    assert align_names(layers, both, strip=["model."]).pairs == {name: f"model.{name}" for name in layers}


def test_heads_are_no_layers() -> None:
    head = {"classifier.weight": (2, 4), "classifier.bias": (2,)}
    base = {f"bert.layer.{n}.w": (4, 4) for n in range(9)} | {"cls.weight": (2, 4), "cls.bias": (2,)}
    assert align_names(base, head).pairs == {}
    assert best_match(base, base, wrappers_only=False).pairs == {name: name for name in base}
