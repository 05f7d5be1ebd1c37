"""Decode photos, and write them back as they came."""
