"""A sequence classifier: the model and its head, losses, inference, one base with many masks."""
