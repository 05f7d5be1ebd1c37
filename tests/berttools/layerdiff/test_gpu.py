"""Windows in a stream: what the GPU cannot read is summed on the CPU, and errors keep their jobs."""

import numpy as np
import pytest
import torch

from _toolio.errors import InputError
from _toolio.tensors.reader import ArrayTensor
from berttools.layerdiff.distances import Pair, sum_window
from berttools.layerdiff.gpu import Stream, _stored


class Unreadable:
    def values(self, start, stop):
        raise InputError("cannot be read")

    def release(self, start, stop):
        pass


def pair_of(integers):
    array = np.asarray(integers)
    return Pair(ArrayTensor(array), ArrayTensor(array + 1), array.size)


def test_integers_are_summed_on_the_cpu_in_the_order_of_jobs():
    pairs = [pair_of(np.arange(n)) for n in (4, 7, 9)]
    stream = Stream([(pair, 0, pair.n) for pair in pairs], torch.device("cpu"))
    assert [tuple(stream.result(number)) for number in range(3)] == [tuple(sum_window(p, 0, p.n)) for p in pairs]
    stream.close()


def test_an_error_is_raised_where_its_result_is_wanted():
    bad = Pair(Unreadable(), Unreadable(), 4)
    good = pair_of([1, 2, 3])
    stream = Stream([(bad, 0, 4), (good, 0, 3)], torch.device("cpu"))
    with pytest.raises(InputError, match="cannot be read"):
        stream.result(0)
    assert tuple(stream.result(1)) == tuple(sum_window(good, 0, 3))
    stream.close()


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [("float64", torch.float64), ("float32", torch.float32), ("float16", torch.float16), ("int32", None)],
)
def test_what_is_copied(dtype, wanted):
    values, found = _stored(ArrayTensor(np.arange(5).astype(dtype)), 1, 4)
    assert (values.tolist(), found) == ([1, 2, 3], wanted)


def test_bfloat16_is_copied_as_it_is_stored(tmp_path):
    from safetensors.torch import save_file

    from berttools.checkpoints.files import open_checkpoint

    tensor = torch.tensor([1.0, -2.5, 3.0]).bfloat16()
    save_file({"w": tensor}, tmp_path / "half.safetensors")
    values, found = _stored(open_checkpoint(tmp_path / "half.safetensors").flat("w"), 0, 3)
    assert found is torch.bfloat16
    assert torch.equal(torch.from_numpy(values.copy()).view(torch.bfloat16), tensor)
