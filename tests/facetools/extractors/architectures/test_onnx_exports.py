"""What ``torch.onnx.export`` writes: outputs and gradients are those of the network that was exported."""

import contextlib
import copy
import io
import logging
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from extractor_checks import filled
from facetools.extractors.architectures import onnx as architecture
from facetools.extractors.architectures.inception_resnet_v1 import InceptionResnetV1
from facetools.extractors.architectures.ir_se import IrSe, Plan
from facetools.extractors.architectures.iresnet import IResNet
from facetools.extractors.architectures.mobilefacenet import MobileFaceNet
from facetools.extractors.convert.convert import import_extractor
from facetools.extractors.files import open_file

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, numpy_helper  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

OLD_EXPORTER = range(11, 24)
NEW_EXPORTER = range(18, 26)


class Small(nn.Module):
    """What recognisers are made of, and what exporters write in ways that change from opset to opset."""

    def __init__(self):
        super().__init__()
        self.stem, self.normal = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.slope, self.same = nn.PReLU(8), nn.Conv2d(8, 8, 3, padding="same", groups=8)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 1), nn.ReLU6(), nn.Conv2d(2, 8, 1))
        self.pool, self.mean = nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.AvgPool2d(2, count_include_pad=False)
        self.instance, self.group, self.layer = nn.InstanceNorm2d(8, affine=True), nn.GroupNorm(2, 8), nn.LayerNorm(8)
        self.linear, self.last = nn.Linear(8 * 4, 6), nn.BatchNorm1d(6)

    def forward(self, x):
        x = self.slope(self.normal(self.stem(F.pad(x, (1, 1, 1, 1), mode="reflect"))))
        x = F.hardswish(self.same(x)) * F.hardsigmoid(self.squeeze(x))
        x = self.mean(self.group(self.instance(self.pool(x))))
        one, other = x.chunk(2, 1)
        x = torch.cat([torch.maximum(one, other), F.gelu(one) - other.abs()], 1)
        x = self.layer(x.flatten(2).transpose(1, 2)).softmax(-1)
        x = self.last(self.linear(x.reshape(x.size(0), -1)))
        return x / (x.pow(2).sum(1, keepdim=True) + x.std(1, keepdim=True)).sqrt().clamp(min=1e-6)


class Transformer(nn.Module):
    """A vision transformer of one block, 16 wide."""

    def __init__(self):
        super().__init__()
        self.patches, self.places = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.zeros(1, 5, 16))
        self.first, self.head = nn.Parameter(torch.zeros(1, 1, 16)), nn.Linear(16, 6)
        block = nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 1, nn.LayerNorm(16), enable_nested_tensor=False)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.places
        return F.normalize(self.head(self.blocks(x)[:, 0]))


NETWORKS = {
    "small": (Small, 16),
    "iresnet": (lambda: IResNet((1, 1, 1, 1), (4, 4, 6, 8, 8), places=4, dimensions=6), 32),
    "ir-se": (lambda: IrSe(Plan("plain", 4, (4, 8, 8), (2, 2, None), places=16, dimensions=6)), 16),
    "transformer": (Transformer, 16),
    "mobilefacenet": (lambda: MobileFaceNet(16), 112),
    "inception-resnet-v1": (lambda: InceptionResnetV1(16), 96),
}


def network(name):
    """A network by name with random weights, and the side of its chips."""
    make, side = NETWORKS[name]
    made = make().eval()
    made.load_state_dict(filled(made), strict=False)
    return made, side


def export(made, side, opset, *, new, dynamic, kind=torch.float32, **how):
    """The file that an exporter of torch writes."""
    rows, target = 2 if dynamic else 1, io.BytesIO()
    if new:
        pytest.importorskip("onnxscript")
        how |= {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if dynamic else {}
    else:
        how |= {"dynamic_axes": {"in": {0: "batch"}, "out": {0: "batch"}}} if dynamic else {}
    chips = torch.rand(rows, 3, side, side, dtype=kind)
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                made, (chips,), target, opset_version=opset, dynamo=new, input_names=["in"], output_names=["out"], **how
            )
        except (RuntimeError, ValueError) as error:
            if opset > 20 and "opset" in str(error):
                pytest.skip(f"this torch does not write opset {opset}")
            raise
        finally:
            logging.disable(logging.NOTSET)
    written = onnx.load_from_string(target.getvalue()).opset_import[0].version
    assert written == opset, "the exporter wrote another opset"
    return target.getvalue()


def check(made, opened, side, kind=torch.float32):
    """Outputs and gradients are the same to 1e-5 for three chips."""
    found = []
    chips = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(1)).to(kind).requires_grad_()
    for each in (made.to(kind), opened.to(kind)):
        out = each(chips)
        direction = torch.linspace(-1, 1, out.shape[1], dtype=kind)
        found += [out.detach(), *torch.autograd.grad((out * direction).sum(), chips)]
    want, gradient, ours, our_gradient = found
    assert (ours - want).abs().max() < 1e-5 * max(1, want.abs().max())
    # On another device than the CPU, too: there is one without numbers everywhere.
    assert copy.deepcopy(opened).to("meta")(chips.to("meta")).shape == want.shape
    assert (our_gradient - gradient).abs().max() < 1e-5 * max(1, gradient.abs().max())


