"""Fine-tune encoders, all of them or their critical layers, and see how far each layer moved."""

from typing import TYPE_CHECKING

from _toolio.lazy import exporter

if TYPE_CHECKING:
    from berttools.checkpoints.files import open_checkpoint
    from berttools.layer_scores.records import score_layers
    from berttools.layerdiff import compare
    from berttools.mask_tuning.pipeline import mask_tune
    from berttools.masks.apply import apply_mask
    from berttools.tuning.run import finetune

__all__ = ["apply_mask", "compare", "finetune", "mask_tune", "open_checkpoint", "score_layers"]

__getattr__ = exporter(
    __name__,
    {
        "apply_mask": "masks.apply",
        "compare": "layerdiff",
        "finetune": "tuning.run",
        "mask_tune": "mask_tuning.pipeline",
        "open_checkpoint": "checkpoints.files",
        "score_layers": "layer_scores.records",
    },
)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
