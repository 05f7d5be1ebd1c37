"""Cloak photos against face recognition, measure whether it helps, and see through it."""
