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
from berttools.mask_tuning import run as _mask_tuning

if TYPE_CHECKING:
    from berttools.texts.batches import Data

FIRST = 1_000_000
"""The first of the steps whose draws are taken: none that is made."""


class Run(_mask_tuning.MaskRun):
    """A tuning whose draws are measured."""

    draws = 0

    def _measured(self, dev: Data) -> dict[str, Any]:
        found = super()._measured(dev)
        drawn = [self._with(FIRST + number, dev)[self.metric] for number in range(self.draws)]
        record = {"step": self.tuner.step, "draws": drawn, "threshold": found["score_at_threshold"]}
        sys.stderr.write(json.dumps(record) + "\n")
        return found


if __name__ == "__main__":
    Run.draws = int(sys.argv.pop(1))
    _mask_tuning.MaskRun = Run  # type: ignore[misc]
    sys.argv[0:1] = ["berttools", "mask-tune"]
    main()
