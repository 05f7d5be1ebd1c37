"""The commands of berttools, in help order."""

from typing import NoReturn

from _toolio.cli.app import run_tool

COMMANDS = (
    "layerdiff", "finetune", "apply-delta", "mask-tune", "apply-mask", "maskdiff", "mask-control", "predict",
    "evaluate",
)  # fmt: skip


def main() -> NoReturn:
    """Run berttools."""
    run_tool("berttools", COMMANDS)
