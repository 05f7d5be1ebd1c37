import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load_file

from _toolio.errors import ToolError
from _toolio.tensors.reader import open_safetensors
from raw_safetensors import GOOD, check_refused, one, raw_file

HEADERS = {
    "not-safetensors": {
        "not JSON": b"{a: 1}",
        "cut inside a name": b'{"a',
        "two objects": b"{}{}",
        "half a surrogate pair": b'{"\\ud800": 1}',
        "not UTF-8": b'{"\xff\xfe": 1}',
        "a list": b"[1, 2]",
    },
    "bad-header": {
        "a twice": b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},'
        b' "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
        "dtype twice": b'{"a": {"dtype": "F64", "shape": [2], "data_offsets": [0, 8], "dtype": "F32"}}',
        "nested too deep": b'{"a":' + b"[" * 200_000,
        "fields nested too deep": b'{"a":{"shape":' + b"[" * 3_000 + b"]" * 3_000 + b"}}",
        "a number with endless digits": b'{"a":' + b"9" * 5000 + b"}",
        "endless fields": b'{"a":{"shape":[' + b"1," * 100_000 + b"1]}}",
        "a shape of endless digits": b'{"a":{"dtype":"F32","data_offsets":[0,8],"shape":[' + b"9" * 4_500 + b"]}}",
        "a product of endless digits": {"a": one(shape=(2**62,) * 32)},
        "more dimensions than numpy has": {"a": one(shape=(2,) + (1,) * 32)},
        "metadata twice": b'{"__metadata__": {}, "__metadata__": {}}',
        "a key of the metadata twice": b'{"__metadata__": {"k": "v", "k": "w"}}',
        "metadata without end": {"__metadata__": dict.fromkeys(map(str, range(1001)), "")},
        "metadata nested": {"__metadata__": {"k": {"l": "m"}}},
        "metadata not strings": {"__metadata__": {"k": 1}, "a": one()},
        "metadata not an object": {"__metadata__": "k", "a": one()},
        "entry not an object": {"a": 7},
        "no shape": {"a": {"dtype": "F32", "data_offsets": [0, 8]}},
        "dtype not a string": {"a": one(dtype=4)},
        "shape negative": {"a": one(shape=(-2,))},
        "shape not whole": {"a": one(shape=(2.0,))},
        "shape of bools": {"a": one(dtype="F64", shape=(True,))},
        "shape no list": {"a": {**one(), "shape": 2}},
        "shape NaN": b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}}',
        "offsets negative": {"a": one(offsets=(-8, 0))},
        "offsets three": {"a": one(offsets=(0, 4, 8))},
        "offsets reversed": {"a": one(offsets=(8, 0))},
        "size too small": {"a": one(shape=(1,))},
        "size too large": {"a": one(shape=(3,))},
        "size beyond 64 bits": {"a": one(shape=(2**62, 2**62))},
        "overlap": {"a": one(), "b": one(shape=(1,), offsets=(4, 8))},
        "same place": {"a": one(), "b": one()},
        "overlap behind an empty one": {"a": one(), "e": one("I8", (0,), (4, 4)), "b": one(shape=(1,), offsets=(4, 8))},
        "a hole before": {"a": one(shape=(1,), offsets=(4, 8))},
        "a hole behind": {"a": one(shape=(1,), offsets=(0, 4))},
        "a hole between": {"a": one("I8", offsets=(0, 2)), "b": one("I8", offsets=(4, 8), shape=(4,))},
    },
    "truncated": {"data": {"a": one(shape=(25,), offsets=(0, 100))}},
}


@pytest.mark.parametrize(("kind", "what"), [(kind, what) for kind, some in HEADERS.items() for what in some])
def test_bad_headers(tmp_path, kind, what):
    check_refused(raw_file(tmp_path / "a.safetensors", HEADERS[kind][what], GOOD), kind)


def test_headers_too_long(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes((100_000_001).to_bytes(8, "little") + b"{")
    assert "100 MB" in check_refused(path, "not-safetensors")
    path.write_bytes((50).to_bytes(8, "little") + b"{")
    assert "cut short" in check_refused(path, "truncated")
    path.write_bytes(bytes(8))
    check_refused(path, "not-safetensors")


def test_a_name_that_is_twice_among_many(tmp_path):
    entry = json.dumps(one("I8", (0,), (0, 0)))
    names = [*range(200_000), 199_999]
    path = raw_file(tmp_path / "a", ("{" + ",".join(f'"{name}":{entry}' for name in names) + "}").encode())
    assert "199999 is there twice" in check_refused(path, "bad-header")


_PEAK = """
import sys
from _toolio.errors import ToolError
from _toolio.tensors.reader import open_safetensors
try:
    open_safetensors(sys.argv[1])
except ToolError as error:
    print(error.message)
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell a process's memory")
@pytest.mark.parametrize(
    ("header", "said"),
    [
        (lambda: b"{" + b",".join(b'"%d":{"dtype":"I8","shape":[0],"data_offsets":[0,0]}' % n for n in range(400_000))
         + b"}", "more than the 250,000 tensors"),
        (lambda: b'{"a":{"x":[' + b"[]," * 6_000_000 + b"[]]}}", "a needs dtype"),
        (lambda: b'{"__metadata__":{' + b",".join(b'"%d":""' % n for n in range(2_000_000)) + b"}}", "1,000 other"),
    ],
    ids=["tensors", "lists", "metadata"],
)  # fmt: skip
def test_a_header_takes_little_more_memory_than_its_text(tmp_path, header, said):
    path = raw_file(tmp_path / "a", header())
    run = subprocess.run([sys.executable, "-c", _PEAK, path], capture_output=True, text=True, check=True)
    line, peak = run.stdout.splitlines()
    assert said in line
    assert int(peak) < 200_000, "kB"


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 20) | st.sampled_from(["F32", "I8", "F4", ""]) | st.just(1 << 70),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "dtype", "shape"]), inner),
    max_leaves=6,
)
_LENGTHS = st.lists(st.integers(0, 4), max_size=3)
_FIELDS = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "I8", "U16", "BOOL", "F4"]) | _VALUES,
        "shape": _LENGTHS | _VALUES,
        "data_offsets": st.lists(st.integers(0, 16), min_size=2, max_size=2) | _VALUES,
    }
)
_HEADERS = st.dictionaries(
    st.sampled_from(["a", "b", "layer.0", "\u00e9", '"\\'])
    | st.just("__metadata__"), _FIELDS | _VALUES | st.dictionaries(st.text(max_size=3), st.text(max_size=3)),
    max_size=4,
)  # fmt: skip


@given(_HEADERS, st.integers(0, 40), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_header_is_read_as_the_library_reads_it_or_refused(tmp_path_factory, header, length, ascii_only):
    path = tmp_path_factory.mktemp("h") / "a.safetensors"
    raw_file(path, json.dumps(header, ensure_ascii=ascii_only).encode(), bytes(length))
    try:
        with open_safetensors(path) as ours:
            entries = ours.entries
            found = {name: ours.tensor(name).shape for name, entry in entries.items() if entry.dtype != "F4"}
    except ToolError as error:
        assert "\n" not in error.message
        assert str(path) in error.message
        return
    if len(found) < len(entries):  # of a dtype that cannot be read here
        return
    try:
        theirs = load_file(path)
    except SafetensorError:
        raise AssertionError(f"the library refuses {header}") from None
    assert {name: array.shape for name, array in theirs.items()} == found
