"""Tensor files: safetensors larger than memory, and PyTorch's files without unpickling."""
