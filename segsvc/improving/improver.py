"""A model and labels, new ones among them -> a new version of the model, which is put in force where it is no worse.

A set's images are parted (`parts`): the new model learns from some, starting from the old one, both are calibrated on
others, and both are compared on those of the frozen test set, from which nothing is ever learnt. The new one is put in force
if the bound says that it is not worse by more than the margin, and if it promises what the old one did; else it is kept as a
candidate. All is made in a folder beside the versions and moved whole.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from segsvc import truth, versions
from segsvc.calibration import calibrating
from segsvc.calibration.choosing import Targets, choose
from segsvc.calibration.looking import Looked, look, tallies
from segsvc.card import Task
from segsvc.converting import ready_runtime
from segsvc.dataset_check import check, refuse_errors
from segsvc.datasets import Dataset, LabelledImage, ProblemKind, Split
from segsvc.errors import ConfigError, ImageError, RunError
from segsvc.evaluation import compared
from segsvc.evaluation.evaluating import learnt_from
from segsvc.improvement_documents import IMPROVEMENT, TEST_SET, Improvement, TestSet
from segsvc.improving import comparing
from segsvc.improving.comparing import Comparison, FigureKind
from segsvc.improving.parts import Parts, digests_of, parted
from segsvc.improving.report import REPORT, UNPROMISED_AT, render
from segsvc.labels.files import class_file, coco_file, with_objects
from segsvc.models.checkpoint import write_whole
from segsvc.models.library import Model, read_model
from segsvc.models.runtime import Predictor
from segsvc.operating_point import Basis, OperatingPoint
from segsvc.readahead import in_order
from segsvc.readers import ReadLimits
from segsvc.settings import RuntimeChoice, settings
from segsvc.types import Runtime, stable_id

_NO_FAULT = frozenset({ProblemKind.ONE_CLASS, ProblemKind.EMPTY_CLASS})  # of a set that only adds
_LICENCE = "LICENCE.md"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAKING = ".improving-"  # begins the folder of what is being made


@dataclass(frozen=True, slots=True)
class ImproveRequest:
    """What is asked for.

    at: where the version in force is, or is to be; its name is the model's. place, called: of the labelled images, and as
    the user named them. reviewed: places of labels out of reviews, to learn from. margin: by so much the new one may be
    worse, of a figure between 0 and 1.
    """

    model: Model
    at: Path
    place: str
    called: str
    reviewed: tuple[str, ...]
    targets: Targets
    demands_precision: bool
    margin: float
    seed: int
    threads: int
    epochs: int | None
    runtime: RuntimeChoice

    def __post_init__(self) -> None:
        check_name(self.name)
        if not 0 < self.margin < 1:
            raise ConfigError(f"--margin: expected more than 0 and less than 1, got {self.margin:g}")

    @property
    def name(self) -> str:
        return self.at.name


def check_name(name: str) -> None:
    """Raises ConfigError for what a model cannot be called."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name: expected letters, digits, dots, dashes and underlines, got {name!r}")


@dataclass(frozen=True, slots=True)
class Improved:
    """What came of it: the new model where it is now, whether it is in force, and why."""

    model: Model
    improvement: Improvement
    report: Path
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Side:
    """One of the two models: what it says of the images, and from which scores its candidates count."""

    model: Model
    flag_at: Sequence[float]
    shortfall: str | None
    looked: dict[str, Looked] = field(default_factory=dict)  # by URI


def improve(asked: ImproveRequest, say: Callable[[str], None]) -> Improved:
    """Makes and judges the new version. Raises ConfigError before any work for whatever is wrong with what was asked."""
    with versions.alone(asked.at):
        dataset = _dataset(asked)
        test_set = _frozen(asked)
        learnt = learnt_from(asked.model)
        parts = parted(dataset, seed=asked.seed, frozen=test_set.sha256, learnt=learnt or frozenset())
        more, notes = _reviewed(asked, dataset, parts)
        if learnt is None:
            notes.append(f"{asked.model.name} does not say what it learnt from: if that is compared on, it looks too good")
        if parts.passed_over:
            notes.append(f"{parts.passed_over} images that {asked.model.name} learnt from are in no part: others of their "
                         "groups are compared on")
        work = _work(asked, parts, more)
        place = _write(work, asked, dataset, [*parts.images, *more])
        return _Making(asked, truth.read_dataset(str(place)), parts, work, test_set, notes, say).run(place)


