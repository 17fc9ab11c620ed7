"""A model over calibration images -> operating_point.json in the model's folder, or what is missing for it."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from segsvc import truth
from segsvc.calibration.choosing import Choice, Shortfall, Targets, Unaccepted, choose
from segsvc.calibration.looking import Looked, look, tallies, unit_numbers
from segsvc.calibration.report import few, write_report
from segsvc.dataset_check import check, refuse_errors
from segsvc.datasets import Dataset, LabelledImage, ProblemKind, Split
from segsvc.errors import ConfigError, ImageError, RunError
from segsvc.evaluation import Compared, compared
from segsvc.evaluation.evaluating import chosen_split, learnt_from
from segsvc.models.checkpoint import write_whole
from segsvc.models.library import PACKAGED, Model, read_model
from segsvc.models.runtime import Predictor
from segsvc.operating_point import Basis, OperatingPoint, Promise
from segsvc.quality.cost import ASSUMED, Pace
from segsvc.quality.profile import Profile, Stored, profile_of
from segsvc.readahead import in_order
from segsvc.readers import ReadLimits
from segsvc.runner import Progress
from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.types import Runtime

POINT, CARD = "operating_point.json", "card.json"
_NO_FAULT = frozenset({ProblemKind.ONE_CLASS, ProblemKind.EMPTY_CLASS})  # for training they are
_MOST_TOLD = 3
_FEWEST_SEEN = 1


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """What is to be calibrated, looked up and found sound.

    demands_precision: acceptance that cannot be shown is a failure. notes: what the user should know of the data.
    """

    model: Model
    dataset: Dataset
    images: tuple[LabelledImage, ...]
    split: Split | None
    classes: Compared
    targets: Targets
    demands_precision: bool
    seed: int
    notes: tuple[str, ...]

    @property
    def names_all(self) -> bool:
        """Whether the data name every class of the model."""
        return not set(self.model.card.class_names) - set(compared(self.model.card, self.dataset).names)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What came of it: the operating point that was written, and what the user should know."""

    model: Model
    point: OperatingPoint
    promise: Promise
    notes: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]  # uri and error of images that could not be read
    report: str  # where it is


def request(model: Model, place: str, *, split: str | None, classes: Sequence[str], targets: Targets,
            demands_precision: bool, seed: int, called: str | None = None) -> CalibrationRequest:
    """What is asked for. Raises ConfigError for whatever is wrong with it, all faults of the data at once.

    called: how the user named the data, where that is no place, as with label sets: the promise names them so. Every image
    is read once, as files: faulty labels, copies, and images that the model was trained on are refused.
    """
    dataset = truth.read_dataset(place, called)
    _refuse_reviewed(dataset)
    known = compared(model.card, dataset)
    names = _wanted(known, classes)
    chosen = Split.CALIBRATION if split is None and Split.CALIBRATION in dataset.splits else (
        chosen_split(dataset, split) if split is not None else None)
    images = dataset.images if chosen is None else dataset.of(chosen)
    if not images:
        raise ConfigError(f"data set {dataset.place}: expected labelled images, got none"
                          + (f" in the split {chosen.value}" if chosen is not None else ""))
    model.check_weights()
    _place(model)
    problems = [each for each in check(replace(dataset, images=images)) if each.kind not in _NO_FAULT]
    refuse_errors(dataset, problems)
    _refuse_learnt(model, images)
    guessed = [each.message for each in problems if each.kind is ProblemKind.GROUPS_GUESSED]
    return CalibrationRequest(model, dataset, images, chosen, replace(known, names=names), targets, demands_precision, seed,
                              tuple(f"{message}. The promise takes each image for itself." for message in guessed))


def _wanted(known: Compared, classes: Sequence[str]) -> tuple[str, ...]:
    for name in classes:
        if name not in known.names:
            raise ConfigError(f"--class {name}: expected a class that the model and the set both know, got none. There are: "
                              f"{', '.join(known.names)}.")
    return tuple(name for name in known.names if not classes or name in classes)


def _refuse_reviewed(dataset: Dataset) -> None:
    """Raises ConfigError where labels are decisions of a review."""
    if dataset.origin is not None:
        raise ConfigError(f"data set {dataset.place}: expected whole images that people labelled, got what was decided in "
                          f"the review of {few(dataset.origin.runs)}. That is a biased sample: nobody looked where the "
                          "model saw nothing, and the recall would come out too high. Draw images by `segsvc sample` and "
                          "label them whole; reviewed ones are for `segsvc train` and `segsvc improve --from-review`.")


def _refuse_learnt(model: Model, images: Sequence[LabelledImage]) -> None:
    """Raises ConfigError where the model was trained on some of the images, by content."""
    learnt = learnt_from(model)
    if not learnt:
        return
    seen = [image.ref.uri for image, digest in zip(images, in_order(
        lambda image: truth.content_digest(image.ref), images, at_once=truth.read_at_once(images)), strict=True)
        if digest in learnt]
    if seen:
        told = ", ".join(seen[:_MOST_TOLD]) + (f" and {len(seen) - _MOST_TOLD} more" if len(seen) > _MOST_TOLD else "")
        raise ConfigError(f"model {model.name}: expected images that it was not trained on, got {len(seen)} of "
                          f"{len(images)} that it was: {told}. On those it does "
                          "better than on fresh ones. Take others, of a label set those drawn later (label:SET@A-B), or a "
                          "split that training left out.")


