"""The perceptual distance that is opened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from facetools.perceptual import distance
from facetools.perceptual.distance import open_distance
from facetools.perceptual.ssim import SUBSTITUTE, Substitute, multiscale_dssim
from perceptual_photos import photos

CPU = torch.device("cpu")


def test_lpips_where_it_is_and_the_substitute_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    found, given = object(), []

    def opened(weights: Path | None, *, allow_download: bool, device: torch.device) -> object:
        given.append((weights, allow_download, device))
        return found if weights else None

    monkeypatch.setattr(distance, "open_lpips", opened)
    assert open_distance(Path("w.pth"), allow_download=True, device=CPU) is found
    substitute = open_distance(None, allow_download=False, device=CPU)
    assert isinstance(substitute, Substitute)
    assert (substitute.name, substitute.sha256) == (SUBSTITUTE, None)
    assert given == [(Path("w.pth"), True, CPU), (None, False, CPU)]
    a, b = photos(), photos(seed=1)
    torch.testing.assert_close(substitute.to(b)(a), multiscale_dssim(a, b))
