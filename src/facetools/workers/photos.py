"""Workers of photos: a model is opened once, requests go in, and what comes out can be sent to another process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import TYPE_CHECKING, Generic, TypeVar

from _toolio.compute.device import share_out
from _toolio.compute.memory import Batch, give_back_unused, is_out_of_memory
from _toolio.engines.engine import Engine, Opening, in_groups
from _toolio.streams.inputs import Item
from _toolio.streams.records import Record
from facetools.added_faces import AddedFaces
from facetools.faces.search import FaceSearch
from facetools.intake import Finished, FinishedBefore, Intake, Reader, Refusal, Request, requests_of, unfinished
from facetools.photos.codec import no_room

if TYPE_CHECKING:
    import torch

R = TypeVar("R")

_PARTS_PER_TRIM = 250
"""So many parts of requests until memory is given back, which takes up to a tenth of a second."""


@dataclass(frozen=True, slots=True)
class Processed(Generic[R]):
    """What was made of one input, without its bytes and pixels.

    Attributes
    ----------
    item
        The input; the first of several that name faces of one photo.
    named
        The records that named the faces, one a face; empty where the photo was searched for faces.
    made
        What was made of it.
    """

    item: Item
    named: tuple[Record, ...]
    made: R

    def record_of(self, index: int) -> Record:
        """Return the record whose other fields pass through to that of a face, by the face's index."""
        return self.named[index] if self.named else self.item.record


Result = Processed[R] | Refusal | Finished


class PhotoWorker(ABC, Generic[R]):
    """Read, decode and find faces, and make something of each photo. What it makes does not depend on the batch.

    Parameters
    ----------
    device
        Where it computes.
    search
        How faces are searched for.
    batch
        Photos that are worked on together on an accelerator; on a CPU each is by itself, in a thread of its own.
    search_together
        Search the photos of a batch for faces together, too, and not one after the other.

    Attributes
    ----------
    threads
        How many may call it at a time; on a CPU each should compute on one thread, as the last bits depend on that.
    per_call
        How many requests to call it with.
    at_once
        How many photos it works on together now: fewer where memory ran out.
    """

    def __init__(self, device: torch.device, search: FaceSearch, batch: int, *, search_together: bool = True) -> None:
        self.device = device
        self.threads, self.per_call = share_out(device, batch)
        self.at_once = Batch(self.per_call)
        self._parts = count(1)  # drawn from in several threads, each number once
        self._reader = Reader(device, search, self.at_once if search_together else Batch(1))

    @abstractmethod
    def make(self, intakes: Sequence[Intake]) -> list[R]:
        """Return what is made of each photo: plain data, which another process can be sent."""

    def __call__(self, requests: Sequence[Request | Finished]) -> Iterator[Result[R]]:
        """Yield what is made of each photo, or why it cannot be used, in order; what is finished passes."""
        for part in in_groups(requests, self.per_call):
            yield from self._process(part)
            if next(self._parts) % _PARTS_PER_TRIM == 0:
                give_back_unused()

    def _process(self, part: Sequence[Request | Finished]) -> Iterator[Result[R]]:
        read = self._reader.read(part)
        intakes = [each for each in read if isinstance(each, Intake)]
        made = chain.from_iterable(self.at_once.map(self._make, intakes))
        for each in read:
            yield from next(made) if isinstance(each, Intake) else [each]

    def _make(self, intakes: Sequence[Intake]) -> list[list[Result[R]]]:
        """Make something of photos; refuse a photo that memory does not suffice for."""
        try:
            made = self.make(intakes)
            return [[Processed(each.item, each.named, one)] for each, one in zip(intakes, made, strict=True)]
        except (RuntimeError, MemoryError) as error:
            if len(intakes) > 1 or not is_out_of_memory(error):
                raise
        (intake,) = intakes
        items = [replace(intake.item, record=record) for record in intake.named] or [intake.item]
        return [[Refusal(item, no_room(item.path)) for item in items]]


def process(
    items: Iterable[Item],
    engine: Engine,
    opening: Opening[Request | Finished, Result[R]],
    worker: PhotoWorker[R] | None = None,
    *,
    batch: int,
    on_cpu: int | None = None,
    added: AddedFaces | None = None,
    finished: FinishedBefore | None = None,
) -> Iterator[Result[R]]:
    """Work on photos with an engine; yield what is made of them in the order of the items.

    Parameters
    ----------
    items, added
        As `requests_of` takes them.
    engine, opening, worker, batch, on_cpu
        As `Engine.map` takes them.
    finished
        Returns the records of an input that need not be done again.
    """
    requests = requests_of(items, added=added)
    asked = requests if finished is None else unfinished(requests, finished)
    return engine.map(opening, asked, worker, batch=batch, on_cpu=on_cpu)
