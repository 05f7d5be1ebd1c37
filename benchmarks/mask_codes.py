"""What a mask takes of room, and of time to read back: python benchmarks/mask_codes.py [SPARSITY ...].

Masks the 72 matrices of a BERT-base of random weights (84,934,656 entries) in memory, one thread, and prints one JSON
object a sparsity and kind of mask. ``random``: uniform places, which nothing can be known of; its `ratio` is bytes over
the bound n H(p). ``learned``: a share of the smallest weights of each matrix, then 1% of all entries flipped, small
weights likelier than large ones: what training leaves of a mask that began by magnitude; there `conditional_ratio` is
bytes given the weights over those by entropy alone.

At most 1.02 times the bound is asked for at each sparsity, of `learned` masks at 7% and more 0.5 times the plain code,
and to read all back in 1 s, given the weights in 5 s, of one core's time; past that it exits 1.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from berttools.masks import coding

MATRICES = 12 * [(768, 768)] * 4 + 24 * [(3072, 768)]
MOST_OF_BOUND, MOST_OF_PLAIN, MOST_S, MOST_CONDITIONAL_S = 1.02, 0.5, 1.0, 5.0

Bools = NDArray[np.bool_]


def by_lot(weights: NDArray[np.float32], sparsity: float, rng: np.random.Generator) -> Bools:
    """Keep all but a share of the entries."""
    return rng.random(weights.shape, np.float32) >= sparsity


def learned(weights: NDArray[np.float32], sparsity: float, rng: np.random.Generator) -> Bools:
    """Drop the smallest, then flip 1% of all."""
    size = np.abs(weights)
    keep = size >= np.quantile(size, sparsity)
    likelier = np.exp(-size / size.mean())
    return keep ^ (rng.random(weights.shape, np.float32) < 0.01 * likelier / likelier.mean())


def keys_of(weights: NDArray[np.float32]) -> coding.Keys:
    """Give the keys as a base's file would be read for them."""
    flat = weights.reshape(-1)
    return lambda start, stop: coding.weight_keys(flat[start:stop])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Give the processor time that it takes, which other processes do not add to, and what it gives."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def measure(kind: str, sparsity: float) -> bool:
    """Code and read back every matrix; True if a limit is passed."""
    rng = np.random.default_rng(0)
    took = dict.fromkeys(("bits_s", "entropy_s", "conditional_s", "encode_entropy_s", "encode_conditional_s"), 0.0)
    room = dict.fromkeys(("bits_bytes", "entropy_bytes", "conditional_bytes"), 0)
    bound, zeroed = 0.0, 0
    for shape in MATRICES:
        weights = rng.standard_normal(shape, np.float32) * np.float32(0.02)
        keep = {"random": by_lot, "learned": learned}[kind](weights, sparsity, rng)
        hits, keys = keep.size - int(np.count_nonzero(keep)), keys_of(weights)
        zeroed, bound = zeroed + hits, bound + coding.entropy_bits(keep.size, hits) / 8
        for code, given in (("entropy", None), ("conditional", keys)):
            seconds, coded = timed(lambda given=given, keep=keep: coding.encode(keep, given))
            took[f"encode_{code}_s"] += seconds
            room[f"{code}_bytes"] += coded.size
            seconds, back = timed(lambda given=given, coded=coded, n=keep.size: coding.decode(coded, n, given))
            took[f"{code}_s"] += seconds
            assert np.array_equal(back, keep.reshape(-1))
        packed = coding.bits_of(keep)
        room["bits_bytes"] += packed.size
        took["bits_s"] += timed(lambda packed=packed, n=keep.size: np.unpackbits(packed, count=n))[0]
    record: dict[str, Any] = {"kind": kind, "sparsity": sparsity, "zeroed": zeroed / sum(a * b for a, b in MATRICES)}
    record |= {"bound_bytes": round(bound), **room, "ratio": round(room["entropy_bytes"] / bound, 5)}
    record["conditional_ratio"] = round(room["conditional_bytes"] / room["entropy_bytes"], 4)
    record |= {key: round(seconds, 2) for key, seconds in took.items()}
    print(json.dumps({**record, "cores": os.cpu_count()}), flush=True)
    late = record["ratio"] > MOST_OF_BOUND or took["entropy_s"] > MOST_S or took["conditional_s"] > MOST_CONDITIONAL_S
    return late or (kind == "learned" and sparsity >= 0.07 and record["conditional_ratio"] > MOST_OF_PLAIN)


def main(words: list[str]) -> int:
    """Measure all; 1 if a limit is passed."""
    late = False
    for sparsity in map(float, words or ["0.005", "0.01", "0.02", "0.05", "0.07", "0.1", "0.2", "0.3", "0.4", "0.5"]):
        for kind in ("random", "learned"):
            late |= measure(kind, sparsity)
    return int(late)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
