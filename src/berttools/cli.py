"""The commands of berttools, in help order."""

from typing import NoReturn

from _toolio.app import run_tool

COMMANDS = ("layerdiff", "finetune", "apply-delta", "apply-mask", "maskdiff", "mask-control", "predict", "evaluate")


def main() -> NoReturn:
    """Run berttools."""
    run_tool("berttools", COMMANDS)
