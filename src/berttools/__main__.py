"""Lets ``python -m berttools`` do what ``berttools`` does."""

from berttools.cli import main

main()
