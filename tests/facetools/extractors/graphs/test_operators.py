"""Every operator against the cases by which the ONNX project tests runtimes: right, or refused by name."""

import warnings
from collections import defaultdict

import numpy as np
import pytest

from facetools.extractors.graphs.graph import _attributes, _check, _tensor
from facetools.extractors.graphs.operators import OPERATORS, Node

onnx = pytest.importorskip("onnx")

# Reductions of nothing at all fail, where the format has rules for them; no network reduces nothing.
EMPTY = {"test_reduce_max_empty_set", "test_reduce_max_empty_set_bool", "test_reduce_min_empty_set"}
FLOAT16, BFLOAT16 = onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16

# The project has no such case of these; test_network.py tests them.
WITHOUT = {"ConcatFromSequence", "SequenceAt", "SequenceConstruct", "Upsample"}


@pytest.fixture(scope="module")
def cases():
    from onnx.backend.test.case.node import collect_testcases

    found = defaultdict(list)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            nodes = case.model.graph.node
            if len(nodes) == 1 and not nodes[0].domain and case.name not in EMPTY:
                found[nodes[0].op_type].append(case)
    return found


def array_of(value):
    """Numbers of half precision in float32; None for what is no number."""
    array = onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    return array.astype(np.float32) if array.dtype.name in ("float16", "bfloat16") else array


def tensors_of(values):
    return [tensors_of(each) if isinstance(each, list) else _tensor(array_of(each)) for each in values]


def computed(case):
    """What our operator makes of the inputs of each set of data of a case, and what it is to make."""
    (proto,) = case.model.graph.node
    opset = next(each.version for each in case.model.opset_import if not each.domain)
    node = Node(proto.op_type, opset, _attributes(proto), tuple(proto.input), tuple(proto.output))
    _check(node)
    for inputs, outputs in case.data_sets:
        given = iter(tensors_of(inputs))
        out = OPERATORS[node.operator].function(node, *(next(given) if name else None for name in node.inputs))
        yield out if isinstance(out, tuple) else (out,), outputs


def numeric(case):
    """No texts, no numbers of fewer than eight bits."""
    kinds = [each.type.tensor_type.elem_type for each in (*case.model.graph.input, *case.model.graph.output)]
    return all(kind <= BFLOAT16 and kind != onnx.TensorProto.STRING for kind in kinds)


def compare(case, ours, theirs):
    if isinstance(ours, list):
        assert len(ours) == len(theirs), case.name
        for one, other in zip(ours, theirs, strict=True):
            compare(case, one, other)
        return
    half = any(each.type.tensor_type.elem_type in (FLOAT16, BFLOAT16) for each in case.model.graph.output)
    near = 1e-2 if half else 1e-4
    want = array_of(theirs).astype(np.float64)
    assert ours.shape == want.shape, case.name
    np.testing.assert_allclose(ours.double().numpy(), want, near, near, err_msg=case.name)


@pytest.mark.parametrize("name", sorted(set(OPERATORS) - WITHOUT))
def test_operator(name, cases):
    right = 0
    for case in filter(numeric, cases[name]):
        try:
            made = list(computed(case))
        except ValueError as error:
            assert f"its operator {name} (opset" in str(error), case.name
            continue
        for ours, theirs in made:
            for one, other in zip(ours, theirs, strict=False):
                compare(case, one, other)
        right += 1
    assert right


def test_what_has_no_case_is_not_more_than_it_was(cases):
    assert {name for name in OPERATORS if name not in cases} <= WITHOUT
