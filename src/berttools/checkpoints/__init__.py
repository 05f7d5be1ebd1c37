"""Open any checkpoint; names, groups, views, LoRA, quantised tensors, digests; write model folders."""
