"""Devices, threads, distributed processes, training checkpoints."""
