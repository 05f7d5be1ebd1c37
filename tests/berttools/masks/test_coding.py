"""Masks as bits, by entropy, and given the weights: what is read back is what was written."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from berttools.masks import coding


def keys_of(weights: NDArray[np.generic]) -> coding.Keys:
    keys = coding.weight_keys(weights).reshape(-1)
    return lambda start, stop: keys[start:stop]


def normal(size: int, seed: int = 0, dtype: str = "float32") -> NDArray[np.generic]:
    values = (np.random.default_rng(seed).standard_normal(size) * 0.02).astype(np.float32)
    if dtype == "bfloat16":  # as a float32 whose lower half is empty, which is how one is read
        return (values.view(np.uint32) & 0xFFFF0000).view(np.float32)
    return values.astype(dtype)


@settings(deadline=None, max_examples=150)
@given(
    size=st.integers(0, 3000),
    sparsity=st.floats(0, 1),
    by_magnitude=st.booleans(),
    dtype=st.sampled_from(["float32", "float16", "bfloat16", "float64"]),
    ties=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_code_reads_back_what_it_wrote(
    size: int, sparsity: float, by_magnitude: bool, dtype: str, ties: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = normal(size, seed, dtype)
    if ties:
        weights = rng.choice(np.array([0.0, -0.0, 0.5, -0.5, 1e-8], weights.dtype), size)
    keep = rng.random(size) >= sparsity
    if by_magnitude:
        order = np.argsort(np.abs(weights))
        keep = np.ones(size, np.bool_)
        keep[order[: int(sparsity * size)]] = False
        keep ^= rng.random(size) < 0.02
    packed = coding.bits_of(keep)
    assert packed.size == -(-size // 8)
    assert np.array_equal(np.unpackbits(packed, count=size).astype(bool), keep)
    assert np.array_equal(coding.decode(coding.encode(keep), size), keep)
    coded = coding.encode(keep, keys_of(weights))
    assert np.array_equal(coding.decode(coded, size, keys_of(weights)), keep)
    zeroed = size - int(keep.sum())
    streams = {"bits": packed, "entropy": coding.encode(keep), "conditional": coded}
    assert all(coding.can_hold(code, stream, size, zeroed) for code, stream in streams.items())


@pytest.mark.parametrize("sparsity", [0.005, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5])
def test_entropy_is_within_two_per_cent_of_its_bound(sparsity: float) -> None:
    keep = np.random.default_rng(1).random((768, 768)) >= sparsity
    bound = coding.entropy_bits(keep.size, keep.size - int(keep.sum())) / 8
    assert bound < coding.encode(keep).size < 1.02 * bound


@pytest.mark.parametrize("sparsity", [0.0, 1.0])
def test_all_or_nothing_takes_no_room(sparsity: float) -> None:
    assert coding.encode(np.full((768, 768), sparsity == 0)).size == 3


@pytest.mark.parametrize("sparsity", [0.07, 0.2, 0.4])
def test_a_mask_by_magnitude_costs_what_was_flipped(sparsity: float) -> None:
    weights = normal(384 * 384)
    keep = np.abs(weights) >= np.quantile(np.abs(weights), sparsity)
    keep ^= np.random.default_rng(1).random(keep.size) < 0.005
    given_weights, plain = coding.encode(keep, keys_of(weights)).size, coding.encode(keep).size
    flips = coding.entropy_bits(keep.size, int(0.005 * keep.size)) / 8
    assert given_weights < 0.5 * plain
    assert given_weights < 1.1 * flips


def test_a_mask_that_weights_say_nothing_of_costs_no_more_given_them() -> None:
    keep = np.random.default_rng(1).random(100_000) >= 0.1
    assert coding.encode(keep, keys_of(normal(keep.size))).size <= coding.encode(keep).size


def test_more_entries_than_are_sorted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, "BLOCK", 1000)
    weights = normal(4321)
    keep = (np.abs(weights) > 0.01) ^ (np.random.default_rng(0).random(4321) < 0.1)
    assert np.array_equal(coding.decode(coding.encode(keep), keep.size), keep)
    assert np.array_equal(coding.decode(coding.encode(keep, keys_of(weights)), keep.size, keys_of(weights)), keep)


def test_few_ranges_and_many_are_told_apart_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = np.random.default_rng(0).integers(0, 65536, 5000).astype(np.uint16)
    keys[:4] = 0, 7, 65534, 65535
    for cuts in ([], [7], [1, 7, 8, 30_000], [65535], [0, 65535]):
        found = []
        for few in (0, 6):
            monkeypatch.setattr(coding, "_FEW", few)
            found.append(coding._indices_by_range(np.array(cuts, np.int64), keys))
        assert [each.tolist() for each in found[0]] == [each.tolist() for each in found[1]]
        assert sorted(np.concatenate(found[0]).tolist()) == list(range(5000))


def test_keys_rank_absolute_values_and_half_precision_keeps_its_own() -> None:
    values = np.array([0.0, -0.0, 1e-40, -1e-10, 0.5, -0.5, 1.0, -3.0, np.inf], np.float32)
    assert (np.diff(coding.weight_keys(values).astype(int)) >= 0).all()
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    assert np.array_equal(coding.weight_keys(finite), coding.weight_keys(finite.astype(np.float32)))
    assert coding.weight_keys(np.float32([1.0]))[0] == 0x3F800000 >> 15


def test_the_bytes_of_a_stream_are_pinned_down() -> None:
    """A coder that wrote other bytes could no longer read the files that there are."""
    keep = np.arange(64) % 5 != 0
    weights = np.where(keep, 1.0, 0.25).astype(np.float32)
    assert coding.bits_of(keep).tobytes().hex() == "7bdef7bdef7bdef7"
    assert coding.encode(keep).tobytes().hex() == "0000342a9d8e9d30c7dd4c01000000"
    assert coding.encode(keep, keys_of(weights)).tobytes().hex() == "01007fffff0000"


@pytest.mark.parametrize("kind", ["", "00", "0000", "010000", "00000000", "00003401", "02000100010000000000"])
def test_what_is_no_stream_is_refused(kind: str) -> None:
    coded = np.frombuffer(bytes.fromhex(kind), np.uint8)
    with pytest.raises(ValueError):
        coding.decode(coded, 64, keys_of(normal(64)))


def test_a_stream_of_more_entries_is_refused() -> None:
    coded = coding.encode(np.random.default_rng(0).random(10_000) > 0.3)
    with pytest.raises(ValueError, match="more is coded"):
        coding.decode(coded, 5_000)


@pytest.mark.parametrize("zeroed", [1, 8, 100, 12_500, 50_000, 87_500, 99_992, 99_999])
@pytest.mark.parametrize("first", [True, False])
def test_a_run_of_zeroed_entries_can_be_held(zeroed: int, first: bool) -> None:
    """What lies together costs least: whole bytes of zeroed entries, and those that stay behind them."""
    keep = np.ones(100_000, np.bool_)
    keep[:zeroed] = False
    coded = coding.encode(keep if first else keep[::-1].copy())
    assert coding.can_hold("entropy", coded, keep.size, zeroed)
    for words in (0, 1):
        short = coded[: 3 + 4 * words]
        assert not coding.can_hold("entropy", short, 1000 * keep.size, 1000 * zeroed) or zeroed == 1


def test_no_torch() -> None:
    code = "import sys, berttools.masks.file; sys.exit(any(m in sys.modules for m in ('torch', 'constriction')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
