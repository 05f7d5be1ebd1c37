"""Training a detector on folders of clean and cloaked photos."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from _toolio.errors import ToolError
from _toolio.journal import sha256_of
from facetools.detector import ResidualNet, cut_face
from facetools.intake import Intake
from facetools.metrics import area_under_roc
from facetools.people import is_held_out, person_of
from facetools.photos import Pixels, as_tensor

WIDTH = 24
"""Channels of the network's first layers."""

WINDOW_PX = 96
"""Side of the windows that the network is trained on; it is used on whole faces."""


@dataclass(frozen=True, slots=True)
class Example:
    """One face.

    Attributes
    ----------
    source
        The label, the photo's path below its folder and the sha256 of its bytes, in one line.
    person
        Whose; people are never in two parts of the data.
    photo
        What a clean and a cloaked copy of the same photo have in common.
    cloaked
        The label.
    window
        uint8 [h, w, 3], the face with some room, for training.
    face
        uint8 [h, w, 3], as ``detect`` looks at it, for evaluation.
    """

    source: str
    person: str
    photo: str
    cloaked: bool
    window: Pixels
    face: Pixels


def make_example(intake: Intake, *, cloaked: bool) -> Example | None:
    """Cut an example from a photo's largest face; None if there is none or too little of it is in the photo.

    The photo's path below its folder names the person, and up to the first dot of its name the photo: ``perturb
    --format png`` writes ``a.jpg`` as ``a.jpg.png``.
    """
    if not intake.faces:
        return None
    window = cut_face(intake.photo.pixels, intake.faces[0], room=1.7)
    exact = cut_face(intake.photo.pixels, intake.faces[0])
    if window is None or exact is None:
        return None
    relative = intake.item.relative
    folder, slash, name = relative.rpartition("/")
    source = f"{'cloaked' if cloaked else 'clean'} {relative} {sha256_of(intake.data)}"
    return Example(source, person_of(relative), folder + slash + name.partition(".")[0], cloaked, window, exact)


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="JPEG", quality=quality, subsampling=0 if quality % 2 else 2)
    return np.array(Image.open(out).convert("RGB"))


