"""CLIP's vision tower with its projection, through transformers (Radford et al. 2021, arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from _toolio.errors import in_one_line
from _toolio.lazy import quiet_torch
from facetools.extractors.settings import Settings
from facetools.extractors.state_dicts import count_of, load_exactly

# Mean and standard deviation of the paper's training photos, as every CLIP uses them.
SETTINGS = Settings(
    (224, 224),
    "center",
    mean=(0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255),
    std=(0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255),
)
REQUIRES = ("transformers",)

_COUNTS = (
    "hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers", "num_attention_heads",
    "num_channels", "image_size", "patch_size",
)  # fmt: skip
OPTIONS = (*_COUNTS, "hidden_act", "layer_norm_eps")
"""Fields of a vision configuration that determine what the network computes."""


class ClipNetwork(nn.Module):
    """The vision tower and the projection, which return the projected embedding alone.

    Parameters
    ----------
    model
        transformers' ``CLIPVisionModelWithProjection``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Embed prepared chips, float32 [B, 3, size, size]: float32 [B, projection_dim], not normalised."""
        out: Tensor = self.model(pixel_values=x).image_embeds
        return out


def network(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> nn.Module:
    """Build the network around its tensors; ``options`` are those of :func:`read_config`.

    Nothing is looked up: transformers gets neither a folder nor a name.

    Raises
    ------
    ValueError
        The tensors are others', or the options are not those of a vision tower.
    """
    if "visual_projection.weight" not in state:
        raise ValueError("no visual_projection.weight, which every CLIP has")
    if missing := [name for name in OPTIONS if name not in options]:
        raise ValueError(f"the configuration does not tell {', '.join(missing)}; give the whole folder")
    # Building as many as a configuration says could take all memory.
    if options["num_hidden_layers"] != (layers := count_of(state, "vision_model.encoder.layers.")):
        raise ValueError(f"the configuration tells of {options['num_hidden_layers']} layers, the weights of {layers}")
    quiet_torch()
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    try:
        with torch.device("meta"):
            model = CLIPVisionModelWithProjection(CLIPVisionConfig(**{name: options[name] for name in OPTIONS}))
    except Exception as error:  # transformers raises whatever a wrong field leads to
        raise ValueError(f"transformers cannot build it: {in_one_line(error.__cause__ or error)}") from None
    load_exactly(model, state)
    for module in model.modules():
        # Places are counted, not stored, so that loading leaves them without values.
        if (places := getattr(module, "position_ids", None)) is not None:
            module.position_ids = torch.arange(places.shape[-1])[None]
    return ClipNetwork(model)


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the vision tower and its projection under transformers' names, without text tower and scale."""
    others = ("text_model.", "text_projection.", "logit_scale")
    return {k: v for k, v in state.items() if not k.startswith(others) and not k.endswith("position_ids")}


def read_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read ``config.json`` of a CLIP folder, the whole CLIP's or the vision tower's.

    Returns
    -------
    dict
        :data:`OPTIONS`.

    Raises
    ------
    ValueError
        It is another model's, or its fields are not of the kinds they should be.
    """
    kind = config.get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise ValueError(f"its config.json is of a {kind!r} model, not of a clip")
    quiet_torch()
    from transformers import CLIPVisionConfig

    vision = config.get("vision_config", {}) if kind == "clip" else config
    # Older files leave out what is as it was in the first CLIP, and the whole CLIP says how long embeddings are.
    fields = {**CLIPVisionConfig().to_dict(), **vision}
    if kind == "clip" and "projection_dim" in config:
        fields["projection_dim"] = config["projection_dim"]
    options: dict[str, Any] = {name: fields.get(name) for name in OPTIONS}
    if not all(type(options[name]) is int and 0 < options[name] < 100_000 for name in _COUNTS):
        raise ValueError("a size in its config.json is no whole number")
    if not isinstance(options["hidden_act"], str) or not isinstance(options["layer_norm_eps"], float):
        raise ValueError("hidden_act or layer_norm_eps in its config.json is not what it should be")
    return options


def settings_of(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> Settings:  # noqa: ARG001
    """Return CLIP's settings with the size of the configuration."""
    size = options.get("image_size", SETTINGS.input_size[0])
    return Settings((size, size), SETTINGS.alignment, mean=SETTINGS.mean, std=SETTINGS.std)
