"""Check the licences of all that is installed, and look for known faults: python tools/audit.py [PIP_AUDIT].

A licence is read from a package's own metadata: its expression, else its classifiers, else the first line of its field.
Every part of it must be in ``ALLOWED``, or one of the choices that it leaves. Packages that say nothing there are in
``SAID_ELSEWHERE``, with what their own files say. Known faults are looked up by the program PIP_AUDIT, if it is there
and can reach its data; if not, that is said, and is no failure.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from email.message import Message
from importlib.metadata import distributions
from pathlib import Path

ALLOWED = {
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC", "MIT",
    "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib",
}  # fmt: skip
"""SPDX identifiers; BSD where a package does not say which."""

NVIDIA = re.compile(r"nvidia-|cuda-")
"""Libraries that torch brings for GPUs, under NVIDIA's own terms; the project itself contains none of them."""

SAID_ELSEWHERE = {"torchao": "BSD-3-Clause"}

_SPELLINGS = (
    (r"\bapache\b", "Apache-2.0"),
    (r"\bmit-cmu\b", "MIT-CMU"),
    (r"\bmit\b", "MIT"),
    (r"\bisc\b", "ISC"),
    (r"\bmozilla\b|\bmpl\b", "MPL-2.0"),
    (r"\bpython software foundation\b|\bpsf\b", "PSF-2.0"),
    (r"\bboost\b|\bbsl\b", "BSL-1.0"),
    (r"\bbsd\b", "BSD"),
)


def licence_of(metadata: Message) -> str:
    """Return what a package's metadata says; "" if nothing."""
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [str(each) for each in metadata.get_all("Classifier") or () if str(each).startswith("License")]
    words = [each.rpartition(" :: ")[2] for each in classifiers if not each.endswith("OSI Approved")]
    field = (str(metadata.get("License") or "").strip().splitlines() or [""])[0]
    found = [_spelled(each) for each in words or [field] if each]
    return " AND ".join(found) or ""


def _spelled(words: str) -> str:
    if re.search(r"\b(AND|OR|WITH)\b", words):
        return words
    return next((name for pattern, name in _SPELLINGS if re.search(pattern, words, re.IGNORECASE)), words)


def is_allowed(expression: str) -> bool:
    """Test whether all parts of a licence that are joined by AND leave a choice that is allowed."""
    parts = re.split(r"\s+AND\s+", expression.replace("(", " ").replace(")", " ").strip())
    return all(any(_known(choice) for choice in re.split(r"\s+OR\s+", part)) for part in parts)


def _known(name: str) -> bool:
    return name.strip().removesuffix(" WITH LLVM-exception") in ALLOWED


def refused(packages: Iterable[tuple[str, Message]]) -> Iterator[str]:
    """Yield a line for each package whose licence is not allowed."""
    for name, metadata in sorted(packages, key=lambda each: each[0].lower()):
        licence = licence_of(metadata) or SAID_ELSEWHERE.get(name, "")
        if not NVIDIA.match(name) and not is_allowed(licence):
            yield f"audit: error: {name}: licence {licence or 'unknown'}: not in ALLOWED (tools/audit.py)"


def known_faults(program: Path) -> tuple[str, int]:
    """Return what pip-audit says of this environment, and its exit code: 0 if it could not look."""
    if not program.is_file():
        return "audit: warning: known faults were not looked up: pip-audit could not be installed", 0
    line = [str(program), "--format", "json", "--progress-spinner", "off", "--path", sysconfig.get_path("purelib")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (KeyError, TypeError, ValueError):
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1][-200:]
        return f"audit: warning: known faults were not looked up: {reason}", 0
    lines = [
        f"audit: error: {each['name']} {each['version']}: {fault['id']}"
        for each in packages
        for fault in each.get("vulns", ())
    ]
    skipped = sum("skip_reason" in each for each in packages)
    lines += [f"audit: warning: known faults of {skipped} packages could not be looked up"] if skipped else []
    looked_up = len(packages) - skipped
    said = "\n".join([*lines, f"audit: known faults of {looked_up} packages were looked up"])
    return said, int(any(each.get("vulns") for each in packages))


def main(program: Path) -> int:
    """Print what is wrong; return the exit code."""
    packages = [(each.name, each.metadata) for each in distributions()]
    lines = list(refused(packages))  # type: ignore[arg-type]
    print("\n".join(lines) if lines else f"audit: licences of {len(packages)} packages are allowed")
    said, code = known_faults(program)
    print(said)
    return int(bool(lines) or code)


if __name__ == "__main__":
    sys.exit(main(Path([*sys.argv[1:], "pip-audit"][0])))
