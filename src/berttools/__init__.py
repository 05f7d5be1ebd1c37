"""See which layers fine-tuning moved, tune only those, or fine-tune by zeroing weights."""
