import dataclasses
import json
import math
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save_file as save_torch

from _toolio.errors import ToolError
from _toolio.tensors.writer import write_safetensors
from berttools.checkpoints.files import open_checkpoint
from berttools.layerdiff import distances
from berttools.layerdiff.diffs import diff_checkpoints
from berttools.layerdiff.distances import Measured, Pair, TensorDistance, sum_window, tensor_distance
from conftest import children
from exact_distances import DISTANCES, exact


def check(a, b, rel=1e-9, angle_abs=1e-15):
    """Each field within `rel`; an angle so small that float64 cannot say more, within `angle_abs` of pi."""
    got, want = tensor_distance(np.asarray(a), np.asarray(b)), exact(a, b)
    for field in DISTANCES:
        value = getattr(got, field)
        if want[field] is None or (value is None and want[field] > 1e300):
            assert value is None, field
            assert got.reason
        else:
            off = abs(mpmath.mpf(value) - want[field])
            slack = angle_abs if field == "angle" else sys.float_info.min  # below it digits are lost
            assert off <= max(rel * want[field], slack), (field, value, want[field])
    return got


def at_angle(theta, n=200, seed=0):
    rng = np.random.default_rng(seed)
    a, p = rng.normal(size=(2, n))
    p -= a * (a @ p) / (a @ a)
    return a, math.cos(theta) * a + math.sin(theta) * p * np.linalg.norm(a) / np.linalg.norm(p)


@pytest.mark.parametrize(
    "theta", [1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 5e-4, 0.1, 1, math.pi / 2, 3, math.pi - 1e-3, math.pi - 1e-8]
)
@pytest.mark.parametrize("scale", [1, 1.0000001, 3, 1e-3, 1e10, 1e-30])
def test_any_angle_at_any_change_of_length(theta, scale):
    a, b = at_angle(theta)
    # A change that is mostly a scaling is rounded in each entry: below that the true angle is that rounding.
    got = check(a, b * scale, angle_abs=1e-15)
    assert got.angle == pytest.approx(theta / math.pi, abs=1e-15)


@pytest.mark.parametrize("theta", [1e-8, 1e-6, 1e-3])
@pytest.mark.parametrize("magnitude", [1e-30, 1e-3, 1, 1e30])
def test_float32_of_any_magnitude(theta, magnitude):
    a, b = at_angle(theta)
    a, b = (a * magnitude).astype(np.float32), (b * magnitude).astype(np.float32)
    check(a, b)


@pytest.mark.parametrize("magnitude", [1e-300, 1e-170, 1e-150, 1e150, 1e170, 1e300])
@pytest.mark.parametrize("theta", [1e-8, 1e-3, 2, math.pi - 1e-9])
def test_float64_whose_squares_leave_the_range(theta, magnitude):
    a, b = at_angle(theta)
    check(a * magnitude, b * magnitude)
    check(a, b * magnitude)
    check(a * magnitude, b)


def test_a_change_whose_square_underflows_is_measured():
    a = np.array([1.0, 1e-200])
    check(a, np.array([1.0, 3e-200]), angle_abs=1e-199)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_identical_is_exactly_0(dtype):
    a = (np.random.default_rng(0).normal(size=(30, 7)) * 10).astype(dtype)
    got = tensor_distance(a, a.copy())
    assert dataclasses.replace(got, n=0) == TensorDistance(0.0, *[0.0] * 7)


def test_opposite_is_1_and_orthogonal_a_half():
    a = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    assert tensor_distance(a, -a).angle == 1
    assert tensor_distance(a, np.float32(-2) * a).angle == 1
    assert tensor_distance(np.array([1.0, 0]), np.array([0, 3.0])).angle == pytest.approx(0.5, abs=1e-15)


