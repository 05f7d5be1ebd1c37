"""Damage inputs at random and run what reads them, for a time: what the scripts in ``fuzz/`` have in common."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from _toolio.errors import ToolError

SLOW_S = 20.0
"""Seconds of processor time that one small damaged input may take; more is a finding."""

_KEY = "epsilon-tools"
"""Under which files of ours keep their metadata."""

MEMORY = 8 << 30
"""Bytes of address space of a fuzzed process: an input that asks for more ends in a ``MemoryError``."""


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return data after one to eight changes: bits, bytes, digits, pieces removed, repeated, moved or blanked."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        if not out:
            break
        place, size = rng.randrange(len(out)), rng.choice((1, 2, 4, 16, 64, 512))
        kind = rng.randrange(8)
        if kind == 0:
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[place : place + size] = rng.randbytes(size)
        elif kind == 2:
            del out[place : place + size]
        elif kind == 3:
            out[place:place] = out[place : place + size] * rng.choice((1, 2, 40))
        elif kind == 4:
            other = rng.randrange(len(out))
            out[place : place + size] = out[other : other + size]
        elif kind == 5:
            out[place : place + size] = rng.choice((b"\0", b"\xff", b"9", b"{", b'"')) * size
        elif kind == 6:
            del out[place:]
        else:
            out[place:place] = rng.choice(
                (b"\0", b"\n", b"\r", b'"', b",", b"\\ud800", b"1e999", b"NaN", b"../", b"\x1b[")
            )
    return bytes(out)


class Rounds:
    """What came of rounds: how they ended, and findings.

    Attributes
    ----------
    count
        How many there were.
    findings
        What should not have been, by its place in the code, the first of each.
    """

    def __init__(self) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.RLIM_INFINITY))
        self.count, self.findings = 0, dict[str, str]()
        self._ends, self._start = Counter[str](), time.monotonic()

    @property
    def exit_code(self) -> int:
        """1 if a round raised something or was slow, else 0."""
        return 1 if self.findings else 0

    @property
    def seconds(self) -> float:
        """How long it has been."""
        return time.monotonic() - self._start

    def run(self, once: Callable[[], str], about: str) -> None:
        """Run a round; ``about`` says how to run it again."""
        began = time.process_time()
        try:
            self._ends[once()] += 1
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of Rust is no Exception
            self._ends["raised"] += 1
            self.findings.setdefault(_where(error), f"{about}: {type(error).__name__}: {error}"[:3000])
        if (took := time.process_time() - began) > SLOW_S:
            self.findings.setdefault(f"slow {about}", f"{took:.1f} s")
        self.count += 1

    def line(self, name: str, **more: object) -> str:
        """Return all of it as a line of JSON."""
        record = {"fuzz": name, "rounds": self.count, "seconds": round(self.seconds), **more}
        return json.dumps({**record, "ends": dict(self._ends), "findings": self.findings}) + "\n"


def load_script(path: Path, folder: Path) -> ModuleType:
    """Return a script of ``fuzz/`` as a module of its own, prepared in a folder."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if hasattr(module, "prepare"):
        module.prepare(folder)
    return module


def how_it_ended(kind: Callable[[Path, random.Random], object], rng: random.Random) -> str:
    """Run a kind of damage in a folder of its own; return its name and ``read``, or ``refused`` in one line."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        try:
            kind(Path(folder), rng)
        except ToolError as error:
            assert "\n" not in error.message.replace(folder, ""), error.message
            return f"{kind.__name__[1:]} refused"
    return f"{kind.__name__[1:]} read"


def fuzz(name: str, try_one: Callable[[random.Random], str], prepare: Callable[[Path], None] = lambda _: None) -> int:
    """Run rounds, each with a seed of its own, and print one JSON line of what they found.

    They take as many seconds as the first argument says (60), from the seed that the second one says (0).

    Parameters
    ----------
    name
        Of what is tried.
    try_one
        Returns how a round ended, in a word, and raises what should not have been.
    prepare
        Makes, in a folder, what every round reads.

    Returns
    -------
    int
        1 if a round raised something or was slow, else 0.
    """
    seconds, seed = float(sys.argv[1]) if sys.argv[1:] else 60.0, int(sys.argv[2]) if sys.argv[2:] else 0
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        prepare(Path(folder))
        rounds = Rounds()
        while rounds.seconds < seconds:
            number = seed + rounds.count
            rounds.run(lambda: try_one(random.Random(number)), f"seed {number}")  # noqa: B023 - it is called at once
    sys.stdout.write(rounds.line(name))
    return rounds.exit_code


def _where(error: BaseException) -> str:
    """Return the innermost place of our own in an error's traceback, by which findings are told apart."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/src/" in frame.filename]
    frame = (ours or traceback.extract_tb(error.__traceback__))[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} {type(error).__name__}"


_ODD = (
    None, True, 0, -1, 1, 2**31, 2**63, 10**400, 0.0, -0.5, 1e308, float("nan"), float("inf"), "", "x", "../x",
    "\ud800", "layer." + "9" * 5000, [], {}, [[]], {"a": {"b": []}}, "null", "0" * 64, "a.safetensors",
)  # fmt: skip


def mutated_json(value: object, rng: random.Random) -> object:
    """Return a JSON value with one to three of the values in it replaced by odd ones, removed, renamed or repeated."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 2, 3))):
        holder, key = None, None
        inner = value
        while isinstance(inner, dict | list) and inner and (holder is None or rng.random() < 0.8):
            key = rng.choice(sorted(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
            holder, inner = inner, inner[key]  # type: ignore[index, call-overload]
        if holder is None:
            return rng.choice(_ODD)
        kind = rng.randrange(5)
        if kind == 0:
            del holder[key]  # type: ignore[arg-type]
        elif kind == 1 and isinstance(holder, dict):
            holder[rng.choice(("", "x", "__metadata__", f"{key}.{'9' * 5000}", "layer.0.query.weight"))] = inner
        elif kind == 2 and isinstance(holder, list):
            holder.append(inner)
        else:
            odd = rng.choice(_ODD)
            holder[key] = json.loads(json.dumps(odd))  # type: ignore[index, call-overload]
    return value


def damaged_tensors(data: bytes, rng: random.Random) -> bytes:
    """Return a file of ours after damage to its bytes, its metadata, or values, shape or name of one tensor."""
    length = int.from_bytes(data[:8], "little")
    header, values = json.loads(data[8 : 8 + length]), data[8 + length :]
    kind = rng.randrange(8)
    if kind == 0:
        return mutated(data, rng)
    if kind < 5:
        about = header["__metadata__"]
        about[_KEY] = json.dumps(mutated_json(json.loads(about[_KEY]), rng))
    name = rng.choice(sorted(header.keys() - {"__metadata__"}))
    entry = header[name]
    if kind == 5:
        entry["shape"] = rng.choice(([], entry["shape"][::-1], [1, *entry["shape"]], [math.prod(entry["shape"])]))
    elif kind == 6:
        header[rng.choice(("", "x", f"{name}.{'9' * 5000}", f"{name}x", "optimizer.0.x"))] = header.pop(name)
    elif kind == 7:
        first, last = entry["data_offsets"]
        odd = rng.choice((b"\xff", b"\x7f", b"\0", b"\x80", rng.randbytes(1)))
        values = values[:first] + odd * (last - first) + values[last:]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values
