"""What tests of berttools share: running it inside this process, where importing torch is done, and tiny models."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from berttools.classifier.model import Classifier, open_base
from berttools.texts.labels import Labels
from berttools.tuning import trainer as training
from conftest import Run
from tiny_models import make_base, texts, write_lines


@pytest.fixture
def berttools(run_inside: Callable[..., Run]) -> Callable[..., Run]:
    """Run berttools to its end; stdin is empty unless given."""
    return functools.partial(run_inside, "berttools")


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractContextManager[None]]:
    """Interrupt trainings inside the block: before a step, or after a checkpoint, the first or that of a step."""

    @contextmanager
    def within(*, before: int | None = None, saved: int | None = None) -> Iterator[None]:
        save, step = training.Trainer.save, training.Trainer._step

        def and_stop(self: training.Trainer, *arguments: Any) -> None:
            save(self, *arguments)
            if before is None and saved in (None, self.step):
                raise KeyboardInterrupt

        def until(self: training.Trainer, number: int) -> Any:
            if number == before:
                raise KeyboardInterrupt
            return step(self, number)

        with monkeypatch.context() as patched:
            patched.setattr(training.Trainer, "save", and_stop)
            patched.setattr(training.Trainer, "_step", until)
            yield

    return within


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a head."""
    return make_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty texts of two classes."""
    return write_lines(tmp_path_factory.mktemp("texts") / "train.jsonl", texts(40))


@pytest.fixture(scope="session")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty others."""
    return write_lines(tmp_path_factory.mktemp("texts") / "dev.jsonl", texts(20, seed=1))


@pytest.fixture
def classifier(base: Path, one_thread: None) -> Classifier:
    """That BERT with a new head of two classes."""
    return open_base(base, Labels(("0", "1")), seed=0)
