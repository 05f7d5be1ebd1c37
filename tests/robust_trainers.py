"""A small robust training."""

from __future__ import annotations

from dataclasses import replace

import torch

from facetools.extractors.extractor import Extractor
from facetools.training.paired_faces import PairedFaces
from facetools.training.robust import RobustConfig, RobustTrainer, tunable

CPU = torch.device("cpu")
CONFIG = RobustConfig(epochs=2, batch=4, learning_rate=3e-3, head="softmax", identity=1.0, consistency=8.0, seed=0)


def trainer_of(faces: PairedFaces, extractor: Extractor, **changes: object) -> RobustTrainer:
    torch.manual_seed(1)
    return RobustTrainer(extractor, tunable(extractor), faces, replace(CONFIG, **changes), device=CPU)
