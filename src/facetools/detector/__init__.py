"""Detect cloaked faces: prediction, network, crops, decision, file, training and calibration."""

from typing import TYPE_CHECKING

from _toolio.lazy import exporter

if TYPE_CHECKING:
    from facetools.detector.decision import Prediction
    from facetools.detector.detector import Detector
    from facetools.detector.files import SHIPPED, open_detector, save_detector
    from facetools.detector.training.trainer import DetectorTrainer

__all__ = ["SHIPPED", "Detector", "DetectorTrainer", "Prediction", "open_detector", "save_detector"]

__getattr__ = exporter(
    __name__,
    {
        "Detector": "detector",
        "Prediction": "decision",
        "SHIPPED": "files",
        "open_detector": "files",
        "save_detector": "files",
        "DetectorTrainer": "training.trainer",
    },
)
