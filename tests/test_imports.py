"""The house's rules, read from the sources: who may import whom, and what a library file may not do.

Each rule is a function from a source tree to what breaks it, by name; it is applied to this project, and to small
made-up trees that show that it can fail. Imports inside functions count: they postpone a dependency and do not end it.
Imports for annotations only (``if TYPE_CHECKING:``) count for who may import whom and for circles of rooms, as both
are about what a reader must know first; they do not count for circles of modules, as nothing is imported.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("_toolio", "facetools", "berttools")

# From the top down: a room imports what is further down, never what is beside it or above it.
LEVELS = {
    "facetools": [
        {"__main__"},
        {"cli"},
        {"commands"},
        {""},  # the tool itself: what `import facetools` offers
        {"api"},
        {"reporting"},
        {"evaluation", "detector"},
        {"cloaking", "training"},
        {"embeddings"},
        {"outputs"},
        {"workers"},
        {"intake_records", "extractors"},
        {"intake"},
        {"added_faces"},
        {"faces", "transforms", "pictures"},
        {"photos", "perceptual", "attacks", "metrics", "names", "pairs", "people"},
    ],
    "berttools": [
        {"__main__"},
        {"cli"},
        {"commands"},
        {""},
        {"mask_tuning", "layerdiff", "layer_scores"},
        {"tuning"},
        {"classifier"},
        {"masks", "heatmap"},
        {"texts", "checkpoints", "kernels"},
    ],
}
# A room that knows less than its level would allow.
ONLY = {("berttools", "layerdiff"): {"checkpoints", "kernels", "heatmap"}}

COMMAND_LINE = re.compile(
    r"(facetools|berttools)/(commands/.*|cli\.py|__main__\.py)|_toolio/cli/(app|engines|options)\.py"
)
"""The files that make command lines."""

# What begins with two dashes and is no option of ours: pip's, and the variables of a style sheet.
FOREIGN = {"--force-reinstall", "--no-deps", "--ink", "--paper", "--faint", "--line", "--soft", "--link"}

# A forked copy of a process must end without running what its parent does at its end.
FORKS = "berttools/layerdiff/forked_jobs.py"

MOST_LINES, MOST_MODULES = 400, 10
WIDE = {"facetools/commands", "berttools/commands", "facetools/attacks/methods", "facetools/extractors/architectures"}

# Modules without a test file of their own name, and the file that tests them.
TESTED_ELSEWHERE = {
    "facetools/commands/": "test_contract.py",
    "berttools/commands/": "test_contract.py",
    "facetools/cli.py": "test_contract.py",
    "berttools/cli.py": "test_contract.py",
    "facetools/attacks/methods/": "facetools/attacks/test_methods.py",
    "facetools/extractors/graphs/operators/": "facetools/extractors/graphs/test_operators.py",
}

Found = dict[str, list[str]]
"""What breaks a rule: a file, a folder or an arrow, and why."""


class Import(NamedTuple):
    """One import of one module by another; ``runs`` is false where it is for annotations only."""

    source: str
    target: str
    runs: bool


class Tree:
    """The Python files of a source tree, parsed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {
            str(path.relative_to(root / "src")): ast.parse(path.read_bytes())
            for path in sorted((root / "src").rglob("*.py"))
        }
        self.modules = {module_of(file): file for file in self.files}

    def imports(self) -> Iterator[Import]:
        """Yield the imports among the tree's own packages."""
        for source, file in self.modules.items():
            for node, runs in _imports_in(self.files[file]):
                for target in self._targets(source, node):
                    if target != source and target.partition(".")[0] in PACKAGES:
                        yield Import(source, target, runs)

    def _targets(self, source: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            return
        base = node.module or ""
        if node.level:
            inside = source.split(".") if self.modules[source].endswith("__init__.py") else source.split(".")[:-1]
            base = ".".join([*inside[: len(inside) - node.level + 1], *filter(None, [node.module])])
        for alias in node.names:
            whole = f"{base}.{alias.name}"
            yield whole if whole in self.modules else base

    def libraries(self) -> Iterator[tuple[str, ast.Module]]:
        """Yield the files that make no command line."""
        return ((file, tree) for file, tree in self.files.items() if not COMMAND_LINE.fullmatch(file))


def module_of(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imports_in(node: ast.AST, runs: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, runs
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.body:
                yield from _imports_in(ast.Module([part], []), runs=False)
            for part in child.orelse:
                yield from _imports_in(ast.Module([part], []), runs)
        else:
            yield from _imports_in(child, runs)


def room_of(module: str) -> tuple[str, str]:
    package, _, rest = module.partition(".")
    return package, rest.partition(".")[0]


def imports_that_run_upwards(tree: Tree) -> Found:
    found: Found = defaultdict(list)
    for source, target, _ in tree.imports():
        (package, room), (to_package, to_room) = room_of(source), room_of(target)
        if (package, room) == (to_package, to_room) or to_package == "_toolio" != package or not to_room:
            continue
        if package == to_package == "_toolio":
            continue
        allowed = package == to_package and _is_below(package, room, to_room)
        if not allowed:
            found[f"{source}->{target}"].append("see LEVELS")
    return found


def _is_below(package: str, room: str, target: str) -> bool:
    height = {name: number for number, level in enumerate(LEVELS[package]) for name in level}
    if room not in height or target not in height or height[target] <= height[room]:
        return False
    return target in ONLY.get((package, room), {target})


def circles_of_modules(tree: Tree) -> Found:
    return _circles({(source, target) for source, target, runs in tree.imports() if runs})


def circles_of_rooms(tree: Tree) -> Found:
    arrows = {(".".join(room_of(source)), ".".join(room_of(target))) for source, target, _ in tree.imports()}
    return _circles({(source, target) for source, target in arrows if source != target})


def _circles(arrows: set[tuple[str, str]]) -> Found:
    """Name what can be reached from itself, with the others of its circle."""
    reached = defaultdict(set, {source: {t for s, t in arrows if s == source} for source, _ in arrows})
    changed = True
    while changed:
        changed = False
        for known in reached.values():
            more = set().union(*(reached.get(name, set()) for name in known)) - known
            known |= more
            changed = changed or bool(more)
    return {
        name: [", ".join(sorted(other for other in known if name in reached.get(other, ())))]
        for name, known in reached.items()
        if name in known
    }


def options_that_libraries_name(tree: Tree) -> Found:
    found: Found = defaultdict(list)
    for file, parsed in tree.libraries():
        for node in ast.walk(parsed):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                # A name that is put together, f"--{name}", ends its literal with the dashes.
                words = set(re.findall(r"(?<![\w-])--(?:[a-z][a-z0-9-]*|$)", node.value)) - FOREIGN
                found[file].extend(f"line {node.lineno}: {word}" for word in sorted(words))
    return {file: lines for file, lines in found.items() if lines}


def typer_outside_command_lines(tree: Tree) -> Found:
    found: Found = defaultdict(list)
    for file, parsed in tree.libraries():
        for node, _ in _imports_in(parsed):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            # What builds command lines brings typer along.
            if any(name.partition(".")[0] == "typer" or f"{name}.".startswith("_toolio.cli.") for name in names):
                found[file].append(f"line {node.lineno}")
    return found


def what_only_commands_do(tree: Tree) -> Found:
    found: Found = defaultdict(list)
    for file, parsed in tree.libraries():
        for node in ast.walk(parsed):
            if (what := _command_only(node)) is not None and (file, what) != (FORKS, "os._exit()"):
                found[file].append(f"line {node.lineno}: {what}")  # type: ignore[attr-defined]
    return found


def _command_only(node: ast.AST) -> str | None:
    """Say what prints, ends the process or reads its arguments."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "exit", "quit", "sys.exit", "os._exit"):
        return f"{ast.unparse(node.func)}()"
    if isinstance(node, ast.Raise) and node.exc is not None and ast.unparse(node.exc).startswith("SystemExit"):
        return "raise SystemExit"
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
        return next((f"import {name}" for name in names if name in ("argparse", "getopt", "optparse", "click")), None)
    if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.argv":
        return "sys.argv"
    return None


def files_that_are_too_long(tree: Tree) -> Found:
    folders = ("src", "tools", "benchmarks", "docs", "examples")
    paths = sorted(path for folder in folders for path in (tree.root / folder).rglob("*.py"))
    lengths = {str(path.relative_to(tree.root)): len(path.read_bytes().splitlines()) for path in paths}
    return {name: [f"{length} lines"] for name, length in lengths.items() if length > MOST_LINES}


def folders_that_are_too_wide(tree: Tree) -> Found:
    counts = Counter(str(Path(file).parent) for file in tree.files if Path(file).name != "__init__.py")
    return {
        folder: [f"{count} modules"] for folder, count in counts.items() if count > MOST_MODULES and folder not in WIDE
    }


def modules_without_a_mirror(tree: Tree) -> Found:
    found: Found = {}
    for file in tree.files:
        path = Path(file)
        if path.name in ("__init__.py", "__main__.py"):
            continue
        elsewhere = next((test for start, test in TESTED_ELSEWHERE.items() if file.startswith(start)), None)
        mirror = elsewhere or str(path.with_name(f"test_{path.name}"))
        if not (tree.root / "tests" / mirror).is_file():
            found[file] = [f"no tests/{mirror}"]
    return found


RULES: list[Callable[[Tree], Found]] = [
    imports_that_run_upwards,
    circles_of_modules,
    circles_of_rooms,
    options_that_libraries_name,
    typer_outside_command_lines,
    what_only_commands_do,
    files_that_are_too_long,
    folders_that_are_too_wide,
    modules_without_a_mirror,
]


@cache
def project() -> Tree:
    return Tree(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule(rule: Callable[[Tree], Found]) -> None:
    assert rule(project()) == {}


def test_lists_hold_nothing_that_is_gone() -> None:
    """An exception for something that is no more would hide what comes in its place."""
    rooms = {room_of(module) for module in project().modules}
    assert {(package, room) for package, levels in LEVELS.items() for level in levels for room in level} <= rooms
    assert {room for room in rooms if room[0] != "_toolio" and room[1]} <= {
        (package, room) for package, levels in LEVELS.items() for level in levels for room in level
    }
    sources = "".join((ROOT / "src" / file).read_text() for file, _ in project().libraries())
    assert not {word for word in FOREIGN if word not in sources}
    assert "os._exit(" in (ROOT / "src" / FORKS).read_text()
    for folder in WIDE:
        assert (ROOT / "src" / folder).is_dir()
    for start in TESTED_ELSEWHERE:
        assert any(file.startswith(start) for file in project().files)


def make_tree(root: Path, files: Mapping[str, str]) -> Tree:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Tree(root)


GOOD = {
    "src/_toolio/cli/app.py": "import sys\nimport typer\nprint('--help')\nsys.exit(len(sys.argv))\n",
    "src/_toolio/errors.py": "'''Raise; a -- b.'''\nX = 'pip install --force-reinstall x'\n",
    "src/facetools/commands/detect.py": "import typer\nfrom facetools.detector import core\nprint('--in', core)\n",
    "src/facetools/detector/core.py": (
        "from typing import TYPE_CHECKING\n"
        "from _toolio.errors import X\n"
        "from facetools.detector import files\n"
        "from facetools.photos.codec import decode\n"
    ),
    "src/facetools/detector/files.py": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from facetools.detector.core import X\n"
    ),
    "src/facetools/photos/codec.py": "def decode(): ...\n",
    "src/berttools/layerdiff/compare.py": "def f():\n    from berttools.checkpoints import files\n",
    f"src/{FORKS}": "import os\nos._exit(0)\n",
    "src/berttools/checkpoints/files.py": "x = 1\n" * MOST_LINES,
    **{f"src/facetools/commands/c{number}.py": "" for number in range(MOST_MODULES + 1)},
    **{f"src/berttools/masks/m{number}.py": "" for number in range(MOST_MODULES)},
    "src/berttools/masks/__init__.py": "",
    **dict.fromkeys(
        (
            "tests/test_contract.py",
            "tests/_toolio/test_errors.py",
            "tests/_toolio/cli/test_app.py",
            "tests/facetools/detector/test_core.py",
            "tests/facetools/detector/test_files.py",
            "tests/facetools/photos/test_codec.py",
            "tests/berttools/layerdiff/test_compare.py",
            "tests/berttools/layerdiff/test_forked_jobs.py",
            "tests/berttools/checkpoints/test_files.py",
            *(f"tests/berttools/masks/test_m{number}.py" for number in range(MOST_MODULES)),
        ),
        "",
    ),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_good_tree_keeps_every_rule(rule: Callable[[Tree], Found], tmp_path: Path) -> None:
    assert rule(make_tree(tmp_path, GOOD)) == {}


CODEC, CORE = "src/facetools/photos/codec.py", "src/facetools/detector/core.py"
TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "


@pytest.mark.parametrize(
    ("rule", "file", "text", "broken"),
    [
        (imports_that_run_upwards, CODEC, "from facetools.detector.core import X", "{codec}->{core}"),
        (imports_that_run_upwards, CODEC, "import facetools.detector.core", "{codec}->{core}"),
        (imports_that_run_upwards, CODEC, "from ..detector.core import X", "{codec}->{core}"),
        (imports_that_run_upwards, CODEC, "from ..detector import core", "{codec}->{core}"),
        (imports_that_run_upwards, CODEC, f"{TYPES}from facetools.detector.core import X", "{codec}->{core}"),
        (imports_that_run_upwards, CODEC, "def f():\n    from facetools.detector import core", "{codec}->{core}"),
        (imports_that_run_upwards, CORE, "from berttools.masks import m0", "{core}->berttools.masks.m0"),
        (imports_that_run_upwards, "src/_toolio/errors.py", "import facetools.photos.codec",
         "_toolio.errors->{codec}"),
        (imports_that_run_upwards, "src/facetools/evaluation/x.py", "from facetools.detector import core",
         "facetools.evaluation.x->{core}"),
        (imports_that_run_upwards, "src/facetools/attic/x.py", "from facetools.photos import codec",
         "facetools.attic.x->{codec}"),
        (imports_that_run_upwards, "src/berttools/layerdiff/compare.py", "from berttools.masks import m0",
         "berttools.layerdiff.compare->berttools.masks.m0"),
        (circles_of_modules, "src/facetools/detector/files.py", "from facetools.detector.core import X", "{core}"),
        (circles_of_modules, CODEC, "def f():\n    from facetools.detector.core import X", "{codec}"),
        (circles_of_rooms, CODEC, f"{TYPES}from facetools.detector.core import X", "facetools.photos"),
        (options_that_libraries_name, CODEC, "raise ValueError('--quality 101: too much')", "{file}"),
        (options_that_libraries_name, CODEC, "raise ValueError(f'--{name}: too much')", "{file}"),
        (options_that_libraries_name, CODEC, "'''Decode photos as ``--in`` names them.'''", "{file}"),
        (typer_outside_command_lines, CODEC, "import typer", "{file}"),
        (typer_outside_command_lines, CODEC, "from _toolio.cli import options", "{file}"),
        (typer_outside_command_lines, CODEC, "def f():\n    from _toolio.cli.app import run_tool", "{file}"),
        (typer_outside_command_lines, CODEC, "def f():\n    from typer.main import get_command", "{file}"),
        (what_only_commands_do, CODEC, "def f():\n    print(1)", "{file}"),
        (what_only_commands_do, CODEC, "import sys\nsys.exit(1)", "{file}"),
        (what_only_commands_do, CODEC, "import os\nos._exit(1)", "{file}"),
        (what_only_commands_do, f"src/{FORKS}", "print(1)", "{file}"),
        (what_only_commands_do, CODEC, "raise SystemExit(2)", "{file}"),
        (what_only_commands_do, CODEC, "from argparse import ArgumentParser", "{file}"),
        (what_only_commands_do, CODEC, "import sys\nx = sys.argv[1:]", "{file}"),
        (files_that_are_too_long, CODEC, "x = 1\n" * (MOST_LINES + 1), CODEC),
        (files_that_are_too_long, "tools/make.py", "x = 1\n" * (MOST_LINES + 1), "tools/make.py"),
        (folders_that_are_too_wide, "src/berttools/masks/one_more.py", "", "berttools/masks"),
        (modules_without_a_mirror, "src/facetools/photos/exif.py", "", "facetools/photos/exif.py"),
    ],
)  # fmt: skip
def test_a_rule_can_fail(rule: Callable[[Tree], Found], file: str, text: str, broken: str, tmp_path: Path) -> None:
    expected = broken.format(
        file=file.removeprefix("src/"), codec="facetools.photos.codec", core="facetools.detector.core"
    )
    assert expected in rule(make_tree(tmp_path, {**GOOD, file: text}))
