"""A model over a labelled data set -> metrics.json and report.html, both whole or neither."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from segsvc import truth
from segsvc.datasets import Dataset, LabelledImage, Severity, Split
from segsvc.errors import ConfigError, ImageError
from segsvc.evaluation import RESAMPLES, Compared, Observation, Summary, compared, observe, slice_columns, summarise
from segsvc.evaluation.intervals import interval_notes
from segsvc.evaluation.pictures import bad_examples
from segsvc.evaluation.report import render_evaluation
from segsvc.metrics_document import (
    ComparedClasses,
    EvaluatedData,
    EvaluatedModel,
    FailedImage,
    MetricsDocument,
    SeenInTraining,
)
from segsvc.models.library import Model
from segsvc.models.runtime import Predictor
from segsvc.operating_point import OperatingPoint
from segsvc.readahead import in_order
from segsvc.readers import ReadLimits
from segsvc.runner import Progress
from segsvc.settings import settings
from segsvc.stores import PartFolder, store_of
from segsvc.summary import versions
from segsvc.types import Runtime

TRAINED_ON = "trained_on.json"  # in a model's folder: {"sha256": [...]} of the images that it learnt from


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What is to be evaluated, looked up and found sound: nothing of it is left to be found wrong but images and labels."""

    model: Model
    dataset: Dataset
    images: tuple[LabelledImage, ...]
    split: Split | None
    classes: Compared
    slices: tuple[str, ...]
    trained_on: frozenset[str] | None
    out: PartFolder


def request(model: Model, place: str, *, split: str | None, slices: Sequence[str], out: str,
            called: str | None = None) -> EvaluationRequest:
    """What is asked for; called: how the user named the data, where that is no place. Images are not opened.

    Raises ConfigError for whatever is wrong with it.
    """
    dataset = truth.read_dataset(place, called)
    classes = compared(model.card, dataset)
    chosen = chosen_split(dataset, split)
    images = dataset.images if chosen is None else dataset.of(chosen)
    if not images:
        raise ConfigError(f"data set {dataset.place}: expected labelled images, got none"
                          + (f" in the split {chosen.value}" if chosen is not None else ""))
    model.check_weights()
    return EvaluationRequest(model, dataset, images, chosen, classes, slice_columns(images, slices),
                             learnt_from(model), _out(out))


def chosen_split(dataset: Dataset, wanted: str | None) -> Split | None:
    """The split that is wanted; by default `test` if the set names it, else None: the whole set.

    Raises ConfigError for one that the set does not name.
    """
    if wanted is None:
        return Split.TEST if Split.TEST in dataset.splits else None
    if wanted not in [split.value for split in dataset.splits]:
        known = ", ".join(split.value for split in dataset.splits)
        raise ConfigError(f"--split: expected a split of {dataset.place} ({known}), got {wanted!r}" if known else
                          f"--split {wanted}: expected a set that names splits, {dataset.place} names none. Leave --split "
                          "away: the whole set is taken then.")
    return Split(wanted)


