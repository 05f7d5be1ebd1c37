"""Train extractors: the training loop, reading of faces, heads, early stopping, distillation, robust fine-tuning."""

from typing import TYPE_CHECKING

from _toolio.lazy import exporter

if TYPE_CHECKING:
    from facetools.training.distillation import DistillationConfig, DistillationTrainer
    from facetools.training.face_reader import FaceReader
    from facetools.training.loop import TrainingConfig
    from facetools.training.robust import RobustConfig, RobustTrainer

__all__ = ["DistillationConfig", "DistillationTrainer", "FaceReader", "RobustConfig", "RobustTrainer", "TrainingConfig"]

__getattr__ = exporter(
    __name__,
    {
        "DistillationConfig": "distillation",
        "DistillationTrainer": "distillation",
        "FaceReader": "face_reader",
        "TrainingConfig": "loop",
        "RobustConfig": "robust",
        "RobustTrainer": "robust",
    },
)
