"""The commands of facetools, in help order."""

from typing import NoReturn

from _toolio.lazy import uncollected

COMMANDS = (
    "detect",
    "perturb",
    "compare",
    "evaluate",
    "report",
    "plot",
    "embed",
    "match",
    "align",
    "gather",
    "train-detector",
    "train-extractor",
    "train-robust",
    "import-extractor",
    "extractors",
)


def main() -> NoReturn:
    """Run facetools."""
    with uncollected():
        from _toolio.cli.app import run_tool
    run_tool("facetools", COMMANDS)
