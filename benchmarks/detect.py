"""What detect costs: python benchmarks/detect.py PHOTOS [--photos N] [--rounds N] [--skip PART ...] [--sizes N ...].

PHOTOS is LFW, a tar or a folder: one person is in the middle of each photo. Prints JSONL, all of one run:

- ``inference``: milliseconds to score a face on one thread, beyond finding it, beside torchvision's ResNet-18 on the
  same crops; at most 5 are asked.
- ``finding``: milliseconds to find the faces of a photo on one thread, ours and what others use, in turns on the same
  decoded photos. ``recall``: share of photos where a box holds the photo's middle, has its own middle within 35 pixels
  of it, and is 40 to 200 pixels wide and high; ``extra_boxes``: boxes besides that one, a photo. ``smallest`` is the
  smallest face that is looked for, in pixels: time goes with it, so ours is shown for that of each peer.
- ``throughput``: photos a second of the whole command on two cores, and of a pipeline that finds and embeds; start-up
  counts.
- ``startup``: seconds until the record of one photo is there, beside ``import torch``; at most 1.5 times that and 1 s
  more are asked.
- ``size``: with ``--sizes``, the whole command on a tar of so many photos, once: seconds, processor seconds and the
  peak of resident memory, mapped pages counted. Photos are repeated under other names where there are too few.

``processor_ms`` is what the processor was busy, and what is compared: a clock also counts who else is on the machine.

A peer that is not installed gives a record that says so. facenet-pytorch's weights and OpenCV's cascades lie in their
wheels (``pip install --no-deps facenet-pytorch 'opencv-python-headless<5'`` into a folder of its own on PYTHONPATH;
the one needs ``requests`` and ``tqdm`` too); dlib's detector is in the extra ``test``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import resource
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from _toolio.streams.inputs import open_items
from facetools.detector.crops import face_crops
from facetools.detector.files import SHIPPED, open_detector
from facetools.faces.finder import Finder
from facetools.photos.codec import decode_photo
from facetools.photos.photo import Pixels, as_tensor

TURN = 20
"""Photos that one gets at a time: after each of another's photos its caches would be cold."""

Boxes = Sequence[Sequence[float]]
Search = Callable[[Pixels], Boxes]
NOT_SHIPPED = ("insightface", "deepface", "mediapipe", "opencv-yunet")
"""Detectors whose weights lie in no wheel and are downloaded when first used."""


def say(part: str, **fields: Any) -> None:
    """Print one record."""
    shown = {key: round(value, 4) if isinstance(value, float) else value for key, value in fields.items()}
    print(json.dumps({"part": part, **shown}), flush=True)


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Time some work."""
    start = clock()
    work()
    return clock() - start


def children() -> float:
    """Processor seconds of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ours(smallest: int | None) -> Search:
    """Give our finder."""
    finder = Finder()
    return lambda pixels: [face.box for face in finder.find([pixels], min_face_px=smallest)[0]]


def facenet_pytorch() -> Search:
    """Give facenet-pytorch's MTCNN, at its defaults but for all faces."""
    finder = importlib.import_module("facenet_pytorch").MTCNN(keep_all=True, device="cpu")

    def search(pixels: Pixels) -> Boxes:
        boxes = finder.detect(pixels)[0]
        return [] if boxes is None else boxes.tolist()

    return search


def dlib_hog(doublings: int) -> Search:
    """Give dlib's frontal detector on a photo that is doubled some times."""
    detector = importlib.import_module("dlib").get_frontal_face_detector()
    return lambda pixels: [(r.left(), r.top(), r.right() + 1, r.bottom() + 1) for r in detector(pixels, doublings)]


def opencv_haar() -> Search:
    """Give OpenCV's cascade, as its tutorial calls it."""
    cv2 = importlib.import_module("cv2")
    cv2.setNumThreads(1)
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")

    def search(pixels: Pixels) -> Boxes:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        return [(x, y, x + w, y + h) for x, y, w, h in cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5)]

    return search


FINDERS: dict[str, tuple[int, Callable[[], Search]]] = {
    "facetools": (20, lambda: ours(None)),
    "facetools --min-face 40": (40, lambda: ours(40)),
    "facetools --min-face 80": (80, lambda: ours(80)),
    "facenet-pytorch MTCNN": (20, facenet_pytorch),
    "dlib HOG": (80, lambda: dlib_hog(0)),
    "dlib HOG, doubled once": (40, lambda: dlib_hog(1)),
    "opencv Haar cascade": (24, opencv_haar),
}