def augment(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Cut a random window and change it as photos are changed after cloaking; blind to the label.

    Clean and cloaked faces meet the same scaling, JPEG, noise, greyscale and tone curves, so that none of
    these can stand for the label.

    Parameters
    ----------
    pixels
        uint8 [h, w, 3].
    rng
        Draws everything.

    Returns
    -------
    uint8 [WINDOW_PX, WINDOW_PX, 3]
    """
    from PIL import Image

    if rng.random() < 0.3:
        scale = rng.uniform(0.7, 1.4)
        size = (max(16, round(pixels.shape[1] * scale)), max(16, round(pixels.shape[0] * scale)))
        way = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)[rng.integers(3)]
        pixels = np.array(Image.fromarray(pixels).resize(size, way))
    short = [max(0, WINDOW_PX - side) for side in pixels.shape[:2]]
    if any(short):
        pixels = np.pad(
            pixels,
            ((0, short[0]), (0, short[1]), (0, 0)),
            mode="reflect" if min(pixels.shape[:2]) > max(short) else "edge",
        )
    top, left = (int(rng.integers(side - WINDOW_PX + 1)) for side in pixels.shape[:2])
    values: npt.NDArray[Any] = pixels[top : top + WINDOW_PX, left : left + WINDOW_PX].astype(np.float32)
    if rng.random() < 0.5:
        values = values[:, ::-1]
    if rng.random() < 0.3:
        values = np.repeat(values @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=2)
    if rng.random() < 0.4:
        values = 255 * (np.clip(values, 0, 255) / 255) ** np.float32(rng.uniform(0.6, 1.6))
        values = (values - 128) * np.float32(rng.uniform(0.6, 1.4)) + np.float32(128 + rng.uniform(-30, 30))
    if rng.random() < 0.3:
        grain = rng.normal(0, rng.uniform(0.5, 6), (WINDOW_PX, WINDOW_PX, 1 if rng.random() < 0.5 else 3))
        values = values + grain.astype(np.float32)
    window: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        window = _jpeg(np.ascontiguousarray(window), int(rng.integers(60, 99)))
    return window


def pair_up(examples: Sequence[Example], rng: np.random.Generator) -> list[tuple[Example, Example]]:
    """Put each photo's clean and cloaked copy together; what has no partner gets one by lot.

    A pair that differs in little but the cloak (and where the finder puts the box) shows the network what to
    look for: without pairs it needs many times as many steps to find so faint a signal, as in steganalysis.
    """
    photos: dict[str, tuple[list[Example], list[Example]]] = {}
    for example in examples:
        photos.setdefault(example.photo, ([], []))[example.cloaked].append(example)
    everybody = [[e for e in examples if e.cloaked is label] for label in (False, True)]
    pairs: list[tuple[Example, Example]] = []
    for photo in sorted(photos):
        copies = photos[photo]
        count = max(map(len, copies))
        clean, cloaked = (
            [mine[i % len(mine)] for i in range(count)]
            if mine
            else [others[rng.integers(len(others))] for _ in range(count)]
            for mine, others in zip(copies, everybody, strict=True)
        )
        pairs += zip(clean, cloaked, strict=True)
    return pairs


def _batches(examples: Sequence[Example], batch: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw one epoch of pairs; both of a pair are cut and changed by the same draws."""
    pairs = pair_up(examples, rng)
    half = min(batch // 2, len(pairs))
    order = rng.permutation(len(pairs))
    labels = torch.arange(2 * half) % 2
    for start in range(0, len(pairs) - half + 1, half):
        windows = []
        for clean, cloaked in (pairs[i] for i in order[start : start + half]):
            seed = int(rng.integers(2**62))
            windows += [augment(example.window, np.random.default_rng(seed)) for example in (clean, cloaked)]
        yield torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2).float() / 255, labels.float()


def train_network(
    examples: Sequence[Example],
    *,
    epochs: int,
    batch: int,
    learning_rate: float,
    seed: int,
    device: torch.device,
) -> Iterator[tuple[ResidualNet, float]]:
    """Train with AdamW and a one-cycle schedule; after each epoch give the averaged network and the mean loss.

    Parameters
    ----------
    examples
        Both labels must occur.
    epochs, batch, learning_rate
        An epoch shows each pair once; ``learning_rate`` is the peak.
    seed
        Decides initial weights, order and augmentation.
    device
        Where to compute.
    """
    torch.manual_seed(seed % 2**63)
    rng = np.random.default_rng(seed)
    network = ResidualNet(WIDTH).to(device).to(memory_format=torch.channels_last)
    # Weights averaged over the last few hundred steps: calmer than any single iterate.
    decay = torch.optim.swa_utils.get_ema_multi_avg_fn(0.99)  # type: ignore[no-untyped-call]
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=decay, use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-3)
    pairs = len(pair_up(examples, rng))
    # Of 5 steps the schedule would give the first one no length, and divide by it.
    steps = max(6, pairs // min(batch // 2, pairs) * epochs + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.2)
    for _ in range(epochs):
        network.train()
        losses = []
        for windows, labels in _batches(examples, batch, rng):
            logits = network(windows.to(device, memory_format=torch.channels_last))
            loss = F.binary_cross_entropy_with_logits(logits, labels.to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(network)
            losses.append(float(loss.detach()))
        averaged = average.module
        assert isinstance(averaged, ResidualNet)
        yield averaged.eval(), float(np.mean(losses))


@torch.inference_mode()
def logits_of(network: ResidualNet, examples: Sequence[Example], device: torch.device) -> npt.NDArray[np.float64]:
    """Score whole faces as ``detect`` does, one at a time: float64 [examples]."""
    network.eval()
    return np.array([float(network(as_tensor(e.face, device))[0]) for e in examples], np.float64)


def split_people(examples: Sequence[Example], *, seed: int, share: float) -> tuple[list[Example], list[Example]]:
    """Split examples by person into those to train on and those held out.

    Raises
    ------
    ToolError
        A part has no clean or no cloaked face.
    """
    parts: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        parts[is_held_out(example.person, seed, share)].append(example)
    for name, part in zip(("training", "held-out"), parts, strict=True):
        if len({example.cloaked for example in part}) < 2:
            raise ToolError(
                f"the {name} part lacks clean or cloaked faces; give photos of more people or change --held-out"
            )
    return parts


class _Sourced(Protocol):
    @property
    def source(self) -> str: ...


def digest_of(examples: Sequence[_Sourced]) -> str:
    """Hash what a network was trained on: labels, paths and contents of all photos, in any order."""
    return sha256_of("\n".join(sorted(example.source for example in examples)).encode("utf-8", "surrogateescape"))


def evaluate(network: ResidualNet, unseen: Sequence[Example], device: torch.device) -> tuple[dict[str, Any], float]:
    """Give figures on held-out faces (auc, recall, false_alarms at a score of 0.5), and the temperature."""
    logits, labels = logits_of(network, unseen, device), np.array([example.cloaked for example in unseen])
    figures = {
        "auc": area_under_roc(logits, labels),
        "recall": float((logits[labels] >= 0).mean()),
        "false_alarms": float((logits[~labels] >= 0).mean()),
        "held_out_faces": len(unseen),
    }
    return figures, fit_temperature(logits, labels)


def fit_temperature(logits: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float:
    """Find the temperature that logits must be divided by to be calibrated (Guo et al. 2017), by golden section.

    Parameters
    ----------
    logits, labels
        float [n] and bool [n].

    Returns
    -------
    float
        Between 0.05 and 20; minimises the log loss.
    """
    signs = np.where(labels, -1.0, 1.0)

    def cost(log_temperature: float) -> float:
        return float(np.logaddexp(0, signs * logits / np.exp(log_temperature)).mean())

    low, high = np.log(0.05), np.log(20.0)
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(60):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if cost(a) < cost(b) else (a, high)
    return float(np.exp((low + high) / 2))
