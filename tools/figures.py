"""How well scores tell cloaked faces from clean ones, with an interval: python tools/figures.py CLEAN CLOAKED.

Both are records of facetools detect. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from facetools.metrics import area_under_roc

DRAWS = 2000


def read_scores(path: Path) -> tuple[list[float], float]:
    """Read the scores of a file of records, and the threshold that they were labelled by."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    scored = [record for record in records if record.get("score") is not None]
    if not scored:
        sys.exit(f"figures: error: {path}: no record has a score; was the run complete?")
    return [record["score"] for record in scored], scored[0]["threshold"]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 5)


def main(clean_path: Path, cloaked_path: Path) -> None:
    """Print AUC with its 95% bootstrap interval over faces, recall, precision, false alarms and n."""
    clean, limit = read_scores(clean_path)
    cloaked, _ = read_scores(cloaked_path)
    scores, labels = np.array(clean + cloaked), np.arange(len(clean) + len(cloaked)) >= len(clean)
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(DRAWS):
        drawn = (rng.choice(clean, len(clean)), rng.choice(cloaked, len(cloaked)))
        area = area_under_roc(np.concatenate(drawn), labels)
        assert area is not None  # both labels are there
        draws.append(area)
    hits, alarms = (sum(score >= limit for score in part) for part in (cloaked, clean))
    figures = {
        "auc": _rounded(area_under_roc(scores, labels)),
        "auc_95": [_rounded(value) for value in np.percentile(draws, (2.5, 97.5))],
        "recall": round(hits / len(cloaked), 4),
        "precision": round(hits / max(1, hits + alarms), 4),
        "false_alarms": round(alarms / len(clean), 4),
        "threshold": limit,
        "clean": len(clean),
        "cloaked": len(cloaked),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