class _Making:
    """One improvement, once all that was asked is found sound."""

    def __init__(self, asked: ImproveRequest, dataset: Dataset, parts: Parts, work: Path, test_set: TestSet,
                 notes: list[str], say: Callable[[str], None]) -> None:
        self._asked, self._dataset, self._parts, self._work = asked, dataset, parts, work
        self._test_set, self._notes, self._say = test_set, notes, say
        self._classes = compared(asked.model.card, dataset).names
        self._exclusive = asked.model.card.task is Task.CLASSIFICATION and dataset.exclusive

    def run(self, place: Path) -> Improved:
        sizes = ", ".join(f"{len(self._dataset.of(split))} {what}" for split, what in (
            (Split.TRAIN, "to learn from"), (Split.CALIBRATION, "to calibrate on"), (Split.TEST, "to compare on")))
        self._say(f"images: {sizes}")
        folder = self._trained(place)
        new, promised = self._calibrated(folder, place)
        old = self._old()
        comparison = self._compared(old, new)
        reason = self._against(comparison, old, new, promised=promised)
        return self._keep(folder, comparison, reason, old, new)

    def _trained(self, place: Path) -> Path:
        """The folder of the new model, which is learnt if it was not before this was interrupted."""
        asked = self._asked
        folder = self._work / asked.name
        if (folder / "card.json").is_file():
            return folder
        from segsvc.training.recipe import TrainingRequest  # loads torch: what cannot be is refused at once
        from segsvc.training.trainer import train

        return train(TrainingRequest(
            dataset=str(place), called=asked.called, task=asked.model.card.task, out=folder, init=str(asked.model.folder),
            epochs=asked.epochs, seed=asked.seed, licence=asked.model.card.licence, resume=True,
            threads=asked.threads), self._say)

    def _calibrated(self, folder: Path, place: Path) -> tuple[_Side, bool]:
        """The new model with its operating point, and whether it promises anything."""
        asked, model = self._asked, read_model(folder)
        runtime = ready_runtime(model, asked.runtime, self._say)
        self._say("calibrating the new model")
        shortfall = None
        try:
            wanted = calibrating.request(model, str(place), split=Split.CALIBRATION.value, classes=(), targets=asked.targets,
                                         demands_precision=asked.demands_precision, seed=asked.seed, called=asked.called)
            done = calibrating.calibrate(wanted, runtime, threads=asked.threads)
            model = read_model(folder)
            self._notes += done.notes
        except RunError as error:
            shortfall = str(error)
        side = _Side(model, self._flags(model.operating_point), shortfall)
        self._look(side, runtime, (Split.CALIBRATION, Split.TEST))
        return side, shortfall is None

    def _old(self) -> _Side:
        """The old model, calibrated on the same images as the new one; nothing of that is written."""
        asked = self._asked
        self._say(f"asking {asked.model.name} about the same images")
        side = _Side(asked.model, (), None)
        self._look(side, ready_runtime(asked.model, asked.runtime, self._say), (Split.CALIBRATION, Split.TEST))
        seen = [side.looked[image.ref.uri] for image in self._dataset.of(Split.CALIBRATION) if image.ref.uri in side.looked]
        choice = choose(self._classes, tallies(seen, len(self._classes)), asked.targets, images=len(seen), seed=asked.seed,
                        demands_precision=False)
        if choice.shortfalls:
            side.shortfall = f"recall {asked.targets.recall:g} cannot be shown"
            side.flag_at = [UNPROMISED_AT] * len(self._classes)
        else:
            side.flag_at = [choice.thresholds[name].flag_at for name in self._classes]
        return side

    def _flags(self, point: OperatingPoint | None) -> list[float]:
        if point is None:
            return [UNPROMISED_AT] * len(self._classes)
        return [found.flag_at if (found := point.thresholds(name)) is not None else UNPROMISED_AT for name in self._classes]

    def _look(self, side: _Side, runtime: Runtime, splits: tuple[Split, ...]) -> None:
        limits = ReadLimits(decode_bytes=settings().decode_limit_bytes)
        predictor = Predictor(side.model, runtime, threads=self._asked.threads)

        def one(image: LabelledImage) -> Looked | str:
            try:
                return look(image, self._dataset, predictor, limits)
            except ImageError as error:
                return str(error)

        images = self._dataset.of(*splits)
        try:
            for image, seen in zip(images, in_order(one, images, at_once=self._asked.threads), strict=True):
                if isinstance(seen, Looked):
                    side.looked[image.ref.uri] = seen
        finally:
            predictor.close()

    def _compared(self, old: _Side, new: _Side) -> Comparison:
        """Both at the scores from which they promise the same; at 0.5 where one of them cannot."""
        kind = FigureKind.ACCURACY if self._exclusive else FigureKind.OBJECT_DICE
        if old.shortfall is not None or new.shortfall is not None:
            old.flag_at = new.flag_at = [UNPROMISED_AT] * len(self._classes)
            if kind is FigureKind.OBJECT_DICE:
                self._notes.append(f"compared at a score of {UNPROMISED_AT:g}: these labels cannot show recall "
                                   f"{self._asked.targets.recall:g} for both models")
        asked = self._asked
        calibration = self._figures(old, new, Split.CALIBRATION, kind)
        before, after, units, images = self._figures(old, new, Split.TEST, kind)
        if not len(before):
            raise RunError(f"{asked.called}: expected images to compare on that both models can read, got none")
        guess = float(np.mean((calibration[1] - calibration[0]) ** 2)) if len(calibration[0]) else 0.01
        return comparing.compare(before, after, kind=kind, unit=units, images=images, margin=asked.margin,
                                 confidence=asked.targets.confidence, guess=guess)

    def _figures(self, old: _Side, new: _Side, split: Split, kind: FigureKind
                 ) -> tuple[comparing.Floats, comparing.Floats, str, int]:
        images = [image for image in self._dataset.of(split) if image.ref.uri in old.looked and image.ref.uri in new.looked]
        units = [f"group {image.ref.group}" if image.ref.group is not None else f"image {image.ref.uri}" for image in images]
        means = [comparing.unit_means([comparing.image_figure(side.looked[image.ref.uri].found, side.flag_at, kind)
                                       for image in images], units) for side in (old, new)]
        has_groups = any(image.ref.group is not None for image in images)
        return means[0], means[1], "group" if has_groups else "image", len(images)

    def _against(self, comparison: Comparison, old: _Side, new: _Side, *, promised: bool) -> str | None:
        """Why the new model does not take the old one's place; None where it does."""
        point = old.model.operating_point
        if not promised and point is not None and point.basis is Basis.CALIBRATED:
            return f"the one in force is calibrated, and this one cannot be with these labels: {new.shortfall}"
        if not comparison.not_worse:
            return (f"it is not shown to be worse by no more than {comparison.margin:g}, which is allowed; more labelled "
                    "images would show more")
        return None

    def _keep(self, folder: Path, comparison: Comparison, reason: str | None, old: _Side, new: _Side) -> Improved:
        """Writes what came of it into the new model's folder, and moves that to its place."""
        asked = self._asked
        if new.shortfall is not None:
            self._notes.append(new.shortfall)
        test_set = TestSet(sha256=tuple(sorted({*self._test_set.sha256, *self._parts.digests_of(Split.TEST)})),
                           comparisons=self._test_set.comparisons + 1)
        improvement = Improvement(
            name=asked.name, in_force=reason is None, reason=reason or "", old=old.model.digest, new=new.model.digest,
            data=asked.called, figure=comparison.kind.value,
            unit="group" if comparison.unit == "group" else "image", units=comparison.units,
            images=comparison.images, old_mean=comparison.old, new_mean=comparison.new, difference=comparison.difference,
            lower=comparison.lower, margin=comparison.margin, confidence=comparison.confidence,
            better_units=comparison.better_units, worse_units=comparison.worse_units, comparisons=test_set.comparisons,
            old_flag_at=dict(zip(self._classes, old.flag_at, strict=True)),
            new_flag_at=dict(zip(self._classes, new.flag_at, strict=True)), promised=new.shortfall is None,
            notes=list(self._notes), made_at=datetime.now(UTC))
        for name, raw in ((TEST_SET, test_set.to_json()), (IMPROVEMENT, improvement.to_json()),
                          (REPORT, render(improvement))):
            write_whole(folder / name, raw.encode("utf-8", "replace"))
        if (licence := asked.model.folder / _LICENCE).is_file():  # what the old one is bound to, the new one is too
            write_whole(folder / _LICENCE, licence.read_bytes())
        write_whole(versions.kept_place(asked.at) / TEST_SET, test_set.to_json().encode())
        place = versions.keep(asked.at, folder)
        if reason is None:
            versions.put_in_force(asked.at, place)
            place = asked.at
        for left in versions.kept_place(asked.at).glob(f"{_MAKING}*"):
            shutil.rmtree(left, ignore_errors=True)
        return Improved(read_model(place), improvement, place / REPORT, tuple(self._notes))


