from dataclasses import replace

import pytest
import torch
from torchvision.models import vgg16

from extractor_checks import check_network, check_refusal, embed, filled, parameters
from facetools.extractors.architectures.vgg16_face import SETTINGS, Vgg16Face, canonical, network

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 64  # of the tests' chips; their last map is 2x2


@pytest.fixture(scope="module")
def state():
    """All filters, with linear layers for small chips."""
    with torch.device("meta"):
        small = Vgg16Face(4, 40, 24)
    return filled(small)


def torchvision_names():
    with torch.device("meta"):
        keys = [key for key in vgg16().state_dict() if key.endswith(".weight")]
    return [key.removesuffix(".weight") for key in keys]


def renamed(state, names):
    """Our tensors and an eighth linear layer under others' names, in the order of the layers."""
    layers = dict.fromkeys(key.rsplit(".", 1)[0] for key in state)
    new = dict(zip([*layers, "fc8"], names, strict=True))
    more = {**state, "fc8.weight": torch.zeros(2622, 24), "fc8.bias": torch.zeros(2622)}
    return {f"{new[layer]}.{part}": value for key, value in more.items() for layer, part in [key.rsplit(".", 1)]}


def test_full_size():
    with torch.device("meta"):
        whole = Vgg16Face()
        assert whole(torch.empty(2, 3, 224, 224)).shape == (2, 4096)
        # Torchvision's has the same layers, and one more for 1000 classes.
        assert parameters(whole) == parameters(vgg16()) - 1000 * 4097
        assert network(whole.state_dict(), {}).fc6.in_features == 512 * 49


def test_same_as_torchvision(state):
    """With its names, its trunk and what precedes the last linear layer."""
    others = renamed(state, torchvision_names())
    assert "features.28.weight" in others
    x = torch.randn(1, 3, SIDE, SIDE)
    with torch.device("meta"):
        peer = vgg16().eval()
    peer.avgpool = torch.nn.Identity()
    classifier = [torch.nn.Linear(2048, 40), torch.nn.ReLU(), torch.nn.Identity(), torch.nn.Linear(40, 24)]
    peer.classifier = torch.nn.Sequential(*classifier, torch.nn.ReLU())
    peer.load_state_dict({k: v for k, v in others.items() if not k.startswith("classifier.6")}, assign=True)
    with torch.no_grad():
        torch.testing.assert_close(embed("vgg16-face", others, x), peer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("filters", "linear"),
    [
        ("conv{}_{}", "fc{}"),
        ("conv_{}_{}", "fc{}"),
        ("features.conv_{}_{}", "fc.fc{}"),
        ("module.features.conv{}_{}", "module.classifier.fc{}"),
    ],
)
def test_layouts(state, filters, linear):
    stages = [(stage, place) for stage, count in enumerate((2, 2, 3, 3, 3), 1) for place in range(1, count + 1)]
    names = [filters.format(*pair) for pair in stages] + [linear.format(number) for number in (6, 7, 8)]
    found = canonical(renamed(state, names))
    assert {key: value.data_ptr() for key, value in found.items()} == {
        key: value.data_ptr() for key, value in state.items()
    }


def test_linear_layers_that_were_filters(state):
    others = {**state, "fc6.weight": state["fc6.weight"].view(40, 512, 2, 2)}
    others["fc7.weight"] = state["fc7.weight"].view(24, 40, 1, 1)
    torch.testing.assert_close(canonical(others)["fc6.weight"], state["fc6.weight"], rtol=0, atol=0)
    x = torch.randn(1, 3, SIDE, SIDE)
    torch.testing.assert_close(embed("vgg16-face", others, x), embed("vgg16-face", state, x), rtol=0, atol=0)


def test_as_an_extractor(state):
    check_network("vgg16-face", state, replace(SETTINGS, input_size=(SIDE, SIDE)), 24)
    assert (embed("vgg16-face", state, torch.randn(1, 3, SIDE, SIDE)) >= 0).all()


def test_refusals(state):
    check_refusal("vgg16-face", state, "conv3_2.weight", "conv5_1.bias")
    with pytest.raises(ValueError, match=r"missing fc6\.weight"):
        network({}, {})
    with pytest.raises(ValueError, match="512x3x3, 4608 numbers, where the embedding layer takes 2048"):
        network(state, {})(torch.zeros(1, 3, 96, 96))
    # A layer of torchvision's that holds no tensors keeps its name, and is refused by it.
    with pytest.raises(ValueError, match=r"unknown features\.1\.weight"):
        network(canonical({**state, "features.1.weight": torch.zeros(3)}), {})


def test_a_name_with_endless_digits_is_left_as_it_is(state):
    digits = "9" * 5000  # more than int() takes
    name = f"features.{digits}.weight"
    assert name in canonical({**state, name: torch.zeros(2)})
