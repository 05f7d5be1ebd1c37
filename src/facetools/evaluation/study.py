"""Evaluate cloaks under every combination of extractor, preprocessing, cloak and classifier."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from _toolio.compute.device import pick_device
from _toolio.errors import InputError, ToolError, param
from _toolio.progress import Progress, no_progress
from _toolio.streams.inputs import count, open_items
from facetools.attacks.origins import is_white_box, merged
from facetools.evaluation.checks import check_config
from facetools.evaluation.cloaks import Cloaks, match_cloaks, refuse_equal
from facetools.evaluation.config import END_TO_END, NEIGHBOURS, TWO_MODELS, EvaluationConfig, FineTuningConfig
from facetools.evaluation.experiment import Evaluation
from facetools.evaluation.gallery import (
    Gallery,
    name_people,
    read_labels,
    refuse_copies,
    refuse_known,
    refuse_zeros,
    without_others,
)
from facetools.evaluation.gallery_sources import PhotoEmbedder, read_gallery
from facetools.evaluation.splits import refuse_few
from facetools.evaluation.summary import summarise
from facetools.extractors.factory import DEFAULT
from facetools.pairs import without_suffix
from facetools.people import composed

if TYPE_CHECKING:
    from facetools.evaluation.classifiers.embedding_classifiers import Classifier, Task
    from facetools.extractors.extractor import Extractor
    from facetools.intake import Finished, Refusal

Key = tuple[str, str]
"""Names of an extractor and of a preprocessing step."""


@dataclass(frozen=True, slots=True)
class Combination:
    """The settings that one set of results shares.

    Attributes
    ----------
    classifier, preprocess
        Their names.
    extractor
        The name or file in the configuration; of embeddings the name in their file.
    cloaked
        Inputs with the cloaked photos; several for someone who changed their cloak.
    """

    classifier: str
    extractor: str
    preprocess: str
    cloaked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Protection:
    """How well one person is protected, or the mean over people, under one combination of settings.

    Attributes
    ----------
    combination
        The settings.
    person
        Who was protected; None for the summary of all.
    fields
        The record: figures, settings and digests of what made them.
    error
        Why there are no figures.
    """

    combination: Combination
    person: str | None
    fields: dict[str, Any]
    error: InputError | None = None


@dataclass(frozen=True, slots=True)
class UnusedPhoto:
    """A photo that takes no part.

    Attributes
    ----------
    fields
        ``path``, ``input`` and, without an error, ``reason``.
    error
        Why it should have taken part and cannot.
    """

    fields: dict[str, Any]
    error: InputError | None = None


@dataclass(frozen=True, slots=True)
class _Case:
    """One combination, ready to run: what its records hold before and after their figures, and what computes them."""

    combination: Combination
    about: dict[str, Any]
    made: dict[str, Any]
    evaluation: Evaluation
    train: Callable[[Sequence[Task]], Classifier] | None


class EvaluationStudy:
    """Evaluate cloaks on photos or embeddings of known people.

    Parameters
    ----------
    config
        Inputs and settings.
    progress
        Shows the progress over the photos that are embedded.

    Raises
    ------
    UsageError
        Settings contradict each other.
    ToolError
        An input does not exist.
    """

    def __init__(self, config: EvaluationConfig, *, progress: Progress = no_progress) -> None:
        check_config(config)
        self._config, self._progress = config, progress
        self._inputs: list[dict[Key, Gallery]] = []
        self._extractors: dict[str, tuple[str, Extractor]] = {}
        self._robust: str | None = None
        self._protected: list[str] = []

    def run(self) -> Iterator[Protection | UnusedPhoto | Refusal | Finished]:
        """Yield a result for each protected person and then their summary, combination by combination.

        Photos that cannot be read are yielded as they are met (``Refusal``), and those that no result uses before the
        first result.

        Raises
        ------
        ToolError
            Inputs cannot be evaluated: embeddings of several extractors, no cloaked copy of any photo, one person
            alone, a person who is not there.
        """
        self._inputs.clear()
        if self._config.has_photos:
            yield from self._embed()
        else:
            self._read()
        people, cloaks = yield from self._match()
        for case in self._cases(people, cloaks):
            yield from self._results(case)

    def _read(self) -> None:
        """Read embeddings, which must all be of one extractor."""
        config = self._config
        for name in config.inputs:
            gallery = read_gallery(name)
            first = next(iter(self._inputs[0].values())) if self._inputs else gallery
            if gallery.digest != first.digest:
                raise ToolError(
                    f"{name}: embedded by {gallery.extractor} ({gallery.digest[:12]}), but {config.gallery} by "
                    f"{first.extractor} ({first.digest[:12]}); embed both with one extractor",
                    kind="extractors-differ",
                )
            widths = gallery.embeddings.shape[1], first.embeddings.shape[1]
            if len(set(widths)) > 1:
                raise ToolError(
                    f"{name}: embeddings of {widths[0]} numbers, but those of {config.gallery} have {widths[1]}; "
                    "embed both once more",
                    kind="embeddings",
                )
            self._inputs.append({(first.extractor, "none"): gallery})

    def _embed(self) -> Iterator[UnusedPhoto | Refusal | Finished]:
        """Find faces in photos and embed them with every extractor, after every preprocessing step."""
        from facetools.extractors.factory import open_extractors
        from facetools.intake import Intake, take_in

        config, options = self._config, self._config.embedding
        device = pick_device(options.device)
        names = [*dict.fromkeys(options.extractor or [DEFAULT]), *([options.robust] if options.robust else [])]
        extractors = open_extractors(names, device)
        self._extractors = {made.name: (name, made) for name, made in zip(names, extractors, strict=True)}
        self._robust = extractors[-1].name if options.robust else None
        for name in config.inputs:
            items = open_items([name])
            embedder = PhotoEmbedder(extractors, options.steps, chips=END_TO_END in config.classifier)
            shown = self._progress(items, f"embedding {name}", count(items))
            for intake in take_in(shown, device, faces=options.search):
                if not isinstance(intake, Intake):
                    yield intake
                    continue
                embedder.add(intake)
                if not intake.faces:
                    about = {"path": intake.item.path, "relative": intake.item.relative, "input": name}
                    yield UnusedPhoto({**about, "reason": f"{intake.no_face}: not used"})
            self._inputs.append(embedder.galleries(name))

    def _match(self) -> Generator[UnusedPhoto, None, tuple[list[str], list[Cloaks]]]:
        """Name the people and match cloaked photos to clean ones; yield the cloaked photos without a counterpart."""
        config = self._config
        whole = [next(iter(galleries.values())) for galleries in self._inputs]
        for number, galleries in enumerate(self._inputs):
            others, cloaked = (whole[:1], True) if number else (whole[1:], False)
            for key, gallery in galleries.items():
                refuse_zeros(gallery, config.distance or gallery.distance, config.inputs[number])
                galleries[key] = without_others(gallery, others, suffix=config.suffix, cloaked=cloaked)
        clean, *copies = (list(galleries.values()) for galleries in self._inputs)
        people = name_people(clean[0], read_labels(config.labels) if config.labels else None)
        refuse_copies(clean[0], people)
        for gallery in clean:
            refuse_known(gallery, people)
        refuse_few(people, config.protocol.folds)
        self._protected = self._find_protected(people)
        cloaks = []
        for name, cloaked_ones in zip(config.cloaked, copies, strict=True):
            cloaks.append(match_cloaks(name, clean[0], cloaked_ones[0], suffix=config.suffix))
            refuse_equal(cloaks[-1], clean, cloaked_ones)
            yield from self._unmatched(cloaks[-1])
        return people, cloaks

    def _find_protected(self, people: Sequence[str]) -> list[str]:
        """Return who is to be protected by their names in the gallery; refuse a person who is not in it."""
        known, found = {composed(name): name for name in people}, []
        for name in () if self._config.protects_everybody else self._config.protected:
            if (there := known.get(composed(name))) is None:
                names = list(known.values())
                near = get_close_matches(name, names, 1)
                hint = f"is it {near[0]}?" if near else f"there are {len(names)}, {names[0]} for one"
                raise ToolError(
                    f"{param('protected')} {name}: no such person in {self._config.gallery}; {hint}", kind="labels"
                )
            found.append(there)
        return list(dict.fromkeys(found))

    def _unmatched(self, cloaks: Cloaks) -> Iterator[UnusedPhoto]:
        """Yield the cloaked photos that have no clean photo, or one without a face."""
        suffix, gallery = self._config.suffix, self._config.gallery
        for path in cloaks.unmatched:
            message = (
                f"{path}: its name does not end in {param('suffix')} {suffix}; rename it, or leave it out"
                if suffix and without_suffix(path, suffix) is None
                else f"{path}: no clean photo of this name in {gallery}; add it, or give {param('suffix')}"
            )
            yield UnusedPhoto({"path": path, "input": cloaks.name}, InputError(message, kind="no-match"))
        for path, original in cloaks.orphans:
            reason = f"no face was found in its clean photo, {original}: not used"
            yield UnusedPhoto({"path": path, "input": cloaks.name, "reason": reason})

    def _cases(self, people: Sequence[str], cloaks: Sequence[Cloaks]) -> Iterator[_Case]:
        """Yield every combination of extractor, preprocessing, cloak (each, then all in turn) and classifier."""
        groups = [[number] for number in range(len(cloaks))]
        groups += [list(range(len(cloaks)))] if len(cloaks) > 1 else []
        for name, step in self._inputs[0]:
            if name == self._robust:
                continue
            for group in groups:
                for classifier in dict.fromkeys(self._config.classifier):
                    yield self._case((name, step), {n: cloaks[n] for n in group}, classifier, people)

    def _case(self, key: Key, cloaks: dict[int, Cloaks], classifier: str, people: Sequence[str]) -> _Case:
        """Bring together what one combination needs; ``cloaks`` are its cloaks by their number in the configuration."""
        config, (name, step) = self._config, key
        keys = [key, *([(self._robust, step)] if self._robust and classifier in TWO_MODELS else [])]
        models = [self._inputs[0][each] for each in keys]
        copies = [[self._inputs[1 + number][each] for each in keys] for number in cloaks]
        named = [config.cloak_names[number] for number in cloaks]
        about = {"classifier": classifier, "extractor": name, "preprocess": step, "cloak": "+".join(named)}
        made = {"cloaks": named, **self._made(classifier, models)}
        train = None
        made |= _origin([(cloaks[number], copies[place][0]) for place, number in enumerate(cloaks)], models)
        if len(models) > 1:
            about |= {"robust": models[1].extractor}
        if classifier == END_TO_END:
            models, copies = [models[0].of_chips()], [[each[0].of_chips()] for each in copies]
            train = partial(_end_to_end, self._extractors[name][1], config.fine_tuning, config.protocol.seed)
        evaluation = Evaluation(models, copies, list(cloaks.values()), people, config.protocol, config.distance)
        option = self._extractors[name][0] if config.has_photos else name
        return _Case(
            Combination(classifier, option, step, tuple(each.name for each in cloaks.values())),
            about,
            made,
            evaluation,
            train,
        )

    def _made(self, classifier: str, models: Sequence[Gallery]) -> dict[str, Any]:
        """Return what made the figures, besides what distinguishes combinations."""
        config, protocol = self._config, self._config.protocol
        made: dict[str, Any] = {"extractor_sha256": models[0].digest}
        near = [config.distance or model.distance if classifier in NEIGHBOURS else None for model in models]
        made |= {"distance": near[0]}
        if len(models) > 1:
            made |= {"robust_sha256": models[1].digest, "robust_distance": near[1]}
        if classifier == END_TO_END:
            made |= {"epochs": config.fine_tuning.epochs, "learning_rate": config.fine_tuning.learning_rate}
        made |= {"split": protocol.split if protocol.folds == 1 else None, "folds": protocol.folds}
        made |= {"fraction": protocol.fraction, "drop_missing": protocol.drop_missing, "seed": protocol.seed}
        return made

    def _results(self, case: _Case) -> Iterator[Protection]:
        """Protect people one at a time, then summarise those who have figures."""
        able = case.evaluation.protected
        wanted = able if self._config.protects_everybody else self._protected
        done = []
        for person, found in self._protect(case, wanted, able):
            if isinstance(found, InputError):
                fields = {"person": person, **case.about, **case.made}
                yield Protection(case.combination, person, fields, found)
                continue
            done.append(found)
            yield Protection(case.combination, person, {"person": person, **case.about, **found, **case.made})
        if done:
            fields = {"person": None, **case.about, **summarise(done, folds=case.made["folds"]), **case.made}
            yield Protection(case.combination, None, fields)

    @staticmethod
    def _protect(
        case: _Case, wanted: Sequence[str], able: Sequence[str]
    ) -> Iterator[tuple[str, dict[str, Any] | InputError]]:
        for name in wanted:
            if name not in able:
                message = f"{name}: no cloaked photo of theirs is in {case.about['cloak']}; add some"
                yield name, InputError(message, kind="no-cloak")
        people = [name for name in wanted if name in able]
        yield from case.evaluation.run(case.combination.classifier, people, case.train)


def _origin(copies: Sequence[tuple[Cloaks, Gallery]], models: Sequence[Gallery]) -> dict[str, Any]:
    """Return what cloaks were made against, and whether a network that measures them is of these."""
    origins = [gallery.origins[row] if gallery.origins else None for each, gallery in copies for row in each.used]
    white_box = is_white_box(origins, [(model.extractor, model.digest) for model in models])
    return {"made_against": merged(origins), "white_box": white_box}


def _end_to_end(extractor: Extractor, options: FineTuningConfig, seed: int, tasks: Sequence[Task]) -> Classifier:
    """Make the end-to-end classifier of one split."""
    from facetools.evaluation.classifiers.end_to_end import BATCH, EndToEnd
    from facetools.training.loop import TrainingConfig

    config = TrainingConfig(epochs=options.epochs, batch=BATCH, learning_rate=options.learning_rate, seed=seed)
    return EndToEnd(tasks[0], extractor, config)
