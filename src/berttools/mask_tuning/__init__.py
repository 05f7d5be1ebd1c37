"""Fine-tune by learning which weights to set to zero (arXiv 2004.14129, section 5)."""

from berttools.mask_tuning.config import MaskTuneConfig, Pooler
from berttools.mask_tuning.pipeline import mask_tune

__all__ = ["MaskTuneConfig", "Pooler", "mask_tune"]
