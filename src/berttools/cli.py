"""The commands of berttools, in help order."""

from typing import NoReturn

from _toolio.lazy import uncollected

COMMANDS = (
    "layerdiff", "score-layers", "finetune", "apply-delta", "mask-tune", "apply-mask", "maskdiff", "mask-control",
    "predict", "evaluate",
)  # fmt: skip


def main() -> NoReturn:
    """Run berttools."""
    with uncollected():
        from _toolio.cli.app import run_tool
    run_tool("berttools", COMMANDS)
