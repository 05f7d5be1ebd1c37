import pytest
import torch
from torchvision.models import resnet50

from extractor_checks import check_network, check_refusal, embed, filled, parameters
from facetools.extractors.architectures.resnet_face import DEPTHS, SETTINGS, ResNetFace, canonical, network

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def state():
    """A thin ResNet with the depths of the 50-layer one, under face.evoLVe's names."""
    return filled(ResNetFace(DEPTHS[50], (8, 8, 8, 12, 16), 16, 32))


@pytest.mark.parametrize(("depth", "millions"), [(50, 40.291), (101, 59.283), (152, 74.927)])
def test_full_sizes(depth, millions):
    with torch.device("meta"):
        whole = ResNetFace(DEPTHS[depth])
        assert whole(torch.empty(2, 3, 112, 112)).shape == (2, 512)
        assert parameters(whole) / 1e6 == pytest.approx(millions, abs=5e-4)
        assert len(network(whole.state_dict(), {}).layer3) == DEPTHS[depth][2]


def test_same_trunk_as_torchvision():
    """Up to the ending it is the ResNet that everybody has, with the same names."""
    trunk = resnet50().eval()
    with torch.device("meta"):
        whole = ResNetFace(DEPTHS[50], dimensions=4)
    ours = filled(whole)
    shared = {key: value for key, value in ours.items() if key in trunk.state_dict() and not key.startswith("fc.")}
    missing = trunk.load_state_dict(shared, strict=False).missing_keys
    assert {key for key in missing if not key.endswith("num_batches_tracked")} == {"fc.weight", "fc.bias"}
    trunk.avgpool, trunk.fc = torch.nn.Identity(), torch.nn.Identity()
    with torch.no_grad():
        x = torch.randn(1, 3, 112, 112)
        maps = trunk(x).view(1, 2048, 4, 4)
        net = network(ours, {}).eval()
        expected = net.bn_o2(net.fc(net.bn_o1(maps).flatten(1)))
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)


def test_as_an_extractor(state):
    assert SETTINGS.mirrored
    check_network("resnet-face", state, SETTINGS, 32)


def test_prefixes(state):
    others = {f"module.{key}": value for key, value in state.items()}
    others |= {"module.bn1.num_batches_tracked": torch.tensor(7), "head.weight": torch.zeros(10, 32)}
    assert sorted(canonical(others)) == sorted(state)
    x = torch.randn(1, 3, 112, 112)
    torch.testing.assert_close(embed("resnet-face", others, x), embed("resnet-face", state, x), rtol=0, atol=0)


def test_refusals(state):
    check_refusal("resnet-face", state, "layer2.1.conv1.weight", "layer4.1.bn2.bias")
    with pytest.raises(ValueError, match=r"missing layer4\.0"):
        network({key: value for key, value in state.items() if not key.startswith("layer4.")}, {})
    with pytest.raises(ValueError, match="7x7, 3136 numbers, where the embedding layer takes 1024"):
        network(state, {}).eval()(torch.zeros(1, 3, 224, 224))
