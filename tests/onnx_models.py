"""Small ONNX models for tests, node by node."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from facetools.extractors.graphs.graph import Graph
from facetools.extractors.graphs.model import read_model


def model(*nodes, weights=(), opset=18, sides=(1, 3, 4, 4)):
    """A model from ``x`` to ``y`` of nodes that are given as operator, inputs, outputs and, if any, attributes."""
    made = [helper.make_node(each[0], each[1], each[2], **(each[3] if len(each) > 3 else {})) for each in nodes]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, side) for name, side in (("x", sides), ("y", None))]
    arrays = [numpy_helper.from_array(np.array(array), name) for name, array in weights]
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(
        helper.make_graph(made, "g", ends[:1], ends[1:], arrays), opset_imports=opsets, ir_version=10
    )


def graph(*nodes, **how):
    """The graph of such a model."""
    return Graph.of(read_model(model(*nodes, **how).SerializeToString()))
