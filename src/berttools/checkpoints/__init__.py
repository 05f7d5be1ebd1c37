"""Open any checkpoint; names, groups, views, LoRA, quantized tensors, digests; write model folders."""
