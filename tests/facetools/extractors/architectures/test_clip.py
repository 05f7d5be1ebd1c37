import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from _toolio.errors import ToolError
from facetools.extractors.architectures import clip
from facetools.extractors.convert.convert import import_extractor
from facetools.extractors.convert.read import read_weights
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
        ({"model_type": "clip_vision_model", **VISION, "hidden_size": True}, "no whole number"),
        ({"model_type": "clip_vision_model", **VISION, "num_attention_heads": 3}, "not a multiple of the number"),
        (
            {"model_type": "clip_vision_model", **VISION, "num_hidden_layers": 99_999},
            "of 99999 layers, the weights of 2",
        ),
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


@pytest.mark.parametrize("name", ["a.safetensors", "", "\ud800", "x" * 5000, ".."])
def test_shards_that_are_not_there(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip_vision_model", **VISION}))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ToolError, match=r"which its model\.safetensors\.index\.json names; copy it there"):
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


def test_a_tensor_in_two_shards_is_refused_where_they_differ(folder, tmp_path):
    folder[1].save_pretrained(tmp_path, max_shard_size="20KB")
    first, *_, last = sorted(tmp_path.glob("*.safetensors"))
    (key, value), *_ = load_file(first).items()
    save_file({**load_file(last), key: value}, last, {"format": "pt"})
    import_extractor(tmp_path, tmp_path / "same.clip.safetensors")
    save_file({**load_file(last), key: value + 1}, last, {"format": "pt"})
    with pytest.raises(ToolError, match=f"{last.name}: {key} is in {first.name} too, with other values"):
        import_extractor(tmp_path, tmp_path / "x.safetensors")


@pytest.mark.parametrize("sharded", [False, True])
def test_weights_that_the_configuration_names_are_those_that_transformers_loads(folder, tmp_path, sharded):
    folder[1].save_pretrained(tmp_path)
    tuned = {key: value * 2 for key, value in folder[1].state_dict().items() if value.is_floating_point()}
    save_file(tuned, tmp_path / "tuned.safetensors", {"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(tuned, "tuned.safetensors")}
    (tmp_path / "tuned.safetensors.index.json").write_text(json.dumps(index))
    config = json.loads((tmp_path / "config.json").read_bytes())
    named = "tuned.safetensors.index.json" if sharded else "tuned.safetensors"
    (tmp_path / "config.json").write_text(json.dumps({**config, "transformers_weights": named}))
    loaded = type(folder[1]).from_pretrained(tmp_path).state_dict()
    found = read_weights(tmp_path).containers[""]
    assert all(torch.equal(loaded[key], value) for key, value in found.items())
    assert torch.equal(found["vision_model.post_layernorm.weight"], tuned["vision_model.post_layernorm.weight"])
    for wrong in ("../x.safetensors", "nowhere.safetensors"):
        (tmp_path / "config.json").write_text(json.dumps({**config, "transformers_weights": wrong}))
        with pytest.raises(ToolError, match=f"names '{wrong}' as its transformers_weights, which is no file in it"):
            read_weights(tmp_path)


def test_options_are_needed():
    with pytest.raises(ValueError, match="does not tell"):
        clip.network({"visual_projection.weight": torch.zeros(2, 2)}, {})
