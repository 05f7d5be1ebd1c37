"""How well scores tell cloaked faces from clean ones, with an interval: python tools/figures.py CLEAN CLOAKED.

Both are records of facetools detect. Prints one JSON object: the numbers that `facetools plot --kind roc` shows.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from _toolio.errors import ToolError
from facetools.plotting import need_both, roc_figures
from facetools.scores import parse_truth, read_scores


def _rounded(value: Any, decimals: int) -> Any:
    if isinstance(value, tuple):
        return [_rounded(each, decimals) for each in value]
    return value if value is None else round(value, decimals)


def main(clean: str, cloaked: str) -> None:
    """Print AUC with its 95% bootstrap interval over people, recall, precision, false alarms and n."""
    try:
        scores = read_scores(parse_truth([], [clean], [f"cloaked={cloaked}"]))
        need_both(scores, "roc")
    except ToolError as error:
        sys.exit(f"figures: error: {error.message}")
    found = roc_figures(scores, 1)
    figures = {
        "auc": _rounded(found["auc"], 5),
        "auc_95": _rounded(found["auc_interval"], 5),
        **{key: _rounded(found[key], 4) for key in ("recall", "precision", "false_alarms")},
        **{key: found[key] for key in ("threshold", "clean", "cloaked")},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:3])