# -- what is asked -----------------------------------------------------------------------------------------------------


def _dataset(asked: ImproveRequest) -> Dataset:
    """The labelled set, if nothing is wrong with it and it is of the model's task and classes. Raises ConfigError."""
    model = asked.model
    if (there := versions.in_force(asked.at)) is not None and there.digest != model.digest:
        raise ConfigError(f"--name {asked.name}: expected a new name or that of {model.name} itself, got that of another "
                          f"model ({there.digest[:12]})")
    dataset = truth.read_dataset(asked.place, asked.called)
    if dataset.origin is not None:
        raise ConfigError(f"--data {asked.called}: expected whole images that people labelled, got decisions of a review, "
                          "which are for --from-review")
    refuse_errors(dataset, dataset.problems)
    compared(model.card, dataset)
    wanted, came = set(model.card.class_names), set(dataset.classes)
    if came - wanted:
        raise ConfigError(f"--data {asked.called}: expected labels of the classes of {model.name} "
                          f"({', '.join(model.card.class_names[:8])}), got {', '.join(sorted(came - wanted)[:8])} too. "
                          f"`segsvc train --init {model.name}` makes a model of other classes.")
    if wanted - came:
        raise ConfigError(f"--data {asked.called}: expected labels of all classes of {model.name}, got none of "
                          f"{', '.join(sorted(wanted - came)[:8])}: the new one would not know them")
    refuse_errors(dataset, check(dataset))
    return dataset


