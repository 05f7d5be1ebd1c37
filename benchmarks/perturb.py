"""What an attack costs over its bare cost: python benchmarks/perturb.py [--device cuda] [EXTRACTOR ...].

The bare cost of a step is one forward and backward pass of the ensemble on aligned chips, as many as the attack needs,
and one of its perceptual term on the same regions; everything else (aligning, blurring, optimiser, Python) is overhead.
Both are measured in turns in one run, on one thread of a CPU. Prints one JSON object an attack: medians in
milliseconds a step and the ratio of all to bare, of which at most 1.10 is asked.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from _toolio.compute.device import pick_device
from facetools.attacks import base
from facetools.attacks import registry as attacks
from facetools.cloaking.region_view import RegionView
from facetools.cloaking.regions import cut_out, locate_region
from facetools.extractors.extractor import Extractor
from facetools.extractors.factory import DEFAULT_ENSEMBLE, open_extractors
from facetools.faces.alignment import template_of
from facetools.faces.face import Face
from facetools.perceptual.ssim import Reference, Substitute

STEPS, ROUNDS = 6, 7
# Versions of the photo that the extractors see in a step, and the term that the attack weighs them against.
ATTACKS = {"lowkey": (2, "perceptual"), "fawkes-v1.0": (1, "dssim")}


def make_view(extractors: list[Extractor], device: torch.device) -> RegionView:
    """View a face as large as those of LFW: textured noise, with landmarks where a face would have them."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)[:250, :250]
    landmarks = template_of("arcface-112", (112, 112))
    assert landmarks is not None
    face = Face((80, 70, 170, 190), 1.0, landmarks * 1.25 + (55, 50))
    region = locate_region(pixels, face, extractors)
    assert region is not None
    return RegionView(extractors, [region], [cut_out(pixels, region, device)], distance=Substitute(), seeds=[0])


def bare_step(view: RegionView, extractors: list[Extractor], copies: int, term: str) -> Callable[[], None]:
    """Prepare one step of nothing but networks and perceptual term."""
    chips = [torch.rand(copies, 3, *e.size, device=e.device, requires_grad=True) for e in extractors]
    # What the term compares, cut already: fading a change out and cutting chips is the attack's own work.
    cut = torch.rand(1, 3, *extractors[0].size, device=view.clean.device)
    parts = [view.clean] if term == "dssim" else [view.clean, cut]
    changed = [(part + 0.01 * torch.randn_like(part)).requires_grad_(True) for part in parts]
    terms = [Reference(part).dssim if term == "dssim" else Substitute().to(part) for part in parts]

    def step() -> None:
        for extractor, chip in zip(extractors, chips, strict=True):
            torch.autograd.grad(extractor.network(chip).square().sum(), chip)
        for measure, part in zip(terms, changed, strict=True):
            torch.autograd.grad(measure(part).sum(), part)

    return step


def milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """Time some work, to its end on the device."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) * 1000


def main(words: list[str]) -> None:
    """Measure the attacks in turn, round by round, so that noise falls on all of them alike."""
    device = pick_device(words[words.index("--device") + 1] if "--device" in words else "cpu")
    names = [word for word in words if word not in ("--device", device.type, str(device))]
    torch.set_num_threads(1)
    extractors = open_extractors(names or list(DEFAULT_ENSEMBLE), device)
    view = make_view(extractors, device)
    for name, (copies, term) in ATTACKS.items():
        method, bare = attacks.find(name), bare_step(view, extractors, copies, term)
        knobs = attacks.parse_knobs(method, None, [])

        def attack(steps: int, method: base.Method = method, knobs: dict[str, object] = knobs) -> None:
            method.function(view, view.clean, seeds=[0], **{**knobs, "steps": steps})

        attack(1), bare()
        whole, alone = [], []
        for _ in range(ROUNDS):
            # A step is the difference: what an attack does once, at its start and end, is not a step's cost.
            short, long = milliseconds(lambda: attack(1), device), milliseconds(lambda: attack(1 + STEPS), device)
            whole.append((long - short) / STEPS)
            alone.append(median(milliseconds(bare, device) for _ in range(STEPS)))
        figures = {"attack": name, "extractors": [e.name for e in extractors], "device": str(device)}
        figures |= {"step_ms": round(median(whole), 2), "bare_ms": round(median(alone), 2)}
        figures |= {"ratio": round(median(a / b for a, b in zip(whole, alone, strict=True)), 3), "limit": 1.10}
        print(json.dumps({**figures, "rounds": ROUNDS, "torch": torch.__version__}))


if __name__ == "__main__":
    main(sys.argv[1:])
