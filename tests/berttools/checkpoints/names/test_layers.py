"""Numbers of layers, and the stacks that they are of."""

import pytest

from berttools.checkpoints.names.layers import locate, row_of, row_order, stack_names


@pytest.mark.parametrize(
    ("name", "path", "layer", "rest"),
    [
        ("bert.encoder.layer.11.output.dense.weight", "bert.encoder.layer", 11, "output.dense.weight"),
        ("decoder.block.3.layer.1.EncDecAttention.q.weight", "decoder.block", 3, "layer.1.EncDecAttention.q.weight"),
        ("encoder.layers.1.blocks.2.norm.weight", "encoder.layers.1.blocks", 2, "norm.weight"),
        ("encoder.layers.1.downsample.norm.weight", "encoder.layers", 1, "downsample.norm.weight"),
        ("encoder.blocks.0.2.ffn.weight", "encoder.blocks.0", 2, "ffn.weight"),
        ("encoder.stages.1.layers.2.dwconv.weight", "encoder.stages.1.layers", 2, "dwconv.weight"),
        ("transformer.layers.0.1.fn.weight", "transformer.layers", 0, "1.fn.weight"),
        ("h._orig_mod.4._checkpoint_wrapped_module.attn.c_attn.weight", "h", 4, "attn.c_attn.weight"),
    ],
)
def test_a_name_is_taken_apart_at_its_layer(name: str, path: str, layer: int, rest: str) -> None:
    assert locate(name) == (path, layer, rest)


@pytest.mark.parametrize(
    "name", ["", "pooler.dense.weight", "layer.x.weight", "layer.1", "encoder.stages.0.norm.weight"]
)
def test_what_has_no_layer(name: str) -> None:
    assert locate(name) is None


def test_a_number_of_five_thousand_digits_is_none_of_a_layer() -> None:
    assert locate(f"encoder.layer.{'9' * 5000}.attention.self.query.weight") is None


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["bert.encoder.layer"], [None]),
        (["model.encoder.layers", "model.decoder.layers"], ["encoder", "decoder"]),
        (["encoder.encoder.layer", "decoder.bert.encoder.layer"], ["encoder", "decoder"]),
        (["model.layers", "visual.blocks"], ["model", "visual"]),
        (["layers", "vision.layers"], ["layers", "vision"]),
        (["v.global.layers", "v.local.layers", "language.layers"], ["v.global", "v.local", "language"]),
        (["encoder.layers.0.blocks", "encoder.layers.1.blocks"], ["layers.0", "layers.1"]),
        (["encoder.layers", "encoder.layers.0.blocks"], ["layers", "layers.0"]),
    ],
)
def test_names_of_stacks(paths: list[str], names: list[str | None]) -> None:
    assert stack_names(paths) == dict(zip(paths, names, strict=True))


def test_encoders_come_before_decoders() -> None:
    assert row_of(None, 3) == 3
    rows = [("decoder", 0), (None, None), ("encoder", 10), ("encoder", 9)]
    assert sorted(rows, key=lambda row: row_order(*row)) == [
        ("encoder", 9), ("encoder", 10), ("decoder", 0), (None, None),
    ]  # fmt: skip
