import pytest
import torch
import torch.nn.functional as F

from extractor_checks import check_network, check_refusal, embed, filled, parameters
from facetools.extractors.architectures.iresnet import DEPTHS, SETTINGS, IResNet, canonical, network

pytestmark = pytest.mark.usefixtures("one_thread")
NARROW = (8, 8, 12, 16, 24)


@pytest.fixture(scope="module")
def state():
    """A thin iResNet-18 for whole chips, under InsightFace's names."""
    return filled(IResNet(DEPTHS[18], NARROW, 49, 32))


def plain(state, x, eps=1e-5):
    """The network once more, from its tensors and without modules."""

    def norm(name, x):
        parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, eps=eps)

    x = F.prelu(norm("bn1", F.conv2d(x, state["conv1.weight"], padding=1)), state["prelu.weight"])
    for name in (f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)):
        step = 2 if name.endswith(".0") else 1
        y = F.conv2d(norm(f"{name}.bn1", x), state[f"{name}.conv1.weight"], padding=1)
        y = F.prelu(norm(f"{name}.bn2", y), state[f"{name}.prelu.weight"])
        y = norm(f"{name}.bn3", F.conv2d(y, state[f"{name}.conv2.weight"], stride=step, padding=1))
        if step == 2:
            x = norm(f"{name}.downsample.1", F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=2))
        x = x + y
    x = F.linear(norm("bn2", x).reshape(len(x), -1), state["fc.weight"], state["fc.bias"])
    return norm("features", x)


# Counted layer by layer from the table of blocks: filters, normalisations, PReLUs and the linear layer.
@pytest.mark.parametrize(
    ("depth", "millions"), [(18, 24.026), (34, 34.139), (50, 43.591), (100, 65.156), (200, 118.834)]
)
def test_full_sizes(depth, millions):
    with torch.device("meta"):
        whole = IResNet(DEPTHS[depth])
        assert whole(torch.empty(2, 3, 112, 112)).shape == (2, 512)
        assert parameters(whole) / 1e6 == pytest.approx(millions, abs=5e-4)
        assert len(network(whole.state_dict(), {}).layer3) == DEPTHS[depth][2]


def test_formula(state):
    x = torch.randn(2, 3, 112, 112)
    torch.testing.assert_close(embed("iresnet", state, x), plain(state, x), rtol=1e-4, atol=1e-4)


def test_as_an_extractor(state):
    check_network("iresnet", state, SETTINGS, 32)


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "model.backbone."])
def test_prefixes(state, prefix):
    others = {f"{prefix}{key}": value for key, value in state.items()}
    others |= {f"{prefix}bn1.num_batches_tracked": torch.tensor(7)}
    assert {key: value.data_ptr() for key, value in canonical(others).items()} == {
        key: value.data_ptr() for key, value in state.items()
    }


@pytest.mark.parametrize("prefix", ["features.module.", "module.features."])
def test_magface(state, prefix):
    """Its classifier has the embedding layer's name outside the network's prefix, its epsilon is another."""
    # Variances so small that the epsilon shows, at both ends of the network.
    small = {**state, **{f"{name}.running_var": state[f"{name}.running_var"] * 1e-4 for name in ("bn1", "features")}}
    others = {f"{prefix}{key}": value for key, value in small.items()}
    others |= {f"{prefix}layer1.0.bn1.num_batches_tracked": torch.tensor(7), "fc.weight": torch.zeros(32, 10)}
    found = canonical(others)
    assert sorted(found) == sorted(state)
    for key in state:
        assert torch.equal(found[key], small[key] + 1e-5 * key.endswith(".running_var"))
    x = torch.randn(1, 3, 112, 112)
    expected = plain(small, x, eps=2e-5)
    torch.testing.assert_close(
        embed("iresnet", others, x), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item()
    )
    assert (plain(small, x) - expected).abs().max() > 0.01 * expected.abs().max()


def test_half_and_other_chips(state):
    small = filled(IResNet(DEPTHS[18], NARROW, 42, 32))
    built = network({key: value.half() for key, value in small.items()}, {}).eval()
    assert built.fc.weight.dtype == torch.float32
    assert built(torch.randn(1, 3, 112, 96)).shape == (1, 32)
    with pytest.raises(ValueError, match="7x7, 1176 numbers, where the embedding layer takes 1008"):
        built(torch.randn(1, 3, 112, 112))


def test_refusals(state):
    check_refusal("iresnet", state, "layer2.1.conv1.weight", "layer4.1.bn2.bias")
    for gone in ("layer3.", "fc.weight", "conv1.weight"):
        with pytest.raises(ValueError, match=f"missing {gone}"):
            network({key: value for key, value in state.items() if not key.startswith(gone)}, {})
    with pytest.raises(ValueError, match="which are not 4 axes"):
        network({**state, "conv1.weight": torch.zeros(8)}, {})
    # A number without end asks for no blocks without end.
    with pytest.raises(ValueError, match=r"unknown layer1\.999999999999\.x"):
        network({**state, "layer1.999999999999.x": torch.zeros(1)}, {})