def calibrate(asked: CalibrationRequest, runtime: Runtime, *, threads: int, pace: Pace = ASSUMED,
              progress: Callable[[Progress], None] = lambda progress: None) -> Calibrated:
    """Asks the model about each image, chooses thresholds, and writes the operating point and its report.

    pace: of the people who will review, for the report. Raises RunError where the recall cannot be shown, or a precision
    that was demanded: nothing is written then.
    """
    seen, failed = _seen(asked, runtime, threads=threads, progress=progress)
    if len(seen) < _FEWEST_SEEN:
        raise RunError(f"data set {asked.dataset.place}: expected images that can be read, got none: {failed[0][1]}")
    places = [compared(asked.model.card, asked.dataset).names.index(name) for name in asked.classes.names]
    every = tallies(seen, max(places) + 1)
    choice = choose(asked.classes.names, [every[place] for place in places], asked.targets, images=len(seen),
                    seed=asked.seed, demands_precision=asked.demands_precision)
    unit = "group" if any(each.ref.group is not None for each in seen) else "image"
    if choice.shortfalls:
        raise RunError(_says_all(choice.shortfalls, asked, unit))
    if asked.demands_precision and choice.without_acceptance:
        raise RunError(f"precision {asked.targets.precision:g} of acceptance at confidence {asked.targets.confidence:g}: "
                       f"the data cannot show it for {'; '.join(_told(each, unit) for each in choice.unaccepted)}. Ask for "
                       "less, label more images, or leave --precision away: then nothing is accepted by rule there.")
    promise = _promise(asked, choice, seen, unit)
    point = _point(asked, choice, promise, runtime, _profile(asked, seen))
    model = _write(asked.model, point)
    notes = [*asked.notes, *_notes(asked, choice, failed, unit)]
    return Calibrated(model, point, promise, tuple(notes), tuple(failed), write_report(model, pace))


def _seen(asked: CalibrationRequest, runtime: Runtime, *, threads: int,
          progress: Callable[[Progress], None]) -> tuple[list[Looked], list[tuple[str, str]]]:
    limits = ReadLimits(decode_bytes=settings().decode_limit_bytes)
    predictor = Predictor(asked.model, runtime, threads=threads)

    def one(image: LabelledImage) -> Looked | tuple[str, str]:
        try:
            return look(image, asked.dataset, predictor, limits)
        except ImageError as error:
            return image.ref.uri, str(error)

    seen: list[Looked] = []
    failed: list[tuple[str, str]] = []
    begun = time.monotonic()
    try:
        for looked in in_order(one, asked.images, at_once=threads + settings().lanes_extra):
            if isinstance(looked, Looked):
                seen.append(looked)
            else:
                failed.append(looked)
            ended = len(seen) + len(failed)
            left_s = (time.monotonic() - begun) / ended * (len(asked.images) - ended)
            progress(Progress(ended, len(asked.images), True, len(failed), left_s))
    finally:
        predictor.close()
    return seen, failed


def _promise(asked: CalibrationRequest, choice: Choice, seen: Sequence[Looked], unit: str) -> Promise:
    accepts = bool(set(choice.thresholds) - set(choice.without_acceptance))
    return Promise(
        recall=asked.targets.recall, precision=asked.targets.precision if accepts else None,
        confidence=asked.targets.confidence, unit="group" if unit == "group" else "image", images=len(seen),
        units=int(unit_numbers(seen).max()) + 1, units_apart=choice.units_apart, seed=asked.seed, data=asked.dataset.place,
        split=asked.split.value if asked.split is not None else None)


def _profile(asked: CalibrationRequest, seen: Sequence[Looked]) -> Profile | None:
    """What the images looked like to the model: runs are compared with it.

    None where the data do not name all of its classes: then other candidates were looked at than a run stores.
    """
    if not asked.names_all:
        return None
    return profile_of(unit_numbers(seen), Stored.of([each.candidates for each in seen]),
                      classes=asked.model.card.class_names, seed=asked.seed)


def _point(asked: CalibrationRequest, choice: Choice, promise: Promise, runtime: Runtime,
           profile: Profile | None) -> OperatingPoint:
    counted = {each: name for name in asked.classes.names for each in asked.classes.counted_as(name)}
    proofs = {name: proof.model_copy(update={"counted_too": asked.classes.counted_as(name)[1:]})
              for name, proof in choice.proofs.items()}
    return OperatingPoint(
        basis=Basis.CALIBRATED, classes={each: choice.thresholds[name] for each, name in counted.items()},
        proofs=proofs, model_digest=asked.model.digest, runtime=runtime,
        probabilities={each: choice.probabilities[name] for each, name in counted.items() if name in choice.probabilities},
        data_digest=truth.data_digest(asked.images), set_at=datetime.now(UTC), promise=promise, profile=profile)


