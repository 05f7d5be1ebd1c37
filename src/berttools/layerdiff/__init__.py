"""Distances between two checkpoints, tensor by tensor."""
