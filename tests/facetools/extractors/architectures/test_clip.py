import json

import pytest
import torch

from _toolio.errors import ToolError
from facetools.extractors.architectures import clip
from facetools.extractors.convert.convert import import_extractor
from facetools.extractors.factory import open_extractor

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")

VISION = {
    "hidden_size": 32, "intermediate_size": 64, "projection_dim": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": 32, "patch_size": 8, "hidden_act": "gelu",
}  # fmt: skip


@pytest.fixture(scope="module", params=["whole", "vision"])
def folder(request, tmp_path_factory):
    """A small CLIP with random weights, saved by transformers, and the same as a module."""
    path = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    if request.param == "vision":
        model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**VISION))
    else:
        text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
        model = transformers.CLIPModel(config)
    model.save_pretrained(path)
    return path, model.eval()


def theirs(model, pixels):
    with torch.no_grad():
        if hasattr(model, "text_model"):
            out = model.get_image_features(pixel_values=pixels)
            return getattr(out, "pooler_output", out)
        return model(pixel_values=pixels).image_embeds


def test_same_embeddings_as_transformers(folder, tmp_path):
    path, model = folder
    record = import_extractor(path, tmp_path / "clip.safetensors")
    assert (record["dimensions"], record["architecture"]) == (16, "clip")
    extractor = open_extractor(str(tmp_path / "clip.safetensors"), torch.device("cpu"))
    assert (extractor.size, extractor.alignment, extractor.distance) == ((32, 32), "center", "cosine")
    chips = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    # What CLIPImageProcessor does behind its resizing; the constants are the paper's.
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (
        transformers.image_utils.OPENAI_CLIP_MEAN, transformers.image_utils.OPENAI_CLIP_STD,
    ))  # fmt: skip
    expected = torch.nn.functional.normalize(theirs(model, (chips - mean) / std))
    assert torch.allclose(extractor.network(chips), expected, atol=1e-5)


def test_the_text_tower_stays_out(folder, tmp_path):
    record = import_extractor(folder[0], tmp_path / "clip.safetensors")
    stored = sum(1 for key in folder[1].state_dict() if key.startswith(("vision_model.", "visual_projection.")))
    assert record["tensors"] == stored
    assert (record["left_out"] > 0) == hasattr(folder[1], "text_model")


def test_a_gradient_reaches_the_chip(folder, tmp_path):
    import_extractor(folder[0], tmp_path / "clip.safetensors")
    network = open_extractor(str(tmp_path / "clip.safetensors"), torch.device("cpu")).network
    chips = torch.rand(2, 3, 32, 32).requires_grad_()
    (gradient,) = torch.autograd.grad(network(chips)[:, 0].sum(), chips)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().amax((1, 2, 3)) > 0).all()


def test_half_is_half_the_size(folder, tmp_path):
    whole = import_extractor(folder[0], tmp_path / "a.safetensors")
    half = import_extractor(folder[0], tmp_path / "b.safetensors", half=True)
    assert half["bytes"] < 0.7 * whole["bytes"]
    a, b = (open_extractor(str(tmp_path / f"{name}.safetensors"), torch.device("cpu")) for name in "ab")
    chips = torch.rand(2, 3, 32, 32)
    assert torch.nn.functional.cosine_similarity(a.network(chips), b.network(chips)).min() > 0.999


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "bert"}, "'bert' model"),
        ({"model_type": "clip_vision_model", "hidden_size": "32"}, "no whole number"),
        ({"model_type": "clip_vision_model", **VISION, "hidden_act": "no such thing"}, "cannot build"),
        ({"model_type": "clip_vision_model", **VISION, "hidden_size": 48}, "of another shape"),
    ],
)
def test_a_configuration_of_something_else_is_one_line(folder, tmp_path, change, words):
    (tmp_path / "model.safetensors").write_bytes((folder[0] / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(change))
    with pytest.raises(ToolError, match=words) as caught:
        import_extractor(tmp_path, tmp_path / "x.safetensors")
    assert "\n" not in caught.value.message


def test_folders_that_lack_something(tmp_path):
    with pytest.raises(ToolError, match=r"no config\.json"):
        import_extractor(tmp_path, tmp_path / "x.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip_vision_model", **VISION}))
    with pytest.raises(ToolError, match=r"no model\.safetensors"):
        import_extractor(tmp_path, tmp_path / "x.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../elsewhere.safetensors"}}')
    with pytest.raises(ToolError, match=r"no model\.safetensors"):
        import_extractor(tmp_path, tmp_path / "x.safetensors")


def test_shards_are_read_together(folder, tmp_path):
    (tmp_path / "shards").mkdir()
    folder[1].save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    whole, parts = (
        import_extractor(source, tmp_path / f"{n}.safetensors")
        for n, source in enumerate((folder[0], tmp_path / "shards"))
    )
    assert whole["tensors"] == parts["tensors"]
    a, b = (open_extractor(str(tmp_path / f"{n}.safetensors"), torch.device("cpu")) for n in (0, 1))
    chips = torch.rand(1, 3, 32, 32)
    assert torch.equal(a.network(chips), b.network(chips))


def test_options_are_needed():
    with pytest.raises(ValueError, match="does not tell"):
        clip.network({"visual_projection.weight": torch.zeros(2, 2)}, {})
