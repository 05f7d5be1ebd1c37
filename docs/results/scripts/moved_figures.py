"""Measure what `moved` means for recognition: the table and the chart of docs/commands/facetools-perturb.md.

Usage: python docs/results/scripts/moved_figures.py LFW.tar [PROBES [CHART.png]]

LFW.tar holds lfw/<person>/<photo>. Of 120 people with 3 photos or more two photos each are known; a third photo of
PROBES people (30) is cloaked by LowKey against dlib-resnet. After each step its embedding is compared with the known
ones, by cosine distance: is the nearest of the same person (rank 1), and is one of the person's two photos within the
threshold that one of 1,000 pairs of different people passes (verification)? Printed for the first step at which each
face has moved far enough.
"""

from __future__ import annotations

import sys
import tarfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from facetools.attacks.registry import find
from facetools.cloaking.engine import Job, Recipe, cloak_faces
from facetools.cloaking.goals.goal import Goal, Reach
from facetools.embeddings.chips import embed_face
from facetools.extractors.factory import open_extractor
from facetools.faces.finder import Finder
from facetools.perceptual.distance import open_distance
from facetools.photos.codec import decode_photo
from facetools.photos.photo import Pixels
from facetools.reporting.charts import Line, Panel, line_chart

PEOPLE, MOVED, FALSE_ACCEPTS = 120, (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4), 1e-3
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Track(Goal):
    """A goal that is never reached and keeps what it was asked about."""

    steps: list[tuple[float, Tensor]] = field(default_factory=list)

    def measure(self, clean: Sequence[Tensor], cloaked: Sequence[Tensor], others: Sequence[Tensor] = ()) -> Reach:
        """Keep how far the face has moved, and its embedding."""
        reach = Goal().measure(clean, cloaked, others)
        self.steps.append((reach.moved, cloaked[0].clone()))
        return Reach(reach.moved, None, -1.0, reached=False)


def photos_of(lfw: Path, people: int) -> dict[str, list[Pixels]]:
    """Read the first three photos of some people."""
    found: dict[str, list[Pixels]] = defaultdict(list)
    with tarfile.open(lfw) as archive:
        for member in archive:
            name = Path(member.name)
            if member.isfile() and int(name.stem[-4:]) <= 3:
                stream = archive.extractfile(member)
                assert stream is not None
                found[name.parent.name].append(decode_photo(stream.read(), member.name).pixels)
    every = [name for name, photos in sorted(found.items()) if len(photos) == 3]
    return {name: found[name] for name in every[:: len(every) // people][:people]}


Row = tuple[float, int, float, float]
"""``moved``, how many faces moved so far, and the shares of them at rank 1 and verified."""


def main(lfw: Path, probes: int, chart: Path | None) -> None:
    """Cloak, compare, print the table and draw it."""
    torch.set_num_threads(1)
    extractor, finder = open_extractor("dlib-resnet", CPU), Finder(CPU)
    recipe = Recipe(
        find("lowkey"),
        None,
        find("lowkey").knobs,
        [extractor],
        open_distance(None, allow_download=False, device=CPU),
        0,
    )
    known, names, asked = list[Tensor](), list[str](), dict[str, list[tuple[float, Tensor]]]()
    for person, photos in photos_of(lfw, PEOPLE).items():
        faces = [next(iter(finder.find([pixels])[0]), None) for pixels in photos]
        for pixels, face in zip(photos[:2], faces[:2], strict=True):
            if face is not None:
                known.append(embed_face(pixels, face, [extractor])[0])
                names.append(person)
        if faces[2] is not None and len(asked) < probes:
            track = Track()
            own = embed_face(photos[2], faces[2], [extractor])
            cloak_faces([Job(photos[2], faces[2], len(asked))], replace_goal(recipe, track))
            asked[person] = [(0.0, own[0]), *track.steps]
    gallery, labels = F.normalize(torch.stack(known).double()), np.array(names)
    apart = (1 - gallery @ gallery.T).numpy()
    threshold = float(np.quantile(apart[labels[:, None] < labels[None]], FALSE_ACCEPTS))
    print(f"{len(set(names))} people, {len(names)} known photos, {len(asked)} cloaked; threshold {threshold:.4f}\n")
    print("| moved | n | rank 1 | verified |\n|---|---|---|---|")
    rows = list[Row]()
    for least in MOVED:
        hits = list[tuple[bool, bool]]()
        for person, steps in asked.items():
            embedding = next((embedding for moved, embedding in steps if moved >= least), None)
            if embedding is not None:
                far = (1 - gallery @ F.normalize(embedding.double(), dim=0)).numpy()
                hits.append((labels[far.argmin()] == person, far[labels == person].min() <= threshold))
        if hits:
            first, verified = np.mean(hits, axis=0)
            rows.append((least, len(hits), float(first), float(verified)))
            print(f"| {least:.2f} | {len(hits)} | {first:.2f} | {verified:.2f} |")
    if chart is not None:
        chart.write_bytes(draw(rows))


def draw(rows: Sequence[Row]) -> bytes:
    """Return a chart, PNG."""
    x = [100 * row[0] for row in rows]
    lines = [
        Line("rank 1: the nearest known photo is the person's", x, [row[2] for row in rows]),
        Line("verified at 1 false accept in 1,000", x, [row[3] for row in rows]),
    ]
    return line_chart([Panel("share of photos", lines, percent=True)], x_label="moved, in hundredths")


def replace_goal(recipe: Recipe, goal: Goal) -> Recipe:
    """Return the recipe with another goal."""
    return Recipe(recipe.method, None, recipe.knobs, recipe.extractors, recipe.distance, recipe.seed, goal=goal)


if __name__ == "__main__":
    given = sys.argv[2:]
    main(Path(sys.argv[1]), int(given[0]) if given else 30, Path(given[1]) if len(given) > 1 else None)