def is_the_person(box: Sequence[float], size: tuple[int, ...]) -> bool:
    """Tell a box about the face in the middle of an LFW photo."""
    x0, y0, x1, y1 = box
    x, y = size[1] / 2, size[0] / 2
    near = abs((x0 + x1) / 2 - x) <= 35 and abs((y0 + y1) / 2 - y) <= 35
    return x0 <= x <= x1 and y0 <= y <= y1 and near and all(40 <= side <= 200 for side in (x1 - x0, y1 - y0))


def available() -> dict[str, Search]:
    """Open the finders that are installed; say which are not."""
    found = {}
    for name, (_, make) in FINDERS.items():
        try:
            found[name] = make()
        except ImportError as error:
            say("finding", finder=name, skipped=f"not installed: {error.name}")
    for name in NOT_SHIPPED:
        say("finding", finder=name, skipped="its weights lie in no package")
    return found


def finding(photos: Sequence[Pixels], rounds: int) -> None:
    """Measure the finders in turns, some photos each, so that noise falls on all of them alike."""
    searches = available()
    walls: dict[str, list[float]] = {name: [] for name in searches}
    busy: dict[str, list[float]] = {name: [] for name in searches}
    hits, boxes = dict.fromkeys(searches, 0), dict.fromkeys(searches, 0)
    for search in searches.values():
        search(photos[0])
    for start in range(0, len(photos), TURN):
        for name, search in searches.items():
            for pixels in photos[start : start + TURN]:
                spent = []
                for _ in range(rounds if start < 100 else 1):
                    began, began_busy = time.perf_counter(), time.thread_time()
                    found = search(pixels)
                    spent.append((time.thread_time() - began_busy, time.perf_counter() - began))
                busy[name].append(median(each for each, _ in spent) * 1000)
                walls[name].append(median(each for _, each in spent) * 1000)
                hits[name] += any(is_the_person(box, pixels.shape) for box in found)
                boxes[name] += len(found)
    mine = {smallest: median(busy[name]) for name, (smallest, _) in FINDERS.items() if name.startswith("facetools")}
    for name in searches:
        smallest, middle = FINDERS[name][0], median(busy[name])
        fields: dict[str, Any] = {"finder": name, "processor_ms": middle, "clock_ms": median(walls[name])}
        fields |= {"recall": hits[name] / len(photos), "extra_boxes": (boxes[name] - hits[name]) / len(photos)}
        same = max(size for size in mine if size <= smallest)
        fields |= {
            "times_ours": middle / mine[20],
            "smallest": smallest,
            "times_ours_at_that_size": middle / mine[same],
        }
        say("finding", **fields, limit=2.0, photos=len(photos), threads=1)


def inference(photos: Sequence[Pixels], rounds: int) -> None:
    """Measure what judging a face costs beyond finding it, beside ResNet-18 on the same crops."""
    from torchvision.models import resnet18

    finder, detector = Finder(), open_detector(SHIPPED, torch.device("cpu"))
    network = resnet18(weights=None).eval()
    faces = [(pixels, faces[0]) for pixels in photos[:100] if (faces := finder.find([pixels])[0])]

    def peer(pixels: Pixels, face: Any) -> None:
        for part in face_crops(pixels, face.box):
            network(as_tensor(part, torch.device("cpu")))

    busy: dict[str, list[float]] = {"ours": [], "resnet18": []}
    with torch.inference_mode():
        for start in [*range(0, len(faces), TURN)] * rounds:
            for name, work in (("ours", detector.predict), ("resnet18", peer)):
                for pixels, face in faces[start : start + TURN]:
                    busy[name].append(seconds(partial(work, pixels, face), time.thread_time))
    middle = {f"{name}_processor_ms": median(each) * 1000 for name, each in busy.items()}
    say("inference", **middle, limit=5.0, faces=len(faces), threads=1)


def run(words: Sequence[str], stdin: bytes, threads: int = 2) -> None:
    """Run a Python process to its end."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run([sys.executable, *words], input=stdin, stdout=subprocess.DEVNULL, check=True, env=environment)


PIPELINE = """
import sys, torch
from PIL import Image
from facenet_pytorch import MTCNN, InceptionResnetV1
finder, network = MTCNN(device="cpu"), InceptionResnetV1().eval()
for path in sys.stdin:
    with torch.inference_mode():
        face = finder(Image.open(path.strip()).convert("RGB"))
        if face is not None:
            network(face[None])
