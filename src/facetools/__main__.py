"""Lets ``python -m facetools`` do what ``facetools`` does."""

from facetools.cli import main

main()
