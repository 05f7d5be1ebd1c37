"""Run one of the scripts in ``fuzz/`` guided by coverage: what reaches new code is kept, and damaged further.

Usage: python tests/guided_fuzzing.py SCRIPT SECONDS SEED CORPUS

Needs the package atheris (libFuzzer for Python), which is no dependency of the project: `make fuzz` gets it where it
can be had. A round's draws are read from libFuzzer's input, so that what it changes are choices of the script: which
input, which damage, where. CORPUS is a folder of inputs that reached code which none before had reached; the next run
begins with them. Prints one JSON line as the scripts do; a finding names its input in base64, from which ``Drawn``
draws the same again.
"""

from __future__ import annotations

import base64
import os
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing import SLOW_S, Rounds, load_script

DIRECT = 512
"""Most bytes that are read as they are; a longer text is drawn from a seed."""

WARM = 60
"""Rounds before coverage guides, in which what is imported late is imported."""

OURS = ["_toolio", "facetools", "berttools"]
"""Packages whose coverage guides."""


class Drawn(random.Random):
    """Draw from given bytes; behind their end, what the bytes decide as a seed.

    Parameters
    ----------
    data
        The bytes.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._data, self._at = data, 0

    def getrandbits(self, k: int, /) -> int:
        """Return k random bits."""
        size = -(-k // 8)
        if self._at + size > len(self._data):
            return super().getrandbits(k)
        self._at += size
        return int.from_bytes(self._data[self._at - size : self._at], "little") & ((1 << k) - 1)

    def random(self) -> float:
        """Return a number from 0 to 1, 1 left out; 256 of them where there are bytes."""
        if self._at < len(self._data):
            return self.getrandbits(8) / 256
        return super().random()

    def randbytes(self, n: int) -> bytes:
        """Return n bytes: those that come next, or of a seed."""
        if n <= DIRECT:
            return self.getrandbits(8 * n).to_bytes(n, "little")
        return random.Random(self.getrandbits(64)).randbytes(n)


def main(script: Path, seconds: float, seed: int, corpus: Path) -> None:
    """Fuzz until the time is over, and exit: 1 if there were findings."""
    import atheris

    corpus.mkdir(parents=True, exist_ok=True)
    folder = tempfile.TemporaryDirectory(prefix="fuzz")
    with atheris.instrument_imports(include=OURS):
        module = load_script(script, Path(folder.name))
        warming = Rounds()
        for number in range(WARM):  # much is imported where it is needed first; a finding comes again
            warming.run(lambda: module.try_one(random.Random(number)), "")  # noqa: B023 - it is called at once
    rounds, end = Rounds(), time.monotonic() + seconds

    def one(data: bytes) -> None:
        rounds.run(lambda: module.try_one(Drawn(data)), base64.b64encode(data).decode())
        if time.monotonic() > end:
            folder.cleanup()
            known = sum(1 for _ in corpus.iterdir())
            sys.stdout.write(rounds.line(module.NAME, guided=True, corpus=known))
            sys.stdout.flush()
            os._exit(rounds.exit_code)  # libFuzzer has no end that a round could ask for

    # Its own limits end the process: time and memory are looked at by the rounds.
    limits = [
        "-timeout=600",
        "-rss_limit_mb=0",
        f"-report_slow_units={2 * SLOW_S:.0f}",
        f"-artifact_prefix={corpus}-",
        "-verbosity=0",
        "-max_len=2048",
        "-len_control=10",
        f"-seed={seed + 1}",
    ]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