def read(data):
    state = {"graph": torch.frombuffer(bytearray(data), dtype=torch.uint8)}
    options = architecture.options_of(state, architecture.settings_of(state, {}))
    return architecture.network(state, options), options


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("opset", OLD_EXPORTER)
def test_every_opset_of_the_exporter_that_traces(opset, dynamic):
    made, side = network("small")
    opened, options = read(export(made, side, opset, new=False, dynamic=dynamic))
    assert options == {"one_by_one": False}
    check(made, opened, side)


SLOW, LARGE = pytest.mark.slow, ("mobilefacenet", "inception-resnet-v1")

# In float32, the gradient of a network of many PReLUs is another one for chips that differ by the last bit.
KINDS = {name: torch.float64 if name in LARGE else torch.float32 for name in NETWORKS}

# One here, as each export takes seconds: the newest opset, with `Attention`. The default is tested below.
QUICK = {("transformer", 25, True)}
ALL = [
    (name, opset, dynamic)
    for name in NETWORKS
    for opset in NEW_EXPORTER
    for dynamic in (False, True)
    if opset == 20 or name not in LARGE
]


@pytest.mark.parametrize(
    ("name", "opset", "dynamic"), [pytest.param(*each, marks=() if each in QUICK else SLOW) for each in ALL]
)
def test_every_opset_of_the_exporter_that_compiles(name, opset, dynamic):
    made, side = network(name)
    opened, options = read(export(made, side, opset, new=True, dynamic=dynamic))
    # Its class token is written for the batch of the example, which no reshape is.
    assert options == {"one_by_one": name == "transformer" and not dynamic}
    check(made, opened, side, KINDS[name])


@pytest.mark.parametrize("name", [pytest.param(each, marks=SLOW if each in LARGE else ()) for each in NETWORKS])
@pytest.mark.parametrize("opset", [14, pytest.param(20, marks=SLOW)])
def test_architectures_by_the_exporter_that_traces(name, opset):
    made, side = network(name)
    check(made, read(export(made, side, opset, new=False, dynamic=True))[0], side, KINDS[name])


def test_the_exporters_defaults_import_with_their_weights_in_a_file_beside(tmp_path):
    pytest.importorskip("onnxscript")
    made, side = network("ir-se")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(made, (torch.rand(1, 3, side, side),), str(tmp_path / "m.onnx"), external_data=True)
    assert (tmp_path / "m.onnx.data").stat().st_size > sum(each.numel() for each in made.parameters())
    given = {"mean": (0.0,) * 3, "std": (255.0,) * 3, "normalisation": "none", "mirrored": False}
    record = import_extractor(tmp_path / "m.onnx", tmp_path / "x.safetensors", given=given)
    assert (record["dimensions"], record["architecture"], record["settings"]["input_size"]) == (6, "onnx", (side, side))
    (tmp_path / "m.onnx.data").unlink()
    check(made, open_file(tmp_path / "x.safetensors", torch.device("cpu")).network, side)


@SLOW
def test_a_graph_that_the_exporter_did_not_simplify():
    made, side = network("small")
    data = export(made, side, 20, new=True, dynamic=True, optimize=False)
    assert {"CastLike", "SequenceAt"} <= {node.op_type for node in onnx.load_from_string(data).graph.node}
    check(made, read(data)[0], side)


def test_weights_of_half_precision_are_computed_in_float32():
    # No normalisation, which the exporter would put into a convolution's weights and round these again.
    parts = nn.Conv2d(3, 8, 3, 2, 1), nn.PReLU(8), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(32, 6)
    made = nn.Sequential(*parts).eval()
    made.load_state_dict(filled(made))
    data = export(made.half(), 16, 17, new=False, dynamic=True, kind=torch.float16)
    assert {each.data_type for each in onnx.load_from_string(data).graph.initializer} == {TensorProto.FLOAT16}
    check(made.float(), read(data)[0], 16)


def test_weights_of_half_precision_that_the_graph_itself_makes_whole():
    made, side = network("ir-se")
    for value in made.state_dict().values():
        value.copy_(value.half())
    model = onnx.load_from_string(export(made, side, 17, new=False, dynamic=True, do_constant_folding=False))
    halves = [each.name for each in model.graph.initializer if each.name in made.state_dict()]
    assert len(halves) > 10
    for tensor in model.graph.initializer:
        if tensor.name in halves:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for node in model.graph.node:
        node.input[:] = [f"{name}_whole" if name in halves else name for name in node.input]
    casts = [onnx.helper.make_node("Cast", [name], [f"{name}_whole"], to=TensorProto.FLOAT) for name in halves]
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    check(made, read(model.SerializeToString())[0], side)
