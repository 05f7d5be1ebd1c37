"""See how far fine-tuning moved each layer of a checkpoint."""
