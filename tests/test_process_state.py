"""What belongs to the whole process is set by commands; a library sets it for a block, if at all."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import ROOT

SOURCES = ROOT / "src"
SETTERS = {
    "use_deterministic_algorithms", "set_num_threads", "set_num_interop_threads", "set_default_dtype", "manual_seed",
    "seed", "filterwarnings", "simplefilter", "set_verbosity", "set_verbosity_error", "disable_progress_bar",
    "enable_progress_bar", "setLevel",
}  # fmt: skip
MODULES = {"torch", "warnings", "logging", "random", "np", "numpy", "transformers", "logger"}


def settings_in(text: str) -> list[str]:
    """List calls that set something for good: in no context manager's function, in no ``with catch_warnings``."""
    return [ast.unparse(call) for call in _calls(ast.parse(text), restored=False)]


def _calls(node: ast.AST, *, restored: bool) -> Iterator[ast.Call]:
    if isinstance(node, ast.FunctionDef):
        restored = any("contextmanager" in ast.unparse(each) for each in node.decorator_list)
    if isinstance(node, ast.With):
        restored |= any("catch_warnings" in ast.unparse(item.context_expr) for item in node.items)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not restored:
        owner = ast.unparse(node.func.value)  # a generator of one's own is nobody else's: torch.Generator(device)
        if node.func.attr in SETTERS and owner.partition(".")[0] in MODULES and "(" not in owner:
            yield node
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, restored=restored)


OWN_PROCESS = {"app.py", "ray_actors.py"}
"""What a tool's process runs, and what a Ray actor's runs: nobody else is in either."""


def libraries() -> list[Path]:
    found = [path for path in SOURCES.rglob("*.py") if "commands" not in path.parts and path.name not in OWN_PROCESS]
    return sorted(found)


def test_no_library_sets_anything_for_good() -> None:
    found = {str(path.relative_to(SOURCES)): settings_in(path.read_text()) for path in libraries()}
    assert len(found) > 50
    assert {name: calls for name, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f():\n    torch.manual_seed(3)", ["torch.manual_seed(3)"]),
        ("torch.random.manual_seed(3)", ["torch.random.manual_seed(3)"]),
        ("warnings.filterwarnings('ignore')", ["warnings.filterwarnings('ignore')"]),
        ("with warnings.catch_warnings():\n    warnings.simplefilter('ignore')", []),
        ("@contextmanager\ndef f():\n    torch.set_num_threads(1)\n    yield", []),
        ("torch.Generator(device).manual_seed(3)", []),
    ],
)
def test_what_is_found(text: str, expected: list[str]) -> None:
    assert settings_in(text) == expected
