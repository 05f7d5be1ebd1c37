"""Code a mask's bits in one of three ways: packed, by entropy, or by entropy given the weights.

``bits``
    A bit an entry, eight to a byte, the first one highest; 1 stays.
``entropy``
    Bytes of the same bits, coded by asymmetric numeral systems with one probability p that an entry is zeroed: the
    entropy n H(p) in bits, and some bytes.
``conditional``
    The same with a p for each range of absolute weights. A mask that began by magnitude costs only what was learned
    since. Reading it back needs the weights.

Both codes end in the same numbers on every machine: a p is a whole number of 65,536ths that the stream holds, the
probability of a byte follows from it in whole numbers, and a weight's range from the bits of its absolute value.

A stream of the last two: ranges less one (a byte), the first key of each range but the first, p of each range (little-
endian uint16), and the coder's words (little-endian uint32).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from _toolio.tensors.reader import FlatTensor

BLOCK = 1 << 20
"""Entries that are sorted together, whole bytes: what is needed of memory does not depend on the matrix."""
_KEYS = 1 << 16
_ALL = _KEYS - 1
"""As a p it stands for 1: every entry of the range is zeroed. 0 is as it says. Neither costs a bit."""
_FINEST = 1024
"""Ranges that the encoder begins with."""
_MOST = 256
_FEW = 6
_RANGE_BITS = 32
"""What one range more costs: its first key and its p."""

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Keys = Callable[[int, int], NDArray[np.uint16]]
"""Returns the keys of entries `start` to `stop`."""


def weight_keys(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Return the upper 16 of the 31 bits of each absolute value as a float32, shape unchanged.

    They rank weights by magnitude, weights that nearly agree alike. float16 and bfloat16 become float32 exactly.
    """
    with np.errstate(over="ignore"):
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits & 0x7FFFFFFF) >> 15).astype(np.uint16)


def tensor_keys(flat: FlatTensor) -> Keys:
    """Return the keys of a tensor, read when they are needed and let go of then."""

    def keys(start: int, stop: int) -> NDArray[np.uint16]:
        found = weight_keys(flat.values(start, stop))
        flat.release(start, stop)
        return found

    return keys


def entropy_bits(size: int, zeroed: int) -> float:
    """Return n H(p): the fewest bits that code which `zeroed` of `size` entries are zeroed, if at random."""
    return float(_cost(np.array([size]), np.array([zeroed]))[0])


def bits_of(keep: Bools) -> Bytes:
    """Pack a bit an entry."""
    return np.packbits(keep.reshape(-1))


def encode(keep: Bools, keys: Keys | None = None) -> Bytes:
    """Code a mask of any shape by entropy, given the weights' keys if there are any."""
    zeroed = ~keep.reshape(-1)
    cuts = np.empty(0, np.int64) if keys is None else _cuts(zeroed, keys)
    sizes, hits = np.zeros(cuts.size + 1, np.int64), np.zeros(cuts.size + 1, np.int64)
    runs = []
    for start, stop in _blocks(zeroed.size):
        block = zeroed[start:stop]
        found = [block] if keys is None else [block[indices] for indices in _indices_by_range(cuts, keys(start, stop))]
        for number, run in enumerate(found):
            sizes[number] += run.size
            hits[number] += np.count_nonzero(run)
            runs.append((number, run))
    probabilities = [_probability(int(size), int(hit)) for size, hit in zip(sizes, hits, strict=True)]
    head = np.concatenate([cuts, probabilities]).astype("<u2").view(np.uint8)
    return np.concatenate([np.array([cuts.size], np.uint8), head, _words(runs, probabilities)])


