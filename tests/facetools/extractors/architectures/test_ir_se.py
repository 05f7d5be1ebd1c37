import pytest
import torch
import torch.nn.functional as F

from extractor_checks import check_network, check_refusal, embed, filled, parameters
from facetools.extractors.architectures.ir_se import (
    FORMS,
    SETTINGS,
    IrSe,
    Plan,
    canonical,
    network,
    read_plan,
    settings_of,
)

pytestmark = pytest.mark.usefixtures("one_thread")
STAGES = {18: (2, 2, 2, 2), 50: (3, 4, 14, 3), 101: (3, 13, 30, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}


def plan_of(form, depth, widths, *, squeezed, **more):
    blocks = [width for width, count in zip(widths, STAGES[depth], strict=True) for _ in range(count)]
    inside = [max(width // 16, 2) if squeezed else None for width in blocks]
    return Plan(form, widths[0] if form != "bottleneck" else widths[0] // 4, blocks, inside, **more)


def thin(form, *, squeezed):
    return filled(IrSe(plan_of(form, 18, (8, 16, 24, 32), squeezed=squeezed, dimensions=32)))


def theirs(state, form):
    """The layout that the form is known from; AdaFace's last normalisation has neither scale nor shift."""
    if form == "plain":
        return {key.replace(".se.", ".res_layer.5."): value for key, value in state.items()}
    gone = ("output_layer.4.weight", "output_layer.4.bias")
    return {key.replace(".se.", ".res_layer.se_block."): v for key, v in state.items() if key not in gone}


def plain(state, form, x):
    """The network once more, from others' tensors and without modules."""

    def norm(name, x):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, state.get(f"{name}.weight"), state.get(f"{name}.bias"))

    x = F.prelu(
        norm("input_layer.1", F.conv2d(x, state["input_layer.0.weight"], padding=1)), state["input_layer.2.weight"]
    )
    for place in range(8):
        res, step, y = f"body.{place}.res_layer", 2 - place % 2, x
        for number, kind in enumerate(FORMS[form]):
            weight = state[f"{res}.{number}.weight"]
            if kind in "Cc":
                last = "C" not in FORMS[form].upper()[number + 1 :]
                y = F.conv2d(y, weight, stride=step if last else 1, padding=weight.shape[2] // 2)
            else:
                y = F.prelu(y, weight) if kind == "P" else norm(f"{res}.{number}", y)
        for squeeze in (f"{res}.5", f"{res}.se_block"):
            if f"{squeeze}.fc1.weight" in state:
                inside = F.relu(F.conv2d(F.adaptive_avg_pool2d(y, 1), state[f"{squeeze}.fc1.weight"]))
                y = y * torch.sigmoid(F.conv2d(inside, state[f"{squeeze}.fc2.weight"]))
        cut = f"body.{place}.shortcut_layer"
        if f"{cut}.0.weight" in state:
            x = norm(f"{cut}.1", F.conv2d(x, state[f"{cut}.0.weight"], stride=step))
        else:
            x = F.max_pool2d(x, 1, step)
        x = x + y
    x = norm("output_layer.0", x).reshape(len(x), -1)
    return norm("output_layer.4", F.linear(x, state["output_layer.3.weight"], state["output_layer.3.bias"]))


# Counted layer by layer from the tables of blocks of face.evoLVe (plain) and AdaFace (the others), whose last
# normalisation has a scale and a shift here: 1024 more.
@pytest.mark.parametrize(
    ("form", "depth", "squeezed", "millions"),
    [
        ("plain", 50, False, 43.575),
        ("plain", 101, False, 65.130),
        ("plain", 152, False, 70.738),
        ("plain", 50, True, 43.798),
        ("plain", 101, True, 65.502),
        ("plain", 152, True, 71.149),
        ("normalised", 18, False, 24.021),
        ("normalised", 50, False, 43.587),
        ("normalised", 101, False, 65.152),
        ("bottleneck", 152, False, 109.638),
        ("bottleneck", 200, False, 114.139),
    ],
)
def test_full_sizes(form, depth, squeezed, millions):
    widths = (256, 512, 1024, 2048) if form == "bottleneck" else (64, 128, 256, 512)
    with torch.device("meta"):
        plan = plan_of(form, depth, widths, squeezed=squeezed)
        plan = Plan(form, 64, plan.blocks, [width // 16 if squeezed else None for width in plan.blocks])
        whole = IrSe(plan)
        assert whole(torch.empty(2, 3, 112, 112)).shape == (2, 512)
        assert parameters(whole) / 1e6 == pytest.approx(millions, abs=5e-4)
        assert read_plan(whole.state_dict()) == plan


@pytest.mark.parametrize("squeezed", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_formula_and_layouts(form, squeezed):
    state = thin(form, squeezed=squeezed)
    others, x = theirs(state, form), torch.randn(2, 3, 112, 112)
    expected = plain(others, form, x)
    torch.testing.assert_close(embed("ir-se", others, x), expected, rtol=1e-4, atol=1e-4)
    # As AdaFace's training wraps it, with the margin's weights beside it.
    wrapped = {f"model.{key}": value for key, value in others.items()}
    wrapped |= {"head.kernel": torch.zeros(32, 10), "model.input_layer.1.num_batches_tracked": torch.tensor(3)}
    assert sorted(canonical(wrapped)) == sorted(state)
    torch.testing.assert_close(embed("ir-se", wrapped, x), expected, rtol=1e-4, atol=1e-4)


def test_settings_of_forms():
    lowkey, adaface = (settings_of(thin(form, squeezed=False), {}) for form in ("plain", "normalised"))
    assert lowkey == SETTINGS
    assert (lowkey.mirrored, lowkey.channel_order) == (True, "rgb")
    assert (adaface.mirrored, adaface.channel_order, adaface.mean) == (False, "bgr", (127.5, 127.5, 127.5))


def test_as_an_extractor():
    check_network("ir-se", thin("plain", squeezed=True), SETTINGS, 32)


def test_refusals():
    state = thin("normalised", squeezed=False)
    check_refusal("ir-se", state, "body.3.res_layer.1.weight", "body.2.res_layer.0.bias")
    for gone in ("input_layer.0.weight", "output_layer.3.weight", "body.4.res_layer.5.weight"):
        with pytest.raises(ValueError, match=f"missing {gone}"):
            network({key: value for key, value in state.items() if key != gone}, {})
    with pytest.raises(ValueError, match=r"missing body\.0"):
        network({"input_layer.0.weight": state["input_layer.0.weight"]}, {})
    with pytest.raises(ValueError, match="6x6, 1152 numbers"):
        network(state, {}).eval()(torch.zeros(1, 3, 96, 96))
