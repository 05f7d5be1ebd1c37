"""Licences as packages state them, and the lowest versions that are admitted."""

from __future__ import annotations

import json
from email.message import Message
from pathlib import Path

import pytest

import audit
import lowest


def stated(**fields: str) -> Message:
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = value
    return message


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"License_Expression": "BSD-3-Clause AND (MIT OR GPL-3.0-only)"}, True),
        ({"License_Expression": "Apache-2.0 WITH LLVM-exception"}, True),
        ({"License_Expression": "MIT AND GPL-3.0-only"}, False),
        ({"Classifier": "License :: OSI Approved :: BSD License", "License": "a long text"}, True),
        ({"Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"}, False),
        ({"License": "Apache 2.0 License"}, True),
        ({"License": "MIT License\n\nCopyright"}, True),
        ({"License": "a simple discussion, to be submitted"}, False),
        ({}, False),
    ],
)
def test_licences(fields: dict[str, str], allowed: bool) -> None:
    lines = list(audit.refused([("some-package", stated(**fields))]))
    assert (lines == []) is allowed
    assert all(line.startswith("audit: error: some-package: licence ") for line in lines)


@pytest.mark.parametrize(
    ("says", "code", "line"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], 0, "audit: known faults of 1 packages were looked up"),
        ([{"name": "a", "version": "1", "vulns": [{"id": "X-1"}]}], 1, "audit: error: a 1: X-1"),
        ([{"name": "a", "skip_reason": "?"}], 0, "audit: warning: known faults of 1 packages could not be looked up"),
        (None, 0, "audit: warning: known faults were not looked up: ConnectionError: no route"),
    ],
)
def test_known_faults(tmp_path: Path, says: list[dict[str, object]] | None, code: int, line: str) -> None:
    program = tmp_path / "pip-audit"
    (tmp_path / "said").write_text("" if says is None else json.dumps({"dependencies": says}))
    program.write_text(f"#!/bin/sh\ncat '{tmp_path / 'said'}'\necho 'ConnectionError: no route' >&2\nexit {code}\n")
    program.chmod(0o755)
    said, found = audit.known_faults(program)
    assert found == code
    assert said.startswith(line)


def test_known_faults_without_the_program(tmp_path: Path) -> None:
    said, found = audit.known_faults(tmp_path / "none")
    assert (said, found) == ("audit: warning: known faults were not looked up: pip-audit could not be installed", 0)


def test_lowest_versions() -> None:
    project = {
        "dependencies": ["a>=1.2,<3", "b==4", "c>=1; python_version < '3'"],
        "optional-dependencies": {"x": ["a>=1.10", "d~=2.0"]},
    }
    assert lowest.constraints(project, ["x"]) == ["a==1.10", "b==4", "d==2.0"]
    assert lowest.constraints(project, []) == ["a==1.2", "b==4"]
    with pytest.raises(ValueError, match="e<3: no lower bound"):
        lowest.constraints({"dependencies": ["e<3"]}, [])
