"""Who holds a claim: what the claim's file says of its holder, and whether that process may be alive."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from _toolio.files import temporaries
from _toolio.json_text import parse_json

_LONGEST_COMMAND = 200
_LONGEST = 1 << 20
"""How much of a claim's file is read, in bytes: dead runs of 12 bytes each."""

_CAN_ASK = os.name == "posix"
"""Whether ``os.kill(number, 0)`` asks for a process. On Windows it would end it."""

_command: list[str] = ["python"]


def set_command(words: Sequence[str]) -> None:
    """Set the command line that claims of this process name."""
    _command[:] = words


def about(runs: Sequence[str]) -> dict[str, Any]:
    """Return what tells others who this process is, with the names of runs: its own, and dead ones with remains."""
    return {
        "runs": list(runs),
        "pid": os.getpid(),
        "host": platform.node(),
        "boot": _boot(),
        "numbers": _numbers(),
        "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        "command": shlex.join(_command)[:_LONGEST_COMMAND],
    }


def sign(stream: int, dead: Sequence[str]) -> None:
    """Write who holds the claim; the runs that died with it stay listed, so that none of their remains is forgotten."""
    line = json.dumps(about([*dead, temporaries.RUN])).encode() + b"\n"
    # At every moment the first line is whole, so that no list of dead runs is lost if this process dies here.
    os.lseek(stream, 0, os.SEEK_SET)
    os.write(stream, line)
    os.ftruncate(stream, len(line))


def read(stream: int) -> dict[str, Any]:
    """Return what a claim's file says of its holder; empty for one that was just made, or was cut short."""
    try:
        os.lseek(stream, 0, os.SEEK_SET)
        found = parse_json(os.read(stream, _LONGEST).partition(b"\n")[0])
    except ValueError:
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("runs"), list) else {}


def _boot() -> str:
    """Return what tells this start of this machine from any other; containers on it have that in common."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _numbers() -> str:
    """Return what tells whose process numbers these are: each container has its own; empty where that is not known."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def is_dead(found: Mapping[str, Any], *, locked: bool) -> bool:
    """Test whether the holder of a claim is known to have ended, given whether its file could be locked."""
    # The system would not have let go of the lock of one that lives.
    return _is_here(found) and (locked or not lives(found))


def _is_here(found: Mapping[str, Any]) -> bool:
    """Test whether the holder runs, or ran, on this machine."""
    return found.get("host") == platform.node() or found.get("boot") == _boot() != ""


def lives(found: Mapping[str, Any]) -> bool:
    """Test whether the holder may be alive, by its number where that means anything here; nobody is not."""
    if not found:
        return False
    if not _CAN_ASK or not _is_here(found) or found.get("numbers") != _numbers():
        return True
    try:
        os.kill(int(found["pid"]), 0)
    except ProcessLookupError:
        return False
    except (OSError, KeyError, ValueError, TypeError):  # somebody else's process lives too
        return True
    return True


def busy(found: Mapping[str, Any], lock: Path, *, sure: bool) -> str:
    """Return who holds a claim, and what to try."""
    who = "another run"
    if found:
        who = "process {pid} on {host} since {since} ({command})".format_map({**_UNKNOWN, **found})
    advice = "wait for it" if sure else f"wait for it, or remove {lock} if it has ended"
    return f"is being written by {who}; {advice}, or name another"


_UNKNOWN = {"pid": "?", "host": "another machine", "since": "some time", "command": "an unknown command"}