def _words(runs: list[tuple[int, Bools]], probabilities: list[int]) -> Bytes:
    """Code runs of zeroed entries, each with the probability that its number stands for."""
    import constriction

    coder = constriction.stream.stack.AnsCoder()
    for number, run in reversed(runs):  # what is coded last is read first
        if run.size and probabilities[number] not in (0, _ALL):
            fill = np.full(-run.size % 8, probabilities[number] >= _KEYS // 2)  # costs least
            packed = np.packbits(np.concatenate([run, fill]))
            coder.encode_reverse(packed.astype(np.int32), _model(probabilities[number]))
    words: Bytes = coder.get_compressed().astype("<u4").view(np.uint8)
    return words


def decode(coded: Bytes, size: int, keys: Keys | None = None) -> Bools:
    """Read back which of `size` entries stay. Raises as `decode_blocks`."""
    return unpack(joined(decode_blocks(coded, size, keys), size), 0, size)


def joined(blocks: Iterable[Bytes], size: int) -> Bytes:
    """Return `size` packed entries, which come block by block, as one array."""
    packed, at = np.empty(-(-size // 8), np.uint8), 0
    for block in blocks:
        packed[at : at + block.size] = block
        at += block.size
    return packed


def unpack(packed: Bytes, start: int, stop: int) -> Bools:
    """Return entries `start`, a multiple of eight, to `stop` of what `bits_of` packed."""
    return np.unpackbits(packed[start // 8 : -(-stop // 8)], count=stop - start).view(np.bool_)


def decode_blocks(coded: Bytes, size: int, keys: Keys | None = None) -> Iterator[Bytes]:
    """Read back which of `size` entries stay, packed as by `bits_of`, `BLOCK` entries at a time.

    Raises
    ------
    ValueError
        It is no such stream, or was made with other keys and it shows: not before the last block, perhaps.
    """
    cuts, probabilities, coder = _opened(coded)
    if cuts.size and (keys is None or np.any(np.diff(cuts) <= 0)):
        raise ValueError("ranges of weights out of order")
    for low, high in _blocks(size):
        if not cuts.size or keys is None:
            packed = _bytes(coder, probabilities[0], high - low)
        else:
            zeroed = np.empty(high - low, np.bool_)
            for p, indices in zip(probabilities, _indices_by_range(cuts, keys(low, high)), strict=True):
                zeroed[indices] = np.unpackbits(_bytes(coder, p, indices.size), count=indices.size).view(np.bool_)
            packed = np.packbits(zeroed)
        yield clear_padding(np.invert(packed, out=packed), high - low)
    if not coder.is_empty():
        raise ValueError("more is coded than there are entries, or less")


def can_hold(code: str, coded: Bytes, size: int, zeroed: int) -> bool:
    """Test, before anything is decoded, whether bytes can be the code of `size` entries of which `zeroed` are zeroed.

    Few bytes may stand for any number of entries that stay: a probability of 0 costs no bits, nor do those behind the
    last zeroed one. Each zeroed one costs its share, but where all are.
    """
    if code == "bits":
        return coded.size == -(-size // 8)
    if (start := _start_of_words(coded)) is None:
        return False
    if code == "conditional":  # how many entries a range has, only the weights say
        return True
    p, words = int.from_bytes(coded[1:3].tobytes(), "little"), 8 * (coded.size - start)
    if start != 3 or p != _probability(size, zeroed):
        return False
    if p in (0, _ALL):
        return not words
    # Probabilities of bytes are multiples of 2^-24, none 0, and rounded up: eight zeroed entries may cost 23 bits only.
    return 0.95 * zeroed * min(math.log2(_KEYS / p), 3.0) <= words + 64


def clear_padding(packed: Bytes, size: int) -> Bytes:
    """Clear, in place, the bits of the last byte that stand for no entry."""
    if size % 8:
        packed[-1] &= 0xFF00 >> size % 8 & 0xFF
    return packed


def _start_of_words(coded: Bytes) -> int | None:
    """Return where the coder's words begin, behind keys and probabilities; None where there is no room for these."""
    start = 4 * (int(coded[0]) + 1) - 1 if coded.size else 1
    return None if start > coded.size or (coded.size - start) % 4 else start


def _opened(coded: Bytes) -> tuple[NDArray[np.int64], list[int], Any]:
    """Return the first keys of all ranges but one, the probability of each range, and the decoder of the rest."""
    import constriction

    if (start := _start_of_words(coded)) is None:
        raise ValueError("cut short")
    ranges = int(coded[0]) + 1
    head = np.frombuffer(coded[1:start].tobytes(), "<u2").astype(np.int64)
    words = np.array(coded[start:].view("<u4"), np.uint32)
    return head[: ranges - 1], head[ranges - 1 :].tolist(), constriction.stream.stack.AnsCoder(words)


def _bytes(coder: Any, p: int, size: int) -> Bytes:
    """Read which of the next `size` entries of a range are zeroed, eight to a byte."""
    count = -(-size // 8)
    if not size or p in (0, _ALL):
        return np.full(count, 0xFF if p == _ALL else 0, np.uint8)
    packed: Bytes = coder.decode(_model(p), count).astype(np.uint8)
    return packed


def _blocks(size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, size, BLOCK):
        yield start, min(start + BLOCK, size)


def _probability(size: int, zeroed: int) -> int:
    if zeroed in (0, size):
        return _ALL if zeroed else 0
    return min(max(round(zeroed * _KEYS / size), 1), _ALL - 1)


@lru_cache(4096)
def _model(p: int) -> Any:
    """Return the distribution of the 256 bytes whose bits are 1 with p / 65536: whole numbers of 2^-24, none 0."""
    import constriction

    by_ones = [p**ones * (_KEYS - p) ** (8 - ones) for ones in range(9)]
    counts = [max(1, (by_ones[byte.bit_count()] << 24) // _KEYS**8) for byte in range(256)]
    counts[counts.index(max(counts))] += (1 << 24) - sum(counts)
    return constriction.stream.model.Categorical(np.array(counts) / (1 << 24), perfect=False)


def _indices_by_range(cuts: NDArray[np.int64], keys: NDArray[np.uint16]) -> list[NDArray[np.intp]]:
    """Return the indices of the entries of each range of keys, in the order of the matrix."""
    if cuts.size < _FEW:
        # Learned masks have two to four ranges: a comparison for each is quicker than any sorting.
        reached = [keys >= np.uint16(cut) for cut in (0, *cuts)]
        inside = [low > high for low, high in itertools.pairwise(reached)]
        return [np.flatnonzero(each) for each in (*inside, reached[-1])]
    table = np.zeros(_KEYS, np.uint8)
    for cut in cuts.tolist():
        table[cut:] += 1
    ranges = table[keys]
    counts = np.bincount(ranges, minlength=cuts.size + 1)
    return np.split(np.argsort(ranges, kind="stable"), np.cumsum(counts)[:-1])


def _cuts(zeroed: Bools, keys: Keys) -> NDArray[np.int64]:
    """Choose ranges of keys: many of equal counts, then neighbours merged while that saves bits."""
    sizes, hits = np.zeros(_KEYS, np.int64), np.zeros(_KEYS, np.int64)
    for start, stop in _blocks(zeroed.size):
        block = keys(start, stop)
        sizes += np.bincount(block, minlength=_KEYS)
        hits += np.bincount(block[zeroed[start:stop]], minlength=_KEYS)
    total = np.cumsum(sizes)
    wanted = np.arange(1, _FINEST) * zeroed.size // _FINEST
    cuts = np.unique(np.searchsorted(total, wanted, "right"))
    cuts = cuts[(cuts > 0) & (cuts < _KEYS)]
    edges = np.concatenate([[0], cuts])
    merged = _merge(np.add.reduceat(sizes, edges), np.add.reduceat(hits, edges))
    return edges[merged][1:]


def _merge(sizes: NDArray[np.int64], hits: NDArray[np.int64]) -> NDArray[np.intp]:
    """Merge neighbours while that saves bits; return the numbers of the ranges that begin one that is left."""
    left = np.arange(sizes.size)
    while left.size > 1:
        costs = _cost(sizes, hits)
        gains = costs[:-1] + costs[1:] - _cost(sizes[:-1] + sizes[1:], hits[:-1] + hits[1:]) + _RANGE_BITS
        if gains.max() <= 0 and left.size <= _MOST:
            break
        # All that save more than their neighbours would: no two of them share a range.
        around = np.concatenate([[-np.inf], gains, [-np.inf]])
        best = (gains > around[:-2]) & (gains >= around[2:]) & ((gains > 0) | (gains == gains.max()))
        kept = np.concatenate([[True], ~best])
        left = left[kept]
        sizes, hits = np.add.reduceat(sizes, np.flatnonzero(kept)), np.add.reduceat(hits, np.flatnonzero(kept))
    return left


def _cost(sizes: NDArray[np.int64], hits: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return n H(p) in bits, for arrays of n and of how many are zeroed."""
    misses = sizes - hits
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(part > 0, part * np.log2(sizes / part), 0.0) for part in (hits, misses)]
    total: NDArray[np.float64] = terms[0] + terms[1]
    return total
