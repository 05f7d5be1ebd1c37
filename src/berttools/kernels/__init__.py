"""Triton kernels and whether they can be used here."""