@pytest.mark.parametrize("factor", [2, 1.1, 1 + 2**-20, 0.25, 1e-3, 1e20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_pure_scaling_has_only_the_angle_of_its_rounding(factor, dtype):
    a = np.random.default_rng(0).normal(size=300).astype(dtype)
    got = check(a, a * dtype(factor))
    if factor in (2, 0.25):
        assert got.angle == 0


def test_minus_zero_is_no_change_and_the_smallest_is_one():
    assert tensor_distance(np.float32([0.0, 1]), np.float32([-0.0, 1])).changed == 0
    tiny = np.float32([1, 1e-45, 2, 3])
    assert tensor_distance(tiny, np.float32([1, 0, 2, 3])).changed == 0.25


def test_zero_tensors_have_no_angle():
    zero, some = np.zeros(4, np.float32), np.arange(4, dtype=np.float32)
    got = tensor_distance(zero, some)
    assert (got.angle, got.rel_l1, got.rel_l2, got.reason) == (None, None, None, "base is all zeros")
    assert (got.l1, got.max_abs, got.changed) == (3, 3, 0.75)
    got = tensor_distance(some, zero)
    assert (got.angle, got.rel_l1, got.rel_l2, got.reason) == (None, 1, 1, "ft is all zeros")
    got = tensor_distance(zero, zero)
    assert (got.angle, got.l1, got.changed) == (None, 0, 0)
    assert got.reason == "base is all zeros"
    got = tensor_distance(np.zeros((0, 3)), np.zeros((0, 3)))
    assert (got.l1, got.n, got.reason) == (None, 0, "no entries")


def test_a_quotient_beyond_float64_is_said():
    got = tensor_distance(np.array([1e-300]), np.array([1e10]))
    assert (got.angle, got.rel_l1, got.rel_l2) == (0, None, None)
    assert got.reason == "base is too close to zero to divide by"


@pytest.mark.filterwarnings("error")
def test_what_is_not_finite_is_counted_and_said():
    good = np.ones(5, np.float32)
    bad = np.float32([np.nan, np.nan, 1, np.inf, np.nan])
    got = tensor_distance(good, bad)
    assert got == TensorDistance(n=5, nan_ft=3, inf_ft=1, reason="3 NaN and 1 inf in ft")
    got = tensor_distance(bad, good)
    assert got == TensorDistance(n=5, nan_base=3, inf_base=1, reason="3 NaN and 1 inf in base")
    infinite = np.float32([np.inf, -np.inf])
    got = tensor_distance(infinite, infinite)
    assert got == TensorDistance(n=2, inf_base=2, inf_ft=2, reason="2 inf in base, 2 inf in ft")


@pytest.mark.filterwarnings("error")
def test_sums_beyond_float64_are_said():
    got = tensor_distance(np.array([1e308, 1.0]), np.array([-1e308, 1.0]))
    assert got == TensorDistance(n=2, reason="entries too large to add up in float64")


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u4", "i4", "?"])
def test_integers_and_bools_are_numbers(dtype):
    a, b = np.random.default_rng(0).integers(0, 2 if dtype == "?" else 120, (2, 50)).astype(dtype)
    check(a, b)


def test_large_integers_differ_though_float64_cannot_say_by_how_much():
    assert tensor_distance(np.array([2**60, 1]), np.array([2**60 + 1, 1])).changed == 0.5


@pytest.mark.parametrize("dtypes", ["f4f8", "f2f4", "i4f4", "f4u1"])
def test_two_dtypes(dtypes):
    a, b = np.random.default_rng(0).normal(50, 9, size=(2, 40))
    check(a.astype(dtypes[:2]), b.astype(dtypes[2:]))


FLOATS = {
    np.float32: st.floats(width=32, allow_nan=False, allow_infinity=False),
    np.float64: st.floats(-1e300, 1e300),
}


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_two_vectors(dtype, data):
    size = data.draw(st.integers(1, 6))
    a, b = (data.draw(hnp.arrays(dtype, size, elements=FLOATS[dtype])) for _ in range(2))
    check(a, b)


@given(st.integers(0, 2**32), st.floats(1e-12, 1), st.floats(0.5, 2), st.integers(2, 50))
@settings(max_examples=150, deadline=None)
def test_small_changes(seed, size, factor, n):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    check(a, factor * (a + size * rng.normal(size=n)))


@given(
    hnp.arrays(np.float32, 40, elements=st.floats(-1, 1, width=32)),
    hnp.arrays(np.float32, 40, elements=st.floats(-1, 1, width=32)),
)
@settings(max_examples=50, deadline=None)
def test_laws(a, b):
    forth, back = tensor_distance(a, b), tensor_distance(b, a)
    assert forth.l1 == back.l1
    assert forth.max_abs == back.max_abs
    assert forth.changed == back.changed
    if forth.angle is not None and back.angle is not None:
        # Forty products are summed in another order: a hundred roundings of an angle up to 1.
        assert forth.angle == pytest.approx(back.angle, abs=2e-14)
        assert 0 <= forth.angle <= 1


def test_chunks_and_windows_join(monkeypatch):
    rng = np.random.default_rng(0)
    a = rng.normal(size=1000).astype(np.float32)
    b = (a + 1e-3 * rng.normal(size=1000)).astype(np.float32)
    whole = tensor_distance(a, b)
    monkeypatch.setattr(distances, "_CHUNK", 7)
    monkeypatch.setattr(distances, "_WINDOW", 49)
    for left, right in ((a, b), (a, np.float32(1.1) * a), (a, -b)):
        check(left, right)
    parts = tensor_distance(a, b)
    for field in DISTANCES:
        assert getattr(parts, field) == pytest.approx(getattr(whole, field), rel=1e-13)


class Repeated:
    """A thousand million entries that are one pattern over and over."""

    def __init__(self, pattern):
        self.pattern, self.tiled = pattern, np.resize(pattern, len(pattern) * 300)

    def values(self, start, stop):
        first = start % len(self.pattern)
        return self.tiled[first : first + stop - start]

    def release(self, start, stop):
        pass


@pytest.mark.parametrize("theta", [1e-8, 5e-4])
def test_a_thousand_million_entries(theta):
    a, b = at_angle(theta, n=1009)
    repeats = 991_081
    pair = Pair(Repeated(a), Repeated(b), len(a) * repeats)
    assert pair.n > 10**9
    got = Measured(pair, [sum_window(pair, *window) for window in pair.windows()]).distance
    want = exact(a, b)
    for field in ("angle", "mean_abs", "rel_l1", "rel_l2", "max_abs", "changed"):
        assert getattr(got, field) == pytest.approx(float(want[field]), rel=1e-9), field
    assert got.l1 == pytest.approx(float(want["l1"]) * math.sqrt(repeats), rel=1e-9)
    assert got.l2 == pytest.approx(float(want["l2"]) * math.sqrt(repeats), rel=1e-9)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ"):
        tensor_distance(np.zeros(2), np.zeros(3))


def model(tmp_path, name, tensors):
    write_safetensors(tmp_path / name, tensors)
    return open_checkpoint(tmp_path / name)


def test_two_checkpoints(tmp_path):
    rng = np.random.default_rng(0)
    query = rng.normal(size=(8, 8)).astype(np.float32)
    names = {"encoder.layer.3.attention.self.query.weight": query, "embeddings.LayerNorm.gamma": query[0]}
    base = model(tmp_path, "base", names | {"pooler.dense.bias": query[1], "gone": query, "z": query})
    ft = model(
        tmp_path,
        "ft",
        {
            "bert.encoder.layer.3.attention.self.query.weight": query + np.float32(0.1),
            "bert.embeddings.LayerNorm.weight": query[0],
            "bert.pooler.dense.bias": query[1, :4],
            "bert.z": np.full((8, 8), np.nan),
            "classifier.weight": query,
        },
    )
    found = {diff.name: diff for diff in diff_checkpoints(base, ft)}
    assert list(found) == [
        "embeddings.LayerNorm.gamma", "encoder.layer.3.attention.self.query.weight", "gone",
        "pooler.dense.bias", "z", "classifier.weight",
    ]  # fmt: skip
    query_diff = found["encoder.layer.3.attention.self.query.weight"]
    assert (query_diff.layer, query_diff.group) == (3, "Q")
    assert query_diff.name_ft == "bert.encoder.layer.3.attention.self.query.weight"
    assert query_diff.distance == tensor_distance(query, query + np.float32(0.1))
    assert (query_diff.dtype_base, query_diff.dtype_ft) == ("F32", "F32")
    assert found["embeddings.LayerNorm.gamma"].distance.angle == 0
    bias = found["pooler.dense.bias"]
    assert (bias.shape_base, bias.shape_ft, bias.reason) == ((8,), (4,), "shapes differ")
    assert bias.distance is None
    assert (found["gone"].only_in, found["gone"].name_ft, found["gone"].shape_ft) == ("base", None, None)
    head = found["classifier.weight"]
    assert (head.only_in, head.shape_base, head.shape_ft) == ("ft", None, (8, 8))
    assert found["z"].reason == found["z"].distance.reason == "64 NaN in ft"


def test_bfloat16_against_float32_and_float8(tmp_path):
    weight = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    save_torch({"a": weight, "b": weight.clone()}, tmp_path / "base")
    save_torch({"a": weight.bfloat16(), "b": weight.to(torch.float8_e4m3fn)}, tmp_path / "ft")
    for diff in diff_checkpoints(open_checkpoint(tmp_path / "base"), open_checkpoint(tmp_path / "ft")):
        other = weight.bfloat16() if diff.name == "a" else weight.to(torch.float8_e4m3fn)
        want = exact(weight.numpy(), other.double().numpy())
        assert diff.dtype_ft == ("BF16" if diff.name == "a" else "F8_E4M3")
        for field in DISTANCES:
            assert getattr(diff.distance, field) == pytest.approx(float(want[field]), rel=1e-12)


def test_a_torch_file_against_safetensors(tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20, 10)).astype(np.float32)
    torch.save({"w": torch.from_numpy(b)}, tmp_path / "ft.bin")
    (diff,) = diff_checkpoints(model(tmp_path, "base", {"w": a}), open_checkpoint(tmp_path / "ft.bin"))
    assert diff.distance == tensor_distance(a, b)


def test_an_unknown_dtype_is_an_error_of_its_tensor(tmp_path):
    header = {
        "good": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "odd": {"dtype": "F4", "shape": [2], "data_offsets": [8, 9]},
    }
    text = json.dumps(header).encode()
    data = np.float32([1, 2]).tobytes() + b"\0"
    (tmp_path / "odd").write_bytes(len(text).to_bytes(8, "little") + text + data)
    checkpoint = open_checkpoint(tmp_path / "odd")
    good, odd = diff_checkpoints(checkpoint, checkpoint)
    assert good.distance.angle == 0
    assert odd.distance is None
    assert odd.error.kind == "unknown-dtype"


def test_nothing_in_common_is_an_error_before_the_first_tensor(tmp_path):
    base = model(tmp_path, "base", {"first.weight": np.zeros(2), "second": np.zeros(3)})
    ft = model(tmp_path, "ft", {"other.kernel": np.zeros(2)})
    for one, other in ((base, ft), (ft, base), (base, model(tmp_path, "empty", {}))):
        with pytest.raises(ToolError) as caught:
            diff_checkpoints(one, other)
        assert caught.value.kind == "no-common-tensors"
        assert caught.value.exit_code == 1
        assert next(iter(one.tensors)) in caught.value.message


def big_pair(tmp_path):
    rng = np.random.default_rng(0)
    a = {f"layer.{n}.w{n}": rng.normal(size=(60, 50)).astype(np.float32) for n in range(30)}
    b = {name: array + np.float32(1e-3) * rng.normal(size=array.shape).astype(np.float32) for name, array in a.items()}
    return model(tmp_path, "base", a), model(tmp_path, "ft", b)


def test_the_number_of_processes_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(distances, "_CHUNK", 100)
    monkeypatch.setattr(distances, "_WINDOW", 700)
    base, ft = big_pair(tmp_path)
    one = list(diff_checkpoints(base, ft, processes=1))
    assert len(one) == 30
    for processes in (None, 2, 5):
        assert list(diff_checkpoints(base, ft, processes=processes)) == one


def test_a_reader_that_stops_early_ends_the_processes(tmp_path):
    before = children()
    diffs = diff_checkpoints(*big_pair(tmp_path), processes=3)
    next(diffs)
    assert children() > before
    diffs.close()
    assert children() == before


def test_no_torch_is_needed(tmp_path):
    model(tmp_path, "a", {"w": np.arange(6.0)})
    code = (
        "import sys; from berttools.checkpoints.files import open_checkpoint as o;"
        "from berttools.layerdiff.diffs import diff_checkpoints;"
        f"p = {str(tmp_path / 'a')!r}; (diff,) = diff_checkpoints(o(p), o(p)); assert diff.distance.angle == 0;"
        "print({'torch', 'transformers', 'safetensors', 'scipy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_small_for_a_large_pair(tmp_path):
    size = 60_000_000  # 240 MB a file
    header = json.dumps({"w": {"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]}}).encode()
    for name in ("base", "ft"):
        with (tmp_path / name).open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + 4 * size)  # a hole: reads as zeros, takes no disk
    code = (
        "from berttools.checkpoints.files import open_checkpoint as o;"
        "from berttools.layerdiff.diffs import diff_checkpoints;"
        f"(diff,) = diff_checkpoints(o({str(tmp_path / 'base')!r}), o({str(tmp_path / 'ft')!r}));"
        "assert diff.distance.changed == 0;"
        # Not ru_maxrss: a child inherits that of the process that started it.
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200 * 1024  # kB
