import pytest
import torch
import torch.nn.functional as F

from extractor_checks import check_network, check_refusal, embed, filled, parameters
from facetools.extractors.architectures.inception_resnet_v1 import SETTINGS, InceptionResnetV1, canonical, network

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def state():
    with torch.device("meta"):
        whole = InceptionResnetV1()
    return filled(whole)


def test_full_size():
    with torch.device("meta"):
        whole = InceptionResnetV1()
        assert whole(torch.empty(2, 3, 160, 160)).shape == (2, 512)
        # With the 8631 people of VGGFace2 behind it, 27.91 million, as facenet-pytorch's file has.
        assert parameters(whole) + 8631 * 513 == 27_910_327


def test_facenet_pytorch(state):
    peer = pytest.importorskip("facenet_pytorch", reason="facenet-pytorch is not installed").InceptionResnetV1().eval()
    missing, unknown = peer.load_state_dict(state, strict=False)
    assert not unknown
    assert all(key.endswith("num_batches_tracked") for key in missing)
    for size in ((160, 160), (112, 96)):
        x = torch.randn(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(F.normalize(embed("inception-resnet-v1", state, x)), peer(x))


def test_residual_scale_and_epsilon(state):
    """What no tensor tells: how much of each residual is added, and the epsilon of the normalisations."""
    net = network(state, {}).eval()
    x = torch.randn(1, 256, 8, 8)
    with torch.no_grad():
        for stage, channels, scale, last in (
            ("repeat_1", 256, 0.17, 4),
            ("repeat_2", 896, 0.10, 9),
            ("repeat_3", 1792, 0.20, 4),
        ):
            block = getattr(net, stage)[last]
            assert len(getattr(net, stage)) == last + 1
            x = torch.randn(1, channels, 8, 8)
            y = block.conv2d(torch.cat(block.side_by_side(x), 1))
            torch.testing.assert_close(block(x), F.relu(x + scale * y))
        y = net.block8.conv2d(torch.cat(net.block8.side_by_side(x), 1))
        torch.testing.assert_close(net.block8(x), x + y)
    assert {layer.eps for layer in net.modules() if isinstance(layer, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d)} == {
        1e-3
    }


def test_as_an_extractor(state):
    check_network("inception-resnet-v1", state, SETTINGS, 512)


def test_layouts(state):
    others = {f"module.{key}": value for key, value in state.items()}
    others |= {"module.logits.weight": torch.zeros(10, 512), "module.logits.bias": torch.zeros(10)}
    others |= {"module.last_bn.num_batches_tracked": torch.tensor(7)}
    assert {key: value.data_ptr() for key, value in canonical(others).items()} == {
        key: value.data_ptr() for key, value in state.items()
    }


def test_refusals(state):
    check_refusal("inception-resnet-v1", state, "repeat_2.3.branch1.0.conv.weight", "mixed_7a.branch2.0.bn.bias")
    with pytest.raises(ValueError, match=r"missing last_linear\.weight"):
        network({}, {})
