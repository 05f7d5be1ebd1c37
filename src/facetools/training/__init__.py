"""Train extractors: data, heads, early stopping, distillation, robust training."""
