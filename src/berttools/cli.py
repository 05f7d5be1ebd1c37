"""The commands of berttools, in help order."""

from typing import NoReturn

from _toolio.app import run_tool

COMMANDS = ("layerdiff",)


def main() -> NoReturn:
    """Run berttools."""
    run_tool("berttools", COMMANDS)
