"""Train extractors: the training loop, reading of faces, heads, early stopping, distillation, robust fine-tuning."""
