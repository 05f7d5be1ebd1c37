import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from _toolio.errors import ToolError
from conftest import ROOT
from facetools.commands._import_extractor import parse_settings, say_unverified
from facetools.extractors.architectures import onnx as architecture
from facetools.extractors.convert.convert import import_extractor
from facetools.extractors.files import build, open_file, read_about, save_extractor, tensors_of

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import onnx_models  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

REAL = ROOT.parent / "shared" / "models" / "fr_feature.onnx"
needs_real = pytest.mark.skipif(not REAL.is_file(), reason="shared/models is not beside the project")


def small(*, batch=1, reshape=(1, 8), extra=(), side=16, last=False, name="conv", inputs=1, kind=TensorProto.FLOAT):
    """A convolution over the whole chip, and the reshape that exporters write."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.normal(size=(8, 3, 16, 16)).astype(np.float32), "weight")
    shape = numpy_helper.from_array(np.array(reshape, np.int64), "shape")
    sizes = [batch, side, side, 3] if last else [batch, 3, side, side]
    nodes = [helper.make_node("Transpose", ["in"], ["chips"], perm=[0, 3, 1, 2])] if last else []
    nodes += [
        helper.make_node("Conv", ["chips" if last else "in", "weight"], ["map"], name=name),
        helper.make_node("Reshape", ["map", "shape"], ["flat"]),
        *extra,
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(f"in{n or ''}", kind, sizes) for n in range(inputs)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [weight, shape],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def state_of(model):
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return {"graph": torch.frombuffer(bytearray(data), dtype=torch.uint8)}


def expected(model, chips):
    """The convolution covers the chip, so that it is one product."""
    weight = numpy_helper.to_array(model.graph.initializer[0])
    return np.einsum("bchw,dchw->bd", chips.numpy(), weight)


def embed(state, options, chips):
    with torch.no_grad():
        return architecture.network(state, options)(chips).numpy()


@pytest.fixture(scope="module")
def real():
    state = state_of(REAL.read_bytes())
    settings = architecture.settings_of(state, {})
    return build("onnx", state, settings, architecture.options_of(state, settings))


@needs_real
def test_the_real_model_gives_what_onnxruntime_gives(real):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(REAL), providers=["CPUExecutionProvider"])
    chips = torch.rand(4, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    ours = real.network(chips).numpy()
    theirs = np.concatenate([session.run(None, {"input": chips[n : n + 1].numpy()})[0] for n in range(4)])
    assert ours.shape == (4, 512)
    assert np.abs(ours - theirs).max() < 1e-5 * max(1, np.abs(theirs).max())


@needs_real
def test_the_real_model_takes_batches_though_its_export_fixed_one(real):
    chips = torch.rand(4, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    assert not real.network._one_by_one
    assert torch.allclose(real(chips), torch.cat([real(chip) for chip in chips.split(1)]), atol=1e-6)


@needs_real
def test_the_real_models_gradient_is_the_slope(real):
    generator = torch.Generator().manual_seed(2)
    chips = torch.rand(2, 3, 112, 112, generator=generator).requires_grad_()
    target = torch.randn(2, 512, generator=generator)
    (gradient,) = torch.autograd.grad((real(chips) * target).sum(), chips)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs().amax((1, 2, 3)) > 0).all()
    step = 1e-3 * gradient / gradient.norm()
    with torch.no_grad():
        rise = ((real(chips + step) - real(chips - step)) * target).sum()
    assert torch.isclose(rise, 2e-3 * gradient.norm(), rtol=0.05)
    assert not any(tensor.requires_grad for tensor in real.parameters())


@needs_real
def test_the_real_model_imports(tmp_path):
    given = parse_settings({"mean": "127", "std": "128"})
    record = import_extractor(REAL, tmp_path / "f.safetensors", given=given)
    assert (record["dimensions"], record["architecture"], record["tensors"]) == (512, "onnx", 1)
    assert (record["settings"]["input_size"], record["settings"]["mean"]) == ((112, 112), (127.0,) * 3)


@pytest.mark.parametrize("reshape", [(1, 8), (1, -1), (-1, 8), (0, -1)])
@pytest.mark.parametrize("last", [False, True])
def test_batches_of_any_size(reshape, last):
    model = small(reshape=reshape, last=last)
    settings = architecture.settings_of(state_of(model), {})
    assert settings.input_size == (16, 16)
    assert architecture.options_of(state_of(model), settings) == {"one_by_one": False}
    chips = torch.rand(5, 3, 16, 16)
    assert np.allclose(embed(state_of(model), {}, chips), expected(model, chips), atol=1e-4)


def test_a_graph_that_mixes_its_rows_gets_them_one_by_one():
    mean = helper.make_node("ReduceMean", ["flat"], ["mean"], axes=[0], keepdims=1)
    model = small(extra=[mean, helper.make_node("Add", ["flat", "mean"], ["out"])])
    state = state_of(model)
    options = architecture.options_of(state, architecture.settings_of(state, {}))
    assert options == {"one_by_one": True}
    chips = torch.rand(3, 3, 16, 16)
    assert np.allclose(embed(state, options, chips), 2 * expected(model, chips), atol=1e-4)


def external():
    model = small()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return model


def custom():
    return small(extra=[helper.make_node("Magic", ["flat"], ["out"], domain="com.example")])


def branching():
    body = helper.make_graph([], "b", [], [helper.make_tensor_value_info("flat", TensorProto.FLOAT, None)])
    return small(extra=[helper.make_node("If", ["flat"], ["out"], then_branch=body, else_branch=body)])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (external, "weights lie in another file"),
        (custom, "operators of somebody's own"),
        (branching, "branches or loops"),
        (lambda: small(batch=4), "batch is fixed to 4"),
        (lambda: small(inputs=2), "2 inputs"),
        (lambda: small(kind=TensorProto.FLOAT16), "not float32"),
        (lambda: small(reshape=(1, 2, 4)), "not one row of numbers"),
        (lambda: small(side=8), "does not run|cannot convert"),
        (lambda: small(extra=[helper.make_node("Bernoulli", ["flat"], ["out"])]), "cannot convert"),
        (lambda: small(extra=[helper.make_node("Relu", ["none"], ["out"])]), "in a circle or out of order"),
        (lambda: small(reshape=(1, 2**40)), "does not run on chips of 1x3x16x16: its operator Reshape"),
        (lambda: small().SerializeToString()[:-100], "no ONNX file, or cut short"),
        (lambda: b"\x89PNG, or whatever it was", "no ONNX file"),
    ],
)
def test_what_cannot_be_run_is_one_line(model, words, tmp_path):
    made = model()
    path = tmp_path / "m.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    with pytest.raises(ToolError, match=words) as caught:
        import_extractor(path, tmp_path / "x.safetensors")
    assert "m.onnx" in caught.value.message
    assert "\n" not in caught.value.message
    assert not (tmp_path / "x.safetensors").exists()


def test_names_in_a_graph_are_never_run_as_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = small(name='__class__") and open("mark", "w") and getattr(self, "__class__')
    chips = torch.rand(1, 3, 16, 16)
    assert np.allclose(embed(state_of(model), {}, chips), expected(model, chips), atol=1e-4)
    built = architecture.network(state_of(model), {})
    assert "mark" not in f"{built} {list(built.state_dict())} {vars(built.graph)}"
    assert not (tmp_path / "mark").exists()


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ToolError, match=r"pip install 'epsilon-tools\[onnx\]'"):
        architecture.network(state_of(small()), {})


def test_a_graph_that_is_read_otherwise_than_onnx_itself_reads_it_is_refused(monkeypatch, tmp_path):
    (tmp_path / "m.onnx").write_bytes(small().SerializeToString())
    right = architecture.reference_embedding
    monkeypatch.setattr(architecture, "reference_embedding", lambda model, chips: right(model, chips) * 1.01)
    with pytest.raises(ToolError, match=r"m\.onnx: .*it is read wrongly: onnx's own evaluator computes another"):
        import_extractor(tmp_path / "m.onnx", tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("operator", "attributes", "opset"),
    [
        ("AveragePool", {"kernel_shape": [3, 3], "strides": [3, 3], "ceil_mode": 1}, 13),
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [1, 1], "pads": [1, 1, 1, 1], "ceil_mode": 1}, 13),
        ("Softmax", {"axis": 1}, 11),
        ("LpNormalization", {"p": 1, "axis": 1}, 13),
    ],
)
def test_a_graph_of_operators_that_the_evaluator_has_wrong_is_verified(tmp_path, operator, attributes, opset):
    nodes = (
        (operator, ["x"], ["m"], attributes),
        ("Flatten", ["m"], ["y"]),
    )
    made = onnx_models.model(*nodes, opset=opset, sides=(1, 3, 16, 16))
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    record = import_extractor(tmp_path / "m.onnx", tmp_path / "x.safetensors")
    about = read_about(tmp_path / "x.safetensors")
    assert record["verified_by"] == about["verified_by"] == "onnx.reference"
    assert "not_verified" not in {**record, **about}


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("reference_embedding", lambda *_: None, "onnx's own evaluator cannot compute it"),
        ("MOST_VALUES", 10, "its convolutions are too large for onnx's own evaluator"),
    ],
)
def test_what_nothing_verified_is_said(monkeypatch, tmp_path, capsys, name, value, why):
    monkeypatch.setattr(architecture, name, value)
    (tmp_path / "m.onnx").write_bytes(small().SerializeToString())
    record = import_extractor(tmp_path / "m.onnx", tmp_path / "x.safetensors")
    about = read_about(tmp_path / "x.safetensors")
    for each in (record, about):
        assert (each["verified_by"], each["not_verified"]) == (None, why)
    say_unverified(record)
    assert capsys.readouterr().err.startswith(f"facetools: note: {tmp_path / 'm.onnx'}: not verified: {why}\n")
    say_unverified({"verified_by": "onnx.reference"})
    assert capsys.readouterr().err == ""


def test_settings_that_no_graph_holds_are_called_assumed(tmp_path, capsys):
    (tmp_path / "m.onnx").write_bytes(small().SerializeToString())
    record = import_extractor(tmp_path / "m.onnx", tmp_path / "x.safetensors", given={"mean": (0.0, 0.0, 0.0)})
    assert read_about(tmp_path / "x.safetensors")["assumed"] == record["assumed"]
    assert {"std", "channel_order"} <= set(record["assumed"])
    assert not {"mean", "input_size"} & set(record["assumed"])
    say_unverified(record)
    (line,) = capsys.readouterr().err.splitlines()
    assert "assumed, for the graph does not say: alignment arcface-112, channel_order rgb, std 127.5, " in line
    assert "mean" not in line


def test_weights_that_were_tuned_in_another_graph_are_refused():
    state = {**state_of(small()), f"{architecture.TUNED}graph.node_0.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"graph\.node_0\.weight was tuned, and its graph has no such weight"):
        architecture.network(state, {"one_by_one": False})


def test_tensors_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="no graph"):
        architecture.network({"weight": torch.zeros(3)}, {})


def test_a_graph_that_was_tuned_is_saved_and_opened_as_it_then_is(tmp_path):
    state = state_of(small())
    settings = replace(architecture.SETTINGS, input_size=(16, 16))
    prepared = build("onnx", state, settings, options := architecture.options_of(state, settings))
    first = tmp_path / "first.safetensors"
    save_extractor(first, "onnx", state, settings, {"dimensions": 8}, options=options)
    chips = torch.rand(3, 3, 16, 16)
    for number in range(2):  # what was tuned can be tuned again
        source = first if number == 0 else tmp_path / "0.safetensors"
        with torch.no_grad():
            for parameter in prepared.network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        tensors = tensors_of(prepared, "onnx", source)
        save_extractor(
            tmp_path / f"{number}.safetensors", "onnx", tensors, settings, {"dimensions": 8}, options=options
        )
        opened = open_file(tmp_path / f"{number}.safetensors", torch.device("cpu"))
        assert torch.equal(opened.network(chips), prepared(chips))
        assert not torch.allclose(
            opened.network(chips), open_file(first, torch.device("cpu")).network(chips), atol=1e-3
        )
