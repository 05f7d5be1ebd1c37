"""Labelled texts: examples, labels, batches, metrics, evaluation."""
