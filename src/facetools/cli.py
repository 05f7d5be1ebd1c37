"""The commands of facetools, in help order."""

from typing import NoReturn

from _toolio.app import run_tool

COMMANDS = ("detect", "perturb", "embed", "align", "train-detector")


def main() -> NoReturn:
    """Run facetools."""
    run_tool("facetools", COMMANDS)