"""


def throughput(paths: Sequence[str], rounds: int) -> None:
    """Measure whole processes on two cores, from start to end: ours, and facenet-pytorch's two steps."""
    lines = "".join(f"{path}\n" for path in paths).encode()
    lines_of_peer = b"".join(lines.splitlines(keepends=True)[: max(1, len(paths) // 5)])
    works = {
        "facetools detect": (len(paths), lambda: run(["-m", "facetools", "detect"], lines)),
        "facenet-pytorch": (lines_of_peer.count(b"\n"), lambda: run(["-c", PIPELINE], lines_of_peer)),
    }
    walls: dict[str, list[float]] = {name: [] for name in works}
    busy: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, (_, work) in works.items():
            start_busy = children()
            try:
                walls[name].append(seconds(work))
            except subprocess.CalledProcessError:
                say("throughput", pipeline=name, skipped="not installed")
            busy[name].append(children() - start_busy)
    for name, (number, _) in works.items():
        if walls[name]:
            fields = {"photos_per_s": number / median(walls[name])}
            fields |= {"processor_ms_a_photo": median(busy[name]) / number * 1000}
            say("throughput", pipeline=name, **fields, photos=number, threads=2, cores=os.cpu_count())


def startup(path: str, rounds: int) -> None:
    """Measure the time to one record beside ``import torch``."""
    words = {"import_torch": ["-c", "import torch"], "detect": ["-m", "facetools", "detect", "--in", path]}
    walls: dict[str, list[float]] = {name: [] for name in words}
    busy: dict[str, list[float]] = {name: [] for name in words}
    for _ in range(rounds):
        for name, line in words.items():
            start_busy = children()
            walls[name].append(seconds(partial(run, line, b"")))
            busy[name].append(children() - start_busy)
    fields = {f"{name}_s": median(each) for name, each in walls.items()}
    fields |= {f"{name}_processor_s": median(each) for name, each in busy.items()}
    say("startup", **fields, limit_s=1.5 * fields["import_torch_s"] + 1, rounds=rounds)


def peak_mb(pid: int) -> float:
    """Return the peak of a process so far; what wait4 says begins with that of the process which started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1000 if found else 0.0


def size(paths: Sequence[str], number: int) -> None:
    """Measure the whole command on a tar of some photos, from start to end."""
    with TemporaryDirectory() as folder:
        tar_path = Path(folder) / "photos.tar"
        with tarfile.open(tar_path, "w") as tar:
            for place, path in enumerate(islice(cycle(paths), number)):
                tar.add(path, f"{place:06}.jpg")
        line = [sys.executable, "-m", "facetools", "detect", "--in", str(tar_path)]
        start = time.perf_counter()
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        peak = 0.0
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            peak = max(peak, peak_mb(process.pid))
            time.sleep(0.01)
        _, status, used = ended
        process.returncode = os.waitstatus_to_exitcode(status)
        fields = {"s": time.perf_counter() - start, "processor_s": used.ru_utime + used.ru_stime}
        if process.returncode not in (0, 3):  # 3: some are no photos
            fields["exit"] = process.returncode
        say("size", photos=number, **fields, peak_mb=peak, cores=os.cpu_count())


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("photos_at", metavar="PHOTOS")
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip", nargs="*", default=[], choices=["startup", "inference", "finding", "throughput"])
    parser.add_argument("--sizes", type=int, nargs="*", default=[])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    items = list(open_items([asked.photos_at]))
    items = items[:: max(1, len(items) // asked.photos)][: asked.photos]
    with TemporaryDirectory() as folder:
        paths, photos = [], []
        for number, item in enumerate(items):
            data = item.read()
            paths.append(str(Path(folder) / f"{number:06}.jpg"))
            Path(paths[-1]).write_bytes(data)
            photos.append(decode_photo(data, item.path).pixels)
        if "startup" not in asked.skip:
            startup(paths[0], asked.rounds)
        if "inference" not in asked.skip:
            inference(photos, asked.rounds)
        if "finding" not in asked.skip:
            finding(photos, asked.rounds)
        if "throughput" not in asked.skip:
            throughput(paths, max(1, asked.rounds // 2))
        for number in asked.sizes:
            size(paths, number)


if __name__ == "__main__":
    main()
