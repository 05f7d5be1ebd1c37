"""Mask files: coding, the base they belong to, applying them, controls, overlap."""
