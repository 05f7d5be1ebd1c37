import copy

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
import itertools

from facetools.extractors.graphs.network import GraphNetwork
from onnx_models import graph

pytestmark = pytest.mark.usefixtures("one_thread")

WEIGHT = np.random.default_rng(0).normal(size=(2, 3, 3, 3)).astype(np.float32)


def chips(rows=2, seed=0):
    return torch.rand(rows, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def layered():
    """A convolution whose weights come through nodes, a normalisation and a shape that is computed."""
    ones = np.ones(2, np.float32)
    return graph(
        ("Identity", ["w"], ["same"]),
        ("Conv", ["x", "same"], ["map"]),
        ("BatchNormalization", ["map", "scale", "shift", "mean", "var"], ["normal"]),
        ("Mul", ["normal", "two"], ["double"]),
        ("Shape", ["x"], ["sides"]),
        ("Gather", ["sides", "first"], ["batch"]),
        ("Concat", ["batch", "rest"], ["target"], {"axis": 0}),
        ("Reshape", ["double", "target"], ["y"]),
        weights=[
            ("w", WEIGHT), ("scale", 3 * ones), ("shift", ones), ("mean", 2 * ones), ("var", 4 * ones),
            ("two", np.float32(2)), ("first", [0]), ("rest", [-1]),
        ],
    )  # fmt: skip


def test_a_graph_computes_what_its_nodes_say_and_autograd_differentiates_it():
    network, x = GraphNetwork(layered()), chips().requires_grad_()
    out = network(x)
    want = 2 * (3 * (torch.nn.functional.conv2d(x, torch.from_numpy(WEIGHT)) - 2) / (4 + 1e-5) ** 0.5 + 1)
    assert torch.allclose(out, want.flatten(1), atol=1e-5)
    ours, theirs = (torch.autograd.grad(each.square().sum(), x, retain_graph=True)[0] for each in (out, want))
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_weights_of_layers_are_parameters_and_other_numbers_are_buffers():
    network = GraphNetwork(layered())
    assert set(dict(network.named_parameters())) == {"weight_0", "weight_1", "weight_2"}
    assert set(dict(network.named_buffers())) == {"weight_3", "weight_4", "weight_5"}
    copied = copy.deepcopy(network)
    with torch.no_grad():
        copied.weight_2.add_(1)
    assert torch.allclose(copied(chips()), network(chips()) + 2, atol=1e-5)


def test_the_check_needs_no_memory_and_leaves_the_weights_as_they_are():
    network = GraphNetwork(layered())
    network.check(chips())
    assert {each.device.type for each in network.state_dict().values()} == {"cpu"}


def doubled(times):
    names = ["x", *(f"d{number}" for number in range(times - 1)), "y"]
    pairs = itertools.pairwise(names)
    return [("Concat", [one, one], [other], {"axis": 1}) for one, other in pairs]


HUGE = [("side", [2**20, 2**20])]


@pytest.mark.parametrize(
    ("nodes", "weights", "words"),
    [
        (doubled(30), [], r"the output of its operator Concat is too large \(1x\d+x4x4\)"),
        ([("ConstantOfShape", ["side"], ["z"]), ("Add", ["x", "z"], ["y"])], HUGE, "1048576x1048576 is too large"),
        ([("Expand", ["w", "side"], ["z"]), ("Add", ["x", "z"], ["y"])], [*HUGE, ("w", np.float32(1))], "is too large"),
        ([("Tile", ["w", "side"], ["y"])], [*HUGE, ("w", np.ones((1, 1), np.float32))], "is too large"),
        ([("Range", ["a", "b", "c"], ["y"])], [("a", 0), ("b", 2**40), ("c", 1)], "by 1 is too large"),
        ([("Range", ["a", "b", "c"], ["y"])], [("a", 0), ("b", 9), ("c", 0)], "by 0 is too large"),
        ([("Pad", ["x", "p"], ["y"])], [("p", [0] * 7 + [2**40])], "is too large"),
        ([("Resize", ["x", "", "", "s"], ["y"])], [("s", [1, 3, 2**20, 2**20])], "is too large"),
        ([("Add", ["a", "b"], ["y"])], [("a", np.zeros((2**15, 1))), ("b", np.zeros(2**15))], "is too large"),
        ([("MatMul", ["x", "w"], ["y"])], [("w", WEIGHT)], "it does not run on chips of 1x3x4x4: its operator MatMul"),
        ([("Gather", ["x", "i"], ["y"])], [("i", [7])], "its operator Gather"),
        ([("Div", ["a", "b"], ["y"])], [("a", [1]), ("b", [0])], "its operator Div"),
        ([("Dropout", ["x"], ["d", "m"]), ("LayerNormalization", ["d", "w"], ["n", "y"])], [("w", WEIGHT[0, 0, 0])],
         "its operator LayerNormalization"),
        ([("GlobalAveragePool", [""], ["y"])], [], "its operator GlobalAveragePool"),
        ([("Gemm", ["x", "w"], ["y"])], [("w", WEIGHT)], "factors of 4 and 4 axes are not read"),
    ],
)  # fmt: skip
def test_graphs_that_would_take_all_memory_or_fail_are_refused_before_they_run(nodes, weights, words):
    network = GraphNetwork(graph(*nodes, weights=weights))
    with pytest.raises(ValueError, match=words) as caught:
        network.check(chips(1))
    assert "\n" not in str(caught.value)


def test_outputs_that_are_not_computed_matter_only_where_they_are_used():
    nodes = ("LayerNormalization", ["x", "w"], ["y", "mean", "deviation"])
    network = GraphNetwork(graph(nodes, weights=[("w", np.ones(4, np.float32))]))
    assert torch.allclose(network(chips()), torch.nn.functional.layer_norm(chips(), [4]), atol=1e-5)


def test_an_output_that_is_a_sequence_is_refused():
    network = GraphNetwork(graph(("SplitToSequence", ["x"], ["y"], {"axis": 1})))
    with pytest.raises(ValueError, match="its output is a list of tensors, not one"):
        network(chips())


def test_sequences_and_enlargement_by_whole_factors():
    network = GraphNetwork(
        graph(
            ("SplitToSequence", ["x"], ["parts"], {"axis": 1}),
            ("SequenceAt", ["parts", "last"], ["blue"]),
            ("SequenceAt", ["parts", "first"], ["red"]),
            ("SequenceConstruct", ["blue", "red"], ["pair"]),
            ("ConcatFromSequence", ["pair"], ["both"], {"axis": 1}),
            ("Upsample", ["both", "twice"], ["y"], {"mode": "nearest"}),
            weights=[("last", -1), ("first", 0), ("twice", np.array([1, 1, 2, 2], np.float32))],
            opset=9,
        )
    )
    want = torch.nn.functional.interpolate(chips()[:, [2, 0]], scale_factor=2)
    assert torch.equal(network(chips()), want)
