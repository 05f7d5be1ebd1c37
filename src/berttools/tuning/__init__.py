"""Fine-tune a classifier: which parameters, the training loop, deltas."""
