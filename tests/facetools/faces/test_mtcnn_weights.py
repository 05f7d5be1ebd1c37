import io
import pickle
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import lz4.frame
import numpy as np
import pytest

from _toolio.errors import ToolError
from facetools.faces import mtcnn_weights
from facetools.faces.mtcnn_weights import SHA256, read_arrays, state_dict, weights_path

NETS = ("pnet", "rnet", "onet")
VALUES = {"pnet": 6_632, "rnet": 100_178, "onet": 389_040}


@pytest.mark.parametrize("net", NETS)
def test_same_arrays_as_joblib(net):
    joblib = pytest.importorskip("joblib")
    ours = read_arrays(weights_path(net), sha256=SHA256[net])
    theirs = joblib.load(weights_path(net))  # its hash has just been checked
    assert len(ours) == len(theirs)
    assert all(a.dtype == np.float32 and np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("net", NETS)
def test_state_dict_holds_every_value_once(net):
    state = state_dict(net)
    assert sum(value.size for value in state.values()) == VALUES[net]
    assert all(np.isfinite(value).all() for value in state.values())
    kernel = read_arrays(weights_path(net))[0]  # [height, width, in, out]
    assert state["conv1.weight"][7, 2, 0, 1] == kernel[0, 1, 2, 7]


def test_the_flattened_layer_takes_rows_first():
    weight = next(a for a in read_arrays(weights_path("rnet")) if a.shape == (576, 128))
    row, column, channel = 2, 1, 5
    ours = state_dict("rnet")["fc4.weight"][:, (row * 3 + column) * 64 + channel]
    np.testing.assert_array_equal(ours, weight[(column * 3 + row) * 64 + channel])


def test_reading_needs_no_torch():
    code = "import sys; from facetools.faces import mtcnn_weights as w; w.state_dict('pnet');"
    code += "assert not {'torch', 'joblib', 'tensorflow', 'mtcnn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("at", [0, 40, 900, -30])
def test_a_changed_byte_is_refused(tmp_path, at):
    data = bytearray(weights_path("pnet").read_bytes())
    data[at] ^= 0x10
    path = tmp_path / "pnet.lz4"
    path.write_bytes(data)
    with pytest.raises(ToolError, match="sha256"):
        read_arrays(path, sha256=SHA256["pnet"])


@pytest.mark.parametrize("keep", [0, 1, 100, 230, 1000, 27_000])
def test_a_short_pickle_is_one_line(tmp_path, keep):
    path = tmp_path / "short.lz4"
    path.write_bytes(lz4.frame.compress(lz4.frame.decompress(weights_path("pnet").read_bytes())[:keep]))
    with pytest.raises(ToolError) as caught:
        read_arrays(path)
    assert "short.lz4" in caught.value.message
    assert "\n" not in caught.value.message


def test_garbage_is_one_line(tmp_path):
    rng = np.random.default_rng(0)
    good = lz4.frame.decompress(weights_path("pnet").read_bytes())
    path = tmp_path / "bad.lz4"
    refused = 0
    for _ in range(300):
        data = bytearray(good)
        for at in rng.integers(0, 400, 3):
            data[at] = rng.integers(256)
        path.write_bytes(lz4.frame.compress(bytes(data)))
        try:
            read_arrays(path)
        except ToolError as error:
            refused += 1
            assert "\n" not in error.message
    assert refused > 100


class Evil:
    def __reduce__(self):
        return Path.touch, (Path("touched"),)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_no_code_of_a_pickle_runs(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    stream = io.BytesIO()
    pickle.dump([Evil()], stream, protocol=protocol)
    path = tmp_path / "evil.lz4"
    path.write_bytes(lz4.frame.compress(stream.getvalue()))
    with pytest.raises(ToolError):
        read_arrays(path)
    assert not Path("touched").exists()


def test_a_missing_package_says_what_to_install(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(mtcnn_weights.metadata, "distribution", missing)
    with pytest.raises(ToolError, match=r"pip install mtcnn==1\.0\.0"):
        weights_path("pnet")


def test_a_missing_file_says_what_to_install(monkeypatch, tmp_path):
    class Distribution:
        def locate_file(self, name):
            return tmp_path / name

    monkeypatch.setattr(mtcnn_weights.metadata, "distribution", lambda name: Distribution())
    with pytest.raises(ToolError, match=r"mtcnn==1\.0\.0"):
        state_dict("onet")