def _frozen(asked: ImproveRequest) -> TestSet:
    """The test set of earlier improvements of this name, and the one that came with the model."""
    kept = [TestSet.read(folder / TEST_SET) for folder in (versions.kept_place(asked.at), asked.model.folder)]
    return TestSet(sha256=tuple(sorted({digest for each in kept for digest in each.sha256})),
                   comparisons=max(each.comparisons for each in kept))


def _reviewed(asked: ImproveRequest, dataset: Dataset, parts: Parts) -> tuple[list[LabelledImage], list[str]]:
    """Images out of reviews to learn from: none that is in the set, or of a group that is compared or calibrated on."""
    found: list[LabelledImage] = []
    notes = []
    taken = set(parts.digests)
    apart = {image.ref.group for image in parts.of(Split.CALIBRATION) + parts.of(Split.TEST)} - {None}
    for place in asked.reviewed:
        labels = truth.read_dataset(place)
        if labels.task is not dataset.task and not {labels.task, dataset.task} <= {Task.SEMANTIC, Task.INSTANCE}:
            raise ConfigError(f"--from-review {place}: expected labels for {dataset.task}, got some for {labels.task}")
        if strange := set(labels.classes) - set(asked.model.card.class_names):
            raise ConfigError(f"--from-review {place}: expected classes of {asked.model.name}, got "
                              f"{', '.join(sorted(strange)[:8])}")
        refuse_errors(labels, [each for each in check(labels) if each.kind not in _NO_FAULT])
        passed_over = 0
        for image, digest in zip(labels.images, digests_of(labels.images), strict=True):
            if digest in taken or image.ref.group in apart:
                passed_over += 1
                continue
            taken.add(digest)
            found.append(with_objects(replace(image, split=Split.TRAIN), labels))
        if passed_over:
            notes.append(f"{passed_over} of {len(labels.images)} reviewed images are labelled whole in the set, or of a "
                         "group that is not learnt from: they are passed over")
    return found, notes


def _work(asked: ImproveRequest, parts: Parts, more: Sequence[LabelledImage]) -> Path:
    """The folder of what is being made: the same for the same command on the same data, so that it goes on."""
    said = [repr((image.truth, image.split)) for image in (*parts.images, *more)]
    key = stable_id(asked.model.digest, asked.seed, asked.epochs or 0, *parts.digests, *said)
    return versions.kept_place(asked.at) / f"{_MAKING}{key[:16]}"


def _write(work: Path, asked: ImproveRequest, dataset: Dataset, images: Sequence[LabelledImage]) -> Path:
    """All images with their parts as one file, as training, calibration and comparison read it."""
    if asked.model.card.task is Task.CLASSIFICATION:
        place, raw = work / "labels.csv", class_file(images)
    else:
        whole = [with_objects(image, dataset) for image in images]
        place, raw = work / "labels.json", coco_file(whole, asked.model.card.class_names)
    write_whole(place, raw)
    return place