def _says_all(short: Sequence[Shortfall], asked: CalibrationRequest, unit: str) -> str:
    """The class that lacks most at length, the others in a line of their own."""
    first, *others = sorted(short, key=lambda each: math.inf if each.more_units is None else each.more_units, reverse=True)
    told = [f"{each.class_name} ({each.best:g}, " + (f"{each.more_units} more)" if each.more_units is not None else
                                                     f"no number of {unit}s would do)") for each in others]
    return _says(first, asked, unit) + (f"\nSo do others, with the most that they show: {', '.join(told)}" if told else "")


def _says(short: Shortfall, asked: CalibrationRequest, unit: str) -> str:
    """What cannot be shown of a class, what can be, and how much more would do."""
    what = f"recall {asked.targets.recall:g} at confidence {asked.targets.confidence:g} for {short.class_name}"
    if not short.objects:
        return (f"{what}: expected objects of that class, got none in {len(asked.images)} images. About {short.more_units} "
                f"{unit}s with one would do; --class leaves classes out.")
    objects, units = _counted(short.objects, "object"), _counted(short.units, unit)
    best = f"the most they show is {short.best:g}" if short.best else "they show none"
    more = (f"About {short.more_units} more {unit}s with objects like these would do." if short.more_units is not None else
            f"No number of {unit}s like these that could be labelled would do: {short.never_found} objects are found by no "
            "stored candidate. Lower the model's floor, or train it on such objects.")
    return f"{what}: expected data that show it, got {objects} in {units}: {best}. {more}"


def _told(each: Unaccepted, unit: str) -> str:
    """A class whose acceptance cannot be shown, what can be, and how much more would do."""
    best = f"{each.best:g} at the most" if each.best is not None else "none"
    more = (f"about {_counted(each.more_units, f'more {unit}')} like these would do" if each.more_units is not None else
            f"no number of {unit}s like these that could be labelled would do")
    return f"{each.class_name}, where they show {best} ({more})"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _notes(asked: CalibrationRequest, choice: Choice, failed: Sequence[tuple[str, str]], unit: str) -> list[str]:
    notes = []
    if choice.without_acceptance and choice.units_apart:
        notes.append(f"precision {asked.targets.precision:g} cannot be shown for {', '.join(choice.without_acceptance)}: "
                     "nothing is accepted by rule there")
    elif choice.without_acceptance:
        notes.append(f"too few {unit}s to show a precision beside the recall: nothing is accepted by rule")
    unmapped = [name for name in choice.thresholds if name not in choice.probabilities]
    if unmapped:
        notes.append(f"too few candidates apart to make probabilities of scores: {', '.join(unmapped)}")
    if not asked.names_all:
        notes.append("the data do not name all classes of the model: runs are not compared with the calibration")
    without = [name for name in asked.model.card.class_names if not any(
        name in asked.classes.counted_as(each) for each in choice.thresholds)]
    if without:
        notes.append(f"nothing is promised for {few(without)}: all that is stored there is for review")
    over = {name: proof for name, proof in choice.proofs.items() if proof.units_over_cap}
    notes += [f"{name}: {proof.units_over_cap} of {proof.units} {unit}s hold more than {proof.cap_objects} objects and "
              "count as so many" for name, proof in over.items()]
    if failed:
        notes.append(f"{len(failed)} images could not be read and are no part of it; the first: {failed[0][0]}: "
                     f"{failed[0][1]}")
    return notes


# -- where it is written ----------------------------------------------------------------------------------------------------


def _place(model: Model) -> str | Path:
    """Where the point is written: the model's own place, or for a packaged model the user's models folder.

    Raises ConfigError where it cannot be written.
    """
    if "://" in model.origin:
        return model.place
    folder = settings().models_dir / model.folder.name if model.folder.parent == PACKAGED.resolve() else model.folder
    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ConfigError(f"model {model.name}: expected a folder that can be written for its operating point, got "
                          f"{folder}: {error.strerror}") from error
    return folder


def _write(model: Model, point: OperatingPoint) -> Model:
    """Writes operating_point.json; a packaged model is copied into the user's models folder first. The model there."""
    place, raw = _place(model), point.to_json().encode()
    if isinstance(place, str):
        store_of(place).folder(place).put(POINT, raw)
        write_whole(model.folder / POINT, raw)
        return replace(read_model(model.folder), origin=model.origin)
    place.mkdir(parents=True, exist_ok=True)
    if place.resolve() != model.folder:
        for source in model.folder.iterdir():
            if source.is_file() and source.name not in (POINT, CARD):
                shutil.copyfile(source, place / source.name)
        write_whole(place / POINT, raw)
        write_whole(place / CARD, (model.folder / CARD).read_bytes())  # last: without it the folder is no model
    else:
        write_whole(place / POINT, raw)
    return read_model(place)