def learnt_from(model: Model) -> frozenset[str] | None:
    """The sha256 of the images that a model was trained on, None where its folder does not say.

    Raises ConfigError for a file that is not as training writes it.
    """
    path = model.folder / TRAINED_ON
    try:
        said = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected {{\"sha256\": [...]}}, got: {error}") from error
    digests = said.get("sha256") if isinstance(said, dict) else None
    if not isinstance(digests, list) or not all(isinstance(digest, str) for digest in digests):
        raise ConfigError(f"{path}: expected {{\"sha256\": [...]}} with the digests of images, got something else")
    return frozenset(digests)


def _out(place: str) -> PartFolder:
    """The folder of the reports, after it was tried. Raises ConfigError where it cannot be written."""
    folder = store_of(place).folder(place)
    try:
        folder.probe()
    except OSError as error:
        raise ConfigError(f"--out: expected a folder that can be written, got {place!r}: {error.strerror or error}"
                          ) from error
    return folder


def evaluate(asked: EvaluationRequest, runtime: Runtime, *, threads: int, seed: int = 0, resamples: int = RESAMPLES,
             progress: Callable[[Progress], None] = lambda progress: None) -> MetricsDocument:
    """Asks the model about each image and writes what comes out.

    Raises ConfigError where labels cannot be read, and RunError or OSError where the reports cannot be written.
    """
    limits = ReadLimits(decode_bytes=settings().decode_limit_bytes)
    predictor = Predictor(asked.model, runtime, threads=threads)
    point = asked.model.operating_point
    flag_at = thresholds(point, asked.classes)

    def look(image: LabelledImage) -> Observation | FailedImage:
        try:
            return observe(image, asked.dataset, predictor, limits, flag_at=flag_at)
        except ImageError as error:
            return FailedImage(image_uri=image.ref.uri, kind=error.kind.value, error=str(error))

    observations: list[Observation] = []
    failed: list[FailedImage] = []
    begun = time.monotonic()
    try:
        for looked in in_order(look, asked.images, at_once=threads + settings().lanes_extra):
            if isinstance(looked, Observation):
                observations.append(looked)
            else:
                failed.append(looked)
            ended = len(observations) + len(failed)
            left_s = (time.monotonic() - begun) / ended * (len(asked.images) - ended)
            progress(Progress(ended, len(asked.images), True, len(failed), left_s))
    finally:
        predictor.close()
    summary = summarise(observations, asked.classes.names, asked.model.card.task, seed=seed, resamples=resamples,
                        slices=asked.slices, flag_at=flag_at, exclusive=asked.dataset.exclusive)
    document = metrics_document(
        summary, model=evaluated_model(asked.model, runtime, flag_at), data=EvaluatedData(
            place=asked.dataset.place, layout=asked.dataset.layout, split=asked.split.value if asked.split else None,
            images=len(asked.images), exclusive=asked.dataset.exclusive),
        classes=asked.classes, failed=failed, seen=seen_in_training(asked.images, asked.trained_on))
    more = [*_reviewed(asked.dataset), *_apart(point, asked.classes), *_problems(asked.dataset)]
    document = document.model_copy(update={"notes": [*document.notes, *more]})
    write_evaluation(asked.out, document, observations, limits)
    return document


def thresholds(point: OperatingPoint | None, classes: Compared) -> dict[str, float]:
    """The `flag_at` of each compared class for which an operating point has one, the same for all that count as it."""
    flag_at = {}
    for name in classes.names:
        one, *others = {_flag_at(point, each) for each in classes.counted_as(name)}
        if one is not None and not others:
            flag_at[name] = one
    return flag_at


def _flag_at(point: OperatingPoint | None, name: str) -> float | None:
    of_class = point.thresholds(name) if point is not None else None
    return of_class.flag_at if of_class is not None else None


def evaluated_model(model: Model, runtime: Runtime, flag_at: dict[str, float]) -> EvaluatedModel:
    """What metrics.json says of the model."""
    point = model.operating_point
    return EvaluatedModel(
        name=model.name, version=model.card.version, digest=model.digest, runtime=runtime.value, flag_at=flag_at,
        operating_point=point.wording(model_digest=model.digest, runtime=runtime) if point is not None else "none")


def seen_in_training(images: Sequence[LabelledImage], trained_on: frozenset[str] | None) -> SeenInTraining:
    """Which of the images a model was trained on, by their bytes; nothing is known without `trained_on`."""
    if trained_on is None:
        return SeenInTraining(images=None, share=None, image_uris=[])
    seen = [image.ref.uri for image in images if _digest(image) in trained_on]
    return SeenInTraining(images=len(seen), share=len(seen) / len(images), image_uris=seen)


def metrics_document(summary: Summary, *, model: EvaluatedModel, data: EvaluatedData, classes: Compared,
                     failed: Sequence[FailedImage] = (), seen: SeenInTraining | None = None,
                     out_of_fold: int | None = None) -> MetricsDocument:
    """metrics.json of a summary; what is to be said beside the figures is among its notes."""
    seen = seen or SeenInTraining(images=None, share=None, image_uris=[])
    return MetricsDocument(
        task=summary.task.value, model=model, data=data, images=summary.images, failed=list(failed),
        classes=ComparedClasses(names=list(classes.names), only_in_data=list(classes.only_in_data),
                                only_in_model=list(classes.only_in_model), folded=dict(classes.folded)),
        sureness=summary.sureness, seen_in_training=seen, out_of_fold=out_of_fold,
        notes=_notes(summary, classes, failed, seen), figures=dict(summary.figures), semantic=summary.semantic,
        instance=summary.instance, classification=summary.classification, found=summary.found,
        slices=list(summary.slices), worst=list(summary.worst), versions=versions())


def write_evaluation(folder: PartFolder, document: MetricsDocument, observations: Sequence[Observation],
                     limits: ReadLimits) -> None:
    """Writes report.html and metrics.json; the images of `document.worst` are opened for the report's pictures."""
    examples = bad_examples(document.worst, observations, document.classes.names, document.model.flag_at, limits)
    page = render_evaluation(document, examples)
    folder.put("report.html", page.encode("utf-8", "replace"))
    folder.put("metrics.json", document.to_json().encode("utf-8", "replace"))


def _notes(summary: Summary, classes: Compared, failed: Sequence[FailedImage], seen: SeenInTraining) -> list[str]:
    notes = []
    if seen.images:
        notes.append(f"Measured on {_counted(seen.images, 'image')} that it was trained on: the figures are too good.")
    if failed:
        notes.append(f"{_counted(len(failed), 'image')} could not be read and {'is' if len(failed) == 1 else 'are'} in no "
                     "figure.")
    if classes.only_in_data:
        notes.append(f"The model does not know {_listed(classes.only_in_data)}: the set's labels of that were passed over.")
    if classes.only_in_model:
        notes.append(f"The set says nothing of {_listed(classes.only_in_model)}, which the model knows.")
    if classes.folded:
        into = dict.fromkeys(classes.folded.values())
        named = [f"{_listed(classes.counted_as(name)[1:])} as {name}" for name in into]
        notes.append(f"Classes that the set has no name for count as their nearest ancestor: {_listed(named, by='; ')}.")
    confusion = summary.classification.confusion if summary.classification is not None else None
    if confusion is not None and confusion.unknown:
        notes.append(f"{_counted(confusion.unknown, 'image')} of classes that the model does not know count as wrong.")
    if summary.found is not None and summary.found.passed_over:
        notes.append(f"{_counted(summary.found.passed_over, 'candidate')} in what the labels say to ignore count neither "
                     "for nor against.")
    return [*notes, *interval_notes(summary)]


def _apart(point: OperatingPoint | None, classes: Compared) -> list[str]:
    apart = [name for name in classes.names if len({_flag_at(point, each) for each in classes.counted_as(name)}) > 1]
    return [f"The operating point has other thresholds for {_listed(apart)} than for what counts as that: there are no "
            "figures at it."] if apart else []


def _reviewed(dataset: Dataset) -> list[str]:
    return ["The labels are what people decided in a review: nobody looked where the model saw nothing, so what it missed "
            "is in no figure, and recall comes out too high."] if dataset.origin is not None else []


def _problems(dataset: Dataset) -> list[str]:
    wrong = [problem for problem in dataset.problems if problem.severity is Severity.ERROR]
    if not wrong:
        return []
    first = f"{wrong[0].where}: {wrong[0].message}" if wrong[0].where else wrong[0].message
    return [f"The data set has {_counted(len(wrong), 'fault')}; the first: {first}. `segsvc datasets check` lists them all."]


def _digest(image: LabelledImage) -> str | None:
    try:
        return truth.content_digest(image.ref)
    except ImageError:  # it is among the failed ones
        return None


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _listed(names: Sequence[str], most: int = 8, *, by: str = ", ") -> str:
    return by.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
