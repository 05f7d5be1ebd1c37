"""The embedding that the ONNX project's own evaluator computes, to hold ours against."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facetools.extractors.graphs.model import chips_of


def reference_embedding(model: Any, chips: Tensor) -> Tensor | None:
    """Return the output of a model of :func:`read_model` as ``onnx.reference`` computes it, with numpy.

    Parameters
    ----------
    model
        The model.
    chips
        float32, in the model's own order of axes.

    Returns
    -------
    Tensor or None
        float32 [B, D]; None where this version of onnx cannot compute it.
    """
    from onnx.reference import ReferenceEvaluator

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            evaluator = ReferenceEvaluator(model, new_ops=[_batch_normalization()])
            (out,) = evaluator.run(None, {chips_of(model).name: chips.numpy()})
    except Exception:  # its operators fail in ways of their own; then there is nothing to hold against
        return None
    return torch.from_numpy(np.asarray(out, dtype=np.float32)).reshape(len(chips), -1)


def _batch_normalization() -> Any:
    """Return the evaluator's normalisation for inference: its own of opsets 9 to 13 normalises by the batch's mean."""
    from onnx.reference.op_run import OpRun

    class BatchNormalization(OpRun):
        op_domain = ""

        def _run(self, x: Any, *weights: Any, epsilon: float = 1e-5, **_: Any) -> tuple[Any, ...]:
            scale, bias, mean, variance = (each.reshape(-1, *[1] * (x.ndim - 2)) for each in weights)
            return ((scale * (x - mean) / np.sqrt(variance + epsilon) + bias).astype(x.dtype),)

    return BatchNormalization
