import re
from pathlib import Path

import pytest
import torch

from conftest import ROOT
from extractor_checks import check_network, check_refusal, embed, filled, parameters
from facetools.extractors.architectures.mobilefacenet import SETTINGS, MobileFaceNet, canonical, network

pytestmark = pytest.mark.usefixtures("one_thread")
CASIA = Path(ROOT).parent / "shared" / "models" / "mobilefacenet-casia.ckpt"
PARTS = ("expand.0", "expand.1", "expand.2", "depthwise.0", "depthwise.1", "depthwise.2", "project.0", "project.1")
KINDS = ("conv", "bn", "prelu")
STAGES = ((0, "23"), (1, "3"), (5, "34"), (6, "4"), (12, "45"), (13, "5"))


@pytest.fixture(scope="module")
def state():
    return filled(MobileFaceNet(64))


def in_a_row(key):
    """The layout with all bottlenecks in a row."""
    if found := re.fullmatch(r"blocks\.(\d+)\.(\w+\.\d)\.(\w+)", key):
        return f"blocks.{found[1]}.conv.{PARTS.index(found[2])}.{found[3]}"
    names = {"stem": "conv1", "stem_depthwise": "dw_conv1", "widen": "conv2", "pool": "linear7", "embed": "linear1"}
    place, kind, part = key.split(".")
    return f"{names[place]}.{KINDS[int(kind)]}.{part}"


def in_stages(key):
    """The layout of InsightFace_Pytorch."""
    if found := re.fullmatch(r"blocks\.(\d+)\.(\w+)\.(\d)\.(\w+)", key):
        place = int(found[1])
        first, name = max(pair for pair in STAGES if pair[0] <= place)
        row = f"conv_{name}.model.{place - first}" if len(name) == 1 else f"conv_{name}"
        part = {"expand": "conv", "depthwise": "conv_dw", "project": "project"}[found[2]]
        return f"{row}.{part}.{KINDS[int(found[3])]}.{found[4]}"
    place, kind, part = key.split(".")
    if place == "embed":
        return f"{('linear', 'bn')[int(kind)]}.{part}"
    names = {"stem": "conv1", "stem_depthwise": "conv2_dw", "widen": "conv_6_sep", "pool": "conv_6_dw"}
    return f"{names[place]}.{KINDS[int(kind)]}.{part}"


def test_full_size():
    with torch.device("meta"):
        whole = MobileFaceNet()
        assert whole(torch.empty(2, 3, 112, 112)).shape == (2, 128)
        assert parameters(whole) / 1e6 == pytest.approx(0.99, abs=0.02)  # the paper's 0.99 million
        assert MobileFaceNet(128, (7, 6))(torch.empty(2, 3, 112, 96)).shape == (2, 128)


def test_as_an_extractor(state):
    check_network("mobilefacenet", state, SETTINGS, 64)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("layout", [in_a_row, in_stages])
def test_layouts(state, layout, prefix):
    others = {prefix + layout(key): value for key, value in state.items()}
    assert len(others) == len(state)
    others |= {f"{prefix}conv1.bn.num_batches_tracked": torch.tensor(7)}
    assert {key: value.data_ptr() for key, value in canonical(others).items()} == {
        key: value.data_ptr() for key, value in state.items()
    }


def test_linear_ending_without_scale(state):
    """As face.evoLVe ends it: a linear layer, and a normalisation with neither scale nor shift."""
    others = {in_stages(key): value for key, value in state.items()}
    for name in ("conv_6_dw.conv", "conv_6_dw.bn", "linear", "bn"):
        for key in [key for key in others if key.startswith(f"{name}.")]:
            others[f"output_layer.{key}"] = others.pop(key)
    others["output_layer.linear.weight"] = others["output_layer.linear.weight"].flatten(1)
    del others["output_layer.bn.weight"], others["output_layer.bn.bias"]
    same = {**state, "embed.1.weight": torch.ones(64), "embed.1.bias": torch.zeros(64)}
    x = torch.randn(1, 3, 112, 112)
    torch.testing.assert_close(embed("mobilefacenet", others, x), embed("mobilefacenet", same, x), rtol=0, atol=0)


@pytest.mark.skipif(not CASIA.is_file(), reason="shared/models/mobilefacenet-casia.ckpt is not beside the project")
def test_real_weights():
    """Somebody's trained weights find their places, for chips that are higher than wide."""
    found = torch.load(CASIA, weights_only=True, map_location="cpu")["net_state_dict"]
    net = network(canonical(found), {}).eval()
    out = net(torch.randn(2, 3, 112, 96))
    assert out.shape == (2, 128)
    assert out.isfinite().all()


def test_refusals(state):
    check_refusal("mobilefacenet", state, "blocks.3.project.0.weight", "widen.1.bias")
    with pytest.raises(ValueError, match=r"missing embed\.0\.weight"):
        network({}, {})
    with pytest.raises(ValueError, match="which are not 4 axes"):
        network({**state, "pool.0.weight": torch.zeros(3)}, {})


def test_a_name_with_endless_digits_is_left_as_it_is(state):
    digits = "9" * 5000  # more than int() takes
    name = f"conv_3.model.{digits}.conv.conv.weight"
    assert name in canonical({**state, name: torch.zeros(2)})
