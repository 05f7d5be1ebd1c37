import os

import numpy as np
import pytest

from _toolio.errors import ToolError
from facetools.extractors.graphs.external import read_onnx

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)


def model(**place):
    """A graph of one weight, which lies at a place of another file."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    for key, value in place.items():
        weight.external_data.add(key=key, value=str(value))
    node = helper.make_node("Add", ["x", "w"], ["y"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    return helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], [weight]))


@pytest.fixture
def folder(tmp_path):
    """Numbers outside the folder of the model, and in it with eight bytes before them."""
    (tmp_path / "outside").write_bytes(NUMBERS.tobytes())
    (tmp_path / "m" / "deep").mkdir(parents=True)
    (tmp_path / "m" / "deep" / "w.data").write_bytes(bytes(8) + NUMBERS.tobytes())
    return tmp_path / "m"


def read(folder, **place):
    (folder / "m.onnx").write_bytes(model(**place).SerializeToString())
    return read_onnx(folder / "m.onnx")


@pytest.mark.parametrize("place", [{"offset": 8}, {"offset": 8, "length": 24}])
def test_weights_beside_the_model_come_into_it(folder, place):
    data, files = read(folder, location="deep/w.data", **place)
    assert files == [folder / "deep" / "w.data"]
    (weight,) = onnx.load_from_string(data).graph.initializer
    assert np.array_equal(numpy_helper.to_array(weight), NUMBERS)


def test_what_onnx_itself_writes_is_read(tmp_path):
    plain = model()
    plain.graph.initializer[0].CopyFrom(numpy_helper.from_array(NUMBERS, "w"))
    whole = plain.SerializeToString()
    onnx.save(plain, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    data, files = read_onnx(tmp_path / "m.onnx")
    assert files == [tmp_path / "m.data"]
    assert np.array_equal(numpy_helper.to_array(onnx.load_from_string(data).graph.initializer[0]), NUMBERS)
    (tmp_path / "whole.onnx").write_bytes(whole)
    assert read_onnx(tmp_path / "whole.onnx") == (whole, [])


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({}, "lie in another file, which it does not name"),
        ({"location": "../outside"}, r"'\.\./outside', outside its folder"),
        ({"location": "deep/../../outside"}, "outside its folder"),
        ({"location": "/etc/passwd"}, "'/etc/passwd', outside its folder"),
        ({"location": "..\\outside"}, "outside its folder"),
        ({"location": "link"}, "'link', outside its folder"),
        ({"location": "links/outside"}, "outside its folder"),
        ({"location": "gone.data"}, r"gone\.data: no such file; copy it beside"),
        ({"location": "deep"}, "deep: not a file"),
        ({"location": "pipe"}, "pipe: not a file"),
        ({"location": "deep/w.data", "length": 40}, "32 bytes, not 40; copy it again"),
        ({"location": "deep/w.data", "offset": 40}, "32 bytes, not 40; copy it again"),
        ({"location": "deep/w.data", "offset": 0, "length": 10**15}, "32 bytes, not 1000000000000000"),
        ({"location": "deep/w.data", "offset": -8}, "'-8', no number"),
        ({"location": "deep/w.data", "offset": "many"}, "'many', no number"),
    ],
)
def test_places_that_are_not_read(folder, place, words):
    (folder / "link").symlink_to(folder.parent / "outside")
    (folder / "links").symlink_to(folder.parent)
    os.mkfifo(folder / "pipe")
    with pytest.raises(ToolError, match=words) as caught:
        read(folder, **place)
    assert "m.onnx" in caught.value.message
    assert "\n" not in caught.value.message
