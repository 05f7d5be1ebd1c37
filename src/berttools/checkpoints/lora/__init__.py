"""Read PEFT's LoRA adapters and merge them into their base tensor by tensor."""

from typing import TYPE_CHECKING

from _toolio.lazy import exporter

if TYPE_CHECKING:
    from berttools.checkpoints.lora.merging import open_tuned

__all__ = ["open_tuned"]

__getattr__ = exporter(__name__, {"open_tuned": "merging"})
