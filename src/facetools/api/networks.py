"""Open the networks that photos are measured with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facetools.detector.detector import Detector
    from facetools.extractors.extractor import Extractor


def open_extractor(name: str | Path | None = None, *, device: str = "auto") -> Extractor:
    """Open an extractor.

    Parameters
    ----------
    name
        A built-in one, or a file of ``import-extractor``, ``train-extractor`` or ``train-robust``; None: the default.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns
    -------
    Extractor
        ``network`` takes chips, float32 [B, 3, height, width] RGB in 0 to 1, and returns embeddings, float32
        [B, dimensions]. ``facetools.embeddings.chips.chip_of`` cuts a face's chip.

    Raises
    ------
    UsageError
        There is no such extractor.
    ToolError
        Its weights are missing, changed or damaged, or there is no such device.
    """
    from _toolio.compute.device import pick_device
    from facetools.extractors import factory

    return factory.open_extractor(factory.DEFAULT if name is None else str(name), pick_device(device))


def open_detector(path: Path | str | None = None, *, device: str = "auto") -> Detector:
    """Open a detector of cloaked faces.

    Parameters
    ----------
    path
        A file of ``train-detector``; None: the one that is installed.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns
    -------
    Detector
        ``predict(pixels, face)`` returns the score of one face, ``detector.calibration.at()`` what labels it.

    Raises
    ------
    ToolError
        There is no such file or device, or the file is no detector.
    """
    from _toolio.compute.device import pick_device
    from facetools.detector import files

    return files.open_detector(files.SHIPPED if path is None else Path(path), pick_device(device))
