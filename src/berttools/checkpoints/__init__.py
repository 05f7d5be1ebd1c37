"""Open any checkpoint; names, groups, views, LoRA, quantized tensors, digests; write model folders."""

from typing import TYPE_CHECKING

from _toolio.lazy import exporter

if TYPE_CHECKING:
    from berttools.checkpoints.files import Checkpoint, open_checkpoint
    from berttools.checkpoints.lora import open_tuned

__all__ = ["Checkpoint", "open_checkpoint", "open_tuned"]

__getattr__ = exporter(
    __name__,
    {
        "Checkpoint": "files",
        "open_checkpoint": "files",
        "open_tuned": "lora",
    },
)
