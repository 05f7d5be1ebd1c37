"""Fine-tune a classifier: which parameters, the training loop, deltas."""

from berttools.tuning.config import FinetuneConfig, Save, Task
from berttools.tuning.run import finetune

__all__ = ["FinetuneConfig", "Save", "Task", "finetune"]
