import numpy as np
import pytest

from facetools.extractors.graphs.model import array_of, opset_of, read_model, sides_of

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def model(*, opset=18, weight=None, kind=TensorProto.FLOAT, nodes=None, sides=(None, 3, 4, 4)):
    """A graph that adds a weight to chips."""
    weight = numpy_helper.from_array(np.ones(4, np.float32), "w") if weight is None else weight
    ends = [helper.make_tensor_value_info(name, kind, sides) for name in "xy"]
    nodes = nodes or [helper.make_node("Add", ["x", "w"], ["y"])]
    made = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight]))
    del made.opset_import[:]
    if opset is not None:
        made.opset_import.append(helper.make_opsetid("", opset))
    return made


def read(made):
    return read_model(made.SerializeToString())


def test_what_is_read_of_a_model():
    read_one = read(model(opset=20))
    assert (opset_of(read_one), sides_of(read_one)) == (20, [None, 3, 4, 4])


@pytest.mark.parametrize(
    ("opset", "words"),
    [
        (6, "it is of opset 6; 7 to 28 are read: export with opset 18"),
        (99, "it is of opset 99; 7 to 28 are read: export with opset 18"),
        (None, "does not name its opset; export with opset 18"),
    ],
)
def test_opsets_that_are_not_read(opset, words):
    with pytest.raises(ValueError, match=words):
        read(model(opset=opset))


def oversized(**fields):
    return TensorProto(name="w", **({"data_type": TensorProto.FLOAT, "dims": [10**6, 10**6]} | fields))


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (oversized(raw_data=bytes(16)), "weights of 1000000x1000000 that are not there"),
        (oversized(float_data=[1.0] * 4), "weights of 1000000x1000000 that are not there"),
        (oversized(dims=[2**40, 2**40], raw_data=bytes(16)), "that are not there"),
        (oversized(dims=[-1], raw_data=bytes(16)), "weights of -1 that are not there"),
        (oversized(dims=[3], raw_data=bytes(16)), "weights of 3 that are not there"),
        (oversized(data_type=TensorProto.STRING), "weights of type string, which is not read"),
        (oversized(data_type=TensorProto.FLOAT8E4M3FN), "weights of type float8e4m3fn, which is not read"),
    ],
)
def test_weights_that_are_not_what_they_say(weight, words):
    with pytest.raises(ValueError, match=words):
        array_of(weight)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_half_precision_is_read_as_the_numbers_it_holds(kind):
    numbers = [1.0, 0.5, -3.0, 2.0**-8]
    half = helper.make_tensor("w", kind, [4], numbers)
    nodes = [helper.make_node("Cast", ["x"], ["z"], to=kind), helper.make_node("Add", ["z", "w"], ["y"])]
    made = read(model(weight=half, kind=kind, nodes=nodes))
    assert array_of(made.graph.initializer[0]).tolist() == numbers
    kinds = {each.type.tensor_type.elem_type for each in (*made.graph.input, *made.graph.output)}
    assert kinds | {made.graph.node[0].attribute[0].i} == {TensorProto.FLOAT}


def test_an_input_of_another_precision_than_the_weights_is_refused():
    with pytest.raises(ValueError, match="its input is double, not float32"):
        read(model(kind=TensorProto.DOUBLE))
    with pytest.raises(ValueError, match="its input is float16, not float32"):
        read(model(kind=TensorProto.FLOAT16))
