"""Cloak photos with one attack: the session that opens what it needs and runs it.

Importing this module imports neither torch nor Pillow, so that commands can check what they were given first.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.errors import UsageError, param
from facetools.added_faces import read_added_faces
from facetools.cloaking.config import CloakingConfig

if TYPE_CHECKING:
    import torch

    from _toolio.engines.engine import Engine
    from _toolio.streams.inputs import Item
    from _toolio.streams.records import Record
    from facetools.cloaking.cloaker import Cloaker, CloakingWorker
    from facetools.cloaking.engine import Recipe
    from facetools.cloaking.goals.goal import Goal
    from facetools.extractors.extractor import Extractor
    from facetools.intake import FinishedBefore
    from facetools.outputs import Outputs
    from facetools.workers.photos import Result

SCHEMA = "facetools.perturb/1"
"""Of the records of cloaked photos."""


class CloakingSession:
    """Finds faces and cloaks them: several at once, while the next photos are read.

    ::

        session = CloakingSession(CloakingConfig(attack="lowkey", knobs={"steps": 20}))
        for records in session.write(open_items(["photos/"]), Path("cloaked/")):
            print(records)

    Parameters
    ----------
    config
        What to do.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    batch
        Faces that are worked on together on an accelerator; on a CPU photos are worked on side by side, one a thread,
        and torch computes on one thread each until the photos are done.
    warn
        Called with a line about each photo of ``config.others`` that is left out.

    Raises
    ------
    UsageError
        See ``CloakingConfig.check``; or there is no such extractor, file or device.
    ToolError
        An extractor, a file of targets, weights or faces is damaged or of another kind.
    """

    def __init__(
        self,
        config: CloakingConfig,
        *,
        device: str = "auto",
        batch: int = 8,
        warn: Callable[[str], object] = warnings.warn,
    ) -> None:
        from _toolio.compute.device import one_thread, pick_device

        config.check()
        self.config, self._warn, self._batch = config, warn, batch
        self.device: torch.device = pick_device(device)
        with one_thread(self.device):  # others are embedded: the last bits depend on how many there are
            self._recipe = self._open()
        self._measured = self._open_measured()
        self._added = read_added_faces(config.faces_file)

    def _open(self) -> Recipe:
        """Open the extractors, the perceptual distance and the targets."""
        from facetools.cloaking.engine import Recipe
        from facetools.cloaking.targets import Targets
        from facetools.extractors.factory import open_extractors
        from facetools.perceptual.distance import open_distance

        config = self.config
        ensemble = open_extractors(list(config.extractor), self.device)
        people = Targets(config.targets, ensemble) if config.targets else None
        distance = open_distance(config.lpips_weights, allow_download=config.allow_download, device=self.device)
        mode = config.mode or config.method.default_mode
        views = tuple(config.views)
        return Recipe(
            config.method,
            mode,
            config.all_knobs,
            ensemble,
            distance,
            config.seed,
            views,
            people,
            goal=self._open_goal(ensemble),
        )

    def _open_goal(self, ensemble: Sequence[Extractor]) -> Goal | None:
        """Open what a face must reach for its attack to stop."""
        from facetools.cloaking.goals.goal import Goal
        from facetools.cloaking.goals.others import open_others

        config = self.config
        if config.until_moved is None and not config.until_hidden:
            return None
        if not config.until_hidden:
            return Goal(config.until_moved)
        names = [str(name) for name in config.others]
        return Goal(config.until_moved, open_others(names, ensemble, all_files=config.all_files, warn=self._warn))

    def _open_measured(self) -> list[Extractor]:
        """Open the extractors that are measured and not attacked."""
        from facetools.extractors.factory import open_extractors

        measured = open_extractors(list(self.config.measure), self.device)
        if twice := {e.name for e in measured} & {e.name for e in self._recipe.extractors}:
            raise UsageError(f"{param('measure')} {twice.pop()}: it is in the ensemble; name one that is not")
        return measured

    @property
    def _cloaker(self) -> Cloaker:
        from _toolio.compute.device import share_out
        from facetools.cloaking.cloaker import Cloaker

        together = share_out(self.device, self._batch)[1]
        return Cloaker(self._recipe, self.config.saving, unseen=self._measured, batch=together)

    @property
    def arguments(self) -> dict[str, Any]:
        """What the cloaked photos and their records depend on besides the photos, as JSON; see ``PhotoFolder``.

        Those of a person's masks are among them once ``prepare_masks`` has read or made them.
        """
        return {"schema": SCHEMA, **self._cloaker.arguments, **self.config.search.arguments}

    def prepare_masks(self, items: Iterable[Item], *, resume: bool = False) -> None:
        """Read the masks to apply, or make one for each person in the photos and save them.

        Parameters
        ----------
        items
            The photos that masks are made from.
        resume
            Take masks that are saved already, if they are those that would be made.

        Raises
        ------
        UsageError
            No mask can be made of these photos, or what is saved was made with another configuration.
        ToolError
            A file holds no masks.
        """
        from facetools.cloaking.person_masks import Masks

        source = self.config.mask
        if source is None:
            assert self.config.save_mask is not None, "CloakingConfig.check"
            source = self.config.save_mask
            about = self._about_masks()
            if resume and source.exists():
                saved = Masks(source).about
                for key, value in about.items():
                    if key != "version" and saved.get(key) != value:
                        what, how = param("save_mask"), param("force")
                        raise UsageError(f"{what} {source}: made with other {key}; use {how} to make it again")
            else:
                self._make_masks(items, source, about)
        masks = Masks(source)
        # What a mask is made with stands in its file, whatever this configuration says.
        made_with: dict[str, Any] = {key: masks.about[key] for key in ("mode", "knobs", "seed") if key in masks.about}
        made_with["views"] = tuple(masks.about.get("views", self._recipe.views))
        made_with["made_against"] = tuple(masks.about.get("extractors", ()))
        self._recipe = replace(self._recipe, masks=masks, **made_with)

    def _about_masks(self) -> dict[str, Any]:
        from _toolio.version import tool_version

        about: dict[str, Any] = {"version": tool_version(), **self._recipe.describe()}
        about["extractors"] = {extractor.name: extractor.sha256 for extractor in self._recipe.extractors}
        if self._recipe.goal is not None:
            about["until"] = self._recipe.goal.describe()
        return about

    def _make_masks(self, items: Iterable[Item], path: Path, about: Mapping[str, Any]) -> None:
        from _toolio.compute.device import one_thread
        from facetools.cloaking.engine import make_mask
        from facetools.cloaking.person_masks import gather, save_masks
        from facetools.intake import Intake, take_in

        with one_thread(self.device):
            taken = take_in(items, self.device, faces=self.config.search, added=self._added)
            people = gather(each for each in taken if isinstance(each, Intake))
            if not people:
                raise UsageError(f"{param('save_mask')}: no face in any photo")
            masks = {person: make_mask(photos, person, self._recipe) for person, photos in people.items()}
        made = {person: both for person, both in masks.items() if both is not None}
        if not made:
            raise UsageError(f"{param('save_mask')}: too little of any face is in the photos")
        if self._recipe.goal is not None:
            about = {**about, "steps_used": {person: steps for person, (_, steps) in made.items()}}
        save_masks(path, {person: mask for person, (mask, _) in made.items()}, about)

    @property
    def worker(self) -> CloakingWorker:
        """What finds faces and cloaks them; masks must be prepared."""
        from facetools.cloaking.cloaker import CloakingWorker

        return CloakingWorker(self._cloaker, self.config.search, self.device, self._batch)

    def cloak(
        self,
        items: Iterable[Item],
        finished: FinishedBefore | None = None,
        *,
        whole: bool = True,
        engine: Engine | None = None,
    ) -> Iterator[Result[Outputs]]:
        """Cloak photos.

        Parameters
        ----------
        items
            Photos, or records that name their faces, from ``open_items``. Where each person gets one mask that is
            yet to be made (see ``prepare_masks``), they are read twice.
        finished
            Returns the records of an input that need not be done again: ``PhotoFolder.finished``.
        whole
            The items are all that there are, and not a shard: a photo that the file of faces names and that is not
            among them is refused at the end.
        engine
            What runs the work; None: threads of this process.

        Yields
        ------
        Processed, Refusal or Finished
            For each input, in order: its cloaked copy, why it cannot be used, or what an earlier run printed of it.
        """
        from _toolio.engines.engine import LocalEngine
        from facetools.intake import Refusal
        from facetools.workers.photos import process

        if self.config.method.per_person and self._recipe.masks is None:
            items = list(items)
            self.prepare_masks(items)
        opening = partial(open_worker, self.config, self._batch)
        cloaked = process(
            items,
            engine or LocalEngine(str(self.device)),
            opening,
            self.worker,
            batch=self._batch,
            on_cpu=1,  # a photo takes seconds
            added=self._added,
            finished=finished,
        )
        unused = (Refusal(item, item.error) for item in self._added.unused())
        return chain(cloaked, unused if whole else ())

    def write(
        self,
        items: Iterable[Item],
        out: Path,
        *,
        resume: bool = False,
        force: bool = False,
    ) -> Iterator[list[Record]]:
        """Cloak photos into a folder, as ``facetools perturb`` does: either can resume what the other began.

        Parameters
        ----------
        items
            As ``cloak`` takes them.
        out, resume, force
            As ``PhotoFolder`` takes them; ``resume`` takes masks that are saved already, too (see ``prepare_masks``).

        Yields
        ------
        list of Record
            For each input, in order, its records: one a face; the records of the run that finished it; one with an
            ``error`` where it cannot be used; or its own, where it was a record that needs no work.
        """
        from facetools.intake_records import records_without_work
        from facetools.outputs import PhotoFolder
        from facetools.workers.photos import Processed

        if self.config.method.per_person:
            items = list(items)
            self.prepare_masks(items, resume=resume)
        with PhotoFolder(out, "facetools-perturb", self.arguments, resume=resume, force=force) as folder:
            for each in self.cloak(items, folder.finished):
                if isinstance(each, Processed):
                    records = folder.keep(each, complete)
                    yield [complete(record, through=each.record_of(index)) for index, record in enumerate(records)]
                else:
                    yield records_without_work(each, complete, makes_files=True)


def complete(fields: Mapping[str, Any], *, through: Mapping[str, Any] | None = None) -> Record:
    """Build the record of a cloaked face from its fields, as ``facetools perturb`` prints it."""
    record: Record = {"moved": fields.get("moved"), "schema": SCHEMA}
    for key, value in chain(fields.items(), (through or {}).items()):
        record.setdefault(key, value)
    return record


def open_worker(config: CloakingConfig, batch: int, device: str) -> CloakingWorker:
    """Open a worker in a process of its own, where the session of another one has prepared masks and said warnings."""
    session = CloakingSession(config, device=device, batch=batch, warn=lambda _: None)
    if config.method.per_person:
        session.prepare_masks((), resume=True)
    return session.worker
