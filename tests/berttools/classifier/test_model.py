"""Opening a model leaves what belongs to the whole process as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import logging

from berttools.checkpoints.files import open_checkpoint
from berttools.checkpoints.model_folder import silent_transformers
from berttools.classifier.model import open_base, open_model
from berttools.layerdiff.random_init import random_init
from berttools.texts.labels import Labels
from tiny_models import make_tuned

OPENERS: dict[str, Callable[[Path], Any]] = {
    "a base": lambda folder: open_base(folder, Labels(("0", "1"))),
    "a base with a head of its own": lambda folder: open_base(folder, Labels(("a", "b", "c"))),
    "a model": open_model,
    "a base without its training": lambda folder: random_init(open_checkpoint(folder), 5),
}


@pytest.mark.parametrize("what", OPENERS)
def test_opening_leaves_generators_and_logging_as_they_were(base: Path, tmp_path: Path, what: str) -> None:
    folder = base if what == "a base" else make_tuned(base, tmp_path / "tuned")
    torch.manual_seed(3)
    state, (level, bar) = torch.get_rng_state(), (logging.get_verbosity(), logging.is_progress_bar_enabled())
    logging.set_verbosity_info()
    logging.enable_progress_bar()
    try:
        OPENERS[what](folder)
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.INFO, True)
        with silent_transformers():
            assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.ERROR, False)
    finally:
        logging.set_verbosity(level)
        (logging.enable_progress_bar if bar else logging.disable_progress_bar)()
    assert torch.equal(torch.get_rng_state(), state)
