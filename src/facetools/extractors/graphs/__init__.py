"""ONNX graphs as PyTorch networks."""
