"""The way of ``facetools evaluate`` from inputs to evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from _toolio.cli.progress import track
from _toolio.compute.device import pick_device
from _toolio.errors import InputError, ToolError
from _toolio.streams.inputs import count, open_items
from _toolio.streams.records import RecordWriter
from facetools.evaluation.cloaks import Cloaks, match_cloaks, refuse_equal
from facetools.evaluation.experiment import Evaluation
from facetools.evaluation.gallery import Gallery, name_people, read_labels, refuse_known, refuse_zeros, without_others
from facetools.evaluation.gallery_sources import PhotoEmbedder, read_gallery
from facetools.evaluation.request import END_TO_END, NEIGHBOURS, TWO_MODELS, Asked
from facetools.evaluation.splits import Plan, refuse_few
from facetools.evaluation.summary import summarise
from facetools.extractors.factory import DEFAULT
from facetools.intake_records import needing_work
from facetools.pairs import without_suffix

if TYPE_CHECKING:
    from facetools.evaluation.classifiers.embedding_classifiers import Classifier, Task
    from facetools.extractors.extractor import Extractor

Key = tuple[str, str]
"""Names of an extractor and of what was done to the photos first."""


@dataclass(frozen=True, slots=True)
class Case:
    """One combination of what was asked for.

    Attributes
    ----------
    asked
        The options.
    about, made
        What its records say of it before and after their numbers.
    command
        Gives the command line of the record of a person, or of all (None).
    evaluation
        What runs it.
    train
        Makes the classifier, if ``evaluation`` does not know it.
    """

    asked: Asked
    about: dict[str, Any]
    made: dict[str, Any]
    command: Callable[[str | None], str]
    evaluation: Evaluation
    train: Callable[[Sequence[Task]], Classifier] | None = None

    def run(self, writer: RecordWriter) -> None:
        """Protect everybody who was asked for: a record each, then one of all."""
        done = []
        for person, fields in self._people():
            made = {**self.made, "command": self.command(person)}
            if isinstance(fields, InputError):
                writer.fail(fields, {"person": person, **self.about, **made})
                continue
            done.append(fields)
            writer.emit({"person": person, **self.about, **fields, **made})
        if done:
            made = {**self.made, "command": self.command(None)}
            writer.emit({"person": None, **self.about, **summarise(done), **made})

    def _people(self) -> Iterator[tuple[str, dict[str, Any] | InputError]]:
        able = self.evaluation.protected
        wanted = able if self.asked.everybody else list(dict.fromkeys(self.asked.protected))
        for name in wanted:
            if name not in able:
                message = f"{name}: no cloaked photo of theirs is in {self.about['cloak']}; add some"
                yield name, InputError(message, kind="no-cloak")
        yield from self.evaluation.run(self.about["classifier"], [name for name in wanted if name in able], self.train)


class Kitchen:
    """Brings inputs to evaluations; photos that cannot be used become records.

    Parameters
    ----------
    asked
        What to evaluate.
    writer
        Gets these records.
    """

    def __init__(self, asked: Asked, writer: RecordWriter) -> None:
        self._asked, self._writer = asked, writer
        self._inputs: list[dict[Key, Gallery]] = []
        self._extractors: dict[str, tuple[str, Extractor]] = {}
        self._robust: str | None = None

    def read(self) -> None:
        """Read embeddings, which must all be of one extractor."""
        for name in self._asked.inputs:
            gallery = read_gallery(name)
            first = next(iter(self._inputs[0].values())) if self._inputs else gallery
            if gallery.digest != first.digest:
                raise ToolError(
                    f"{name}: embedded by {gallery.extractor} ({gallery.digest[:12]}), but {self._asked.gallery} by "
                    f"{first.extractor} ({first.digest[:12]}); embed both with one extractor",
                    kind="extractors-differ",
                )
            widths = gallery.embeddings.shape[1], first.embeddings.shape[1]
            if len(set(widths)) > 1:
                raise ToolError(
                    f"{name}: embeddings of {widths[0]} numbers, but those of {self._asked.gallery} have {widths[1]}; "
                    "embed both once more",
                    kind="embeddings",
                )
            self._inputs.append({(first.extractor, "none"): gallery})

    def embed(self) -> None:
        """Find faces in photos and embed them with every extractor."""
        from facetools.extractors.factory import open_extractors
        from facetools.intake import take_in

        asked, place = self._asked, pick_device(self._asked.device)
        names = [*dict.fromkeys(asked.extractors or [DEFAULT]), *([asked.robust] if asked.robust else [])]
        extractors = open_extractors(names, place)
        self._extractors = {made.name: (name, made) for name, made in zip(names, extractors, strict=True)}
        self._robust = extractors[-1].name if asked.robust else None
        faces = "crop" if asked.crops else asked.faces or "largest"
        for name in asked.inputs:
            items = open_items([name])
            embedder = PhotoEmbedder(extractors, asked.steps, chips=END_TO_END in asked.classifiers)
            tracked = track(items, f"embedding {name}", count(items))
            for intake in needing_work(self._writer, take_in(tracked, place, faces=faces, min_face_px=asked.min_face)):
                embedder.add(intake)
                if not intake.faces:
                    about = {"path": intake.item.path, "relative": intake.item.relative, "input": name}
                    self._writer.emit({**about, "reason": "no face found: not used"})
            self._inputs.append(embedder.galleries(name))

    def match(self) -> tuple[list[str], list[Cloaks]]:
        """Name the people, and match cloaked photos to clean ones; those without one become records."""
        asked = self._asked
        whole = [next(iter(galleries.values())) for galleries in self._inputs]
        for number, galleries in enumerate(self._inputs):
            others, cloaked = (whole[:1], True) if number else (whole[1:], False)
            for key, gallery in galleries.items():
                refuse_zeros(gallery, asked.distance or gallery.distance, asked.inputs[number])
                galleries[key] = without_others(gallery, others, suffix=asked.suffix, cloaked=cloaked)
        clean, *copies = (list(galleries.values()) for galleries in self._inputs)
        people = name_people(clean[0], read_labels(asked.labels) if asked.labels else None)
        for gallery in clean:
            refuse_known(gallery, people)
        refuse_few(people, asked.folds)
        self._refuse_strangers(people)
        cloaks = []
        for name, cloaked_ones in zip(asked.cloaked, copies, strict=True):
            cloaks.append(match_cloaks(name, clean[0], cloaked_ones[0], suffix=asked.suffix))
            refuse_equal(cloaks[-1], clean, cloaked_ones)
            self._tell_unmatched(cloaks[-1])
        return people, cloaks

    def _refuse_strangers(self, people: Sequence[str]) -> None:
        """Refuse to protect who is not there."""
        known = list(dict.fromkeys(people))
        for name in () if self._asked.everybody else self._asked.protected:
            if name not in known:
                near = get_close_matches(name, known, 1)
                hint = f"is it {near[0]}?" if near else f"there are {len(known)}, {known[0]} for one"
                raise ToolError(f"--protected {name}: no such person in {self._asked.gallery}; {hint}", kind="labels")

    def _tell_unmatched(self, cloaks: Cloaks) -> None:
        """Make records of cloaked photos that are of no use."""
        suffix, gallery = self._asked.suffix, self._asked.gallery
        for path in cloaks.unmatched:
            message = (
                f"{path}: its name does not end in --suffix {suffix}; rename it, or leave it out"
                if suffix and without_suffix(path, suffix) is None
                else f"{path}: no clean photo of this name in {gallery}; add it, or give --suffix"
            )
            self._writer.fail(InputError(message, kind="no-match"), {"path": path, "input": cloaks.name})
        for path, original in cloaks.orphans:
            reason = f"no face was found in its clean photo, {original}: not used"
            self._writer.emit({"path": path, "input": cloaks.name, "reason": reason})

    def cases(self) -> Iterator[Case]:
        """Give every combination of extractor, preprocess, cloak (each, then all in turn) and classifier."""
        people, cloaks = self.match()
        groups = [[number] for number in range(len(cloaks))]
        groups += [list(range(len(cloaks)))] if len(cloaks) > 1 else []
        for name, step in self._inputs[0]:
            if name == self._robust:
                continue
            for group in groups:
                for classifier in self._asked.classifiers:
                    yield self._case((name, step), [cloaks[n] for n in group], group, classifier, people)

    def _case(
        self, key: Key, cloaks: Sequence[Cloaks], group: Sequence[int], classifier: str, people: Sequence[str]
    ) -> Case:
        asked, (name, step) = self._asked, key
        keys = [key, *([(self._robust, step)] if self._robust and classifier in TWO_MODELS else [])]
        models = [self._inputs[0][each] for each in keys]
        copies = [[self._inputs[1 + n][each] for each in keys] for n in group]
        named = [each.name for each in cloaks]
        about = {"classifier": classifier, "extractor": name, "preprocess": step, "cloak": "+".join(named)}
        made = {"cloaks": named, **self._made(classifier, models)}
        train = None
        if len(models) > 1:
            about |= {"robust": models[1].extractor}
        if classifier == END_TO_END:
            from facetools.evaluation.classifiers.end_to_end import BATCH
            from facetools.training.loop import TrainingConfig

            models, copies = [models[0].of_chips()], [[each[0].of_chips()] for each in copies]
            config = TrainingConfig(
                epochs=asked.epochs, batch=BATCH, learning_rate=asked.learning_rate, seed=asked.seed
            )
            train = partial(_end_to_end, self._extractors[name][1], config)
        plan = Plan(asked.split, asked.folds, asked.seed, asked.fraction, asked.drop_missing)
        evaluation = Evaluation(models, copies, cloaks, people, plan, asked.distance)
        option = self._extractors[name][0] if asked.photos else name

        def command(person: str | None) -> str:
            return asked.command(classifier=classifier, extractor=option, preprocess=step, cloaked=named, person=person)

        return Case(asked, about, made, command, evaluation, train)

    def _made(self, classifier: str, models: Sequence[Gallery]) -> dict[str, Any]:
        """Give what made the numbers, besides what tells cases apart."""
        asked, made = self._asked, {"extractor_sha256": models[0].digest}
        near = [asked.distance or model.distance if classifier in NEIGHBOURS else None for model in models]
        more: dict[str, Any] = {"distance": near[0]}
        if len(models) > 1:
            more |= {"robust_sha256": models[1].digest, "robust_distance": near[1]}
        if classifier == END_TO_END:
            more |= {"epochs": asked.epochs, "learning_rate": asked.learning_rate}
        dealt = {"split": asked.split if asked.folds == 1 else None, "folds": asked.folds, "fraction": asked.fraction}
        return {**made, **more, **dealt, "drop_missing": asked.drop_missing, "seed": asked.seed}


def _end_to_end(extractor: Extractor, config: Any, tasks: Sequence[Task]) -> Classifier:
    from facetools.evaluation.classifiers.end_to_end import EndToEnd

    return EndToEnd(tasks[0], extractor, config)
