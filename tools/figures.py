"""How well scores tell cloaked faces from clean ones, with an interval: python tools/figures.py CLEAN CLOAKED.

Both are records of facetools detect. Prints one JSON object.
"""

from __future__ import annotations

import json
import random
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path

DRAWS = 2000


def area_under_roc(clean: Sequence[float], cloaked: Sequence[float]) -> float:
    """Give the chance that a cloaked face scores higher than a clean one; ties count half."""
    ordered = sorted(clean)
    wins = sum(bisect_left(ordered, score) + bisect_right(ordered, score) for score in cloaked) / 2
    return wins / (len(clean) * len(cloaked))


def read_scores(path: Path) -> tuple[list[float], float]:
    """Read the scores of a file of records, and the threshold that they were labelled by."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    scored = [record for record in records if record.get("score") is not None]
    if not scored:
        sys.exit(f"figures: error: {path}: no record has a score; was the run complete?")
    return [record["score"] for record in scored], scored[0]["threshold"]


def main(clean_path: Path, cloaked_path: Path) -> None:
    """Print AUC with its 95% bootstrap interval over faces, recall, precision, false alarms and n."""
    clean, limit = read_scores(clean_path)
    cloaked, _ = read_scores(cloaked_path)
    rng = random.Random(0)
    draws = sorted(
        area_under_roc(rng.choices(clean, k=len(clean)), rng.choices(cloaked, k=len(cloaked))) for _ in range(DRAWS)
    )
    hits, alarms = (sum(score >= limit for score in scores) for scores in (cloaked, clean))
    figures = {
        "auc": round(area_under_roc(clean, cloaked), 5),
        "auc_95": [round(draws[int(share * DRAWS)], 5) for share in (0.025, 0.975)],
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
