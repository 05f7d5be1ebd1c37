"""Measure how much one draw of learned masks differs from another.

Usage: python docs/results/scripts/mask_draws.py DRAWS <options of mask-tune>

Tunes as ``berttools mask-tune`` with these options would (``--dev`` among them), and prints one line of JSON at each
measurement besides, to stderr: the metric of as many other draws of the same scores, and of the threshold. The head is
as it was tuned with the draws of training.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from berttools.cli import main
from berttools.mask_tuning import pipeline

if TYPE_CHECKING:
    from berttools.texts.batches import Dataset

FIRST = 1_000_000
"""The first of the steps whose draws are taken: none that is made."""


class Run(pipeline.MaskTuneRun):
    """A tuning whose draws are measured."""

    draws = 0

    def _evaluate(self, dev: Dataset) -> dict[str, Any]:
        found = super()._evaluate(dev)
        drawn = [self._evaluate_mask(FIRST + number, dev)[self.metric] for number in range(self.draws)]
        record = {"step": self.trainer.step, "draws": drawn, "threshold": found["score_at_threshold"]}
        sys.stderr.write(json.dumps(record) + "\n")
        return found


if __name__ == "__main__":
    Run.draws = int(sys.argv.pop(1))
    pipeline.MaskTuneRun = Run  # type: ignore[misc]
    sys.argv[0:1] = ["berttools", "mask-tune"]
    main()
