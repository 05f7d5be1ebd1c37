"""Measure whether cloaks protect anybody from a recogniser that trains on them."""
