"""Labelled images -> a model's folder: splits, training, the choice of extraction, figures, files."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from segsvc import truth
from segsvc.card import Activation, ClassNode, Extraction, ModelCard, Task
from segsvc.dataset_check import check, refuse_errors
from segsvc.datasets import Dataset, LabelledImage, ObjectTruth, Split
from segsvc.errors import ConfigError
from segsvc.evaluation import compared, observe, summarise
from segsvc.evaluation.evaluating import TRAINED_ON, learnt_from, metrics_document, write_evaluation
from segsvc.metrics_document import Course, EvaluatedData, EvaluatedModel, Round, SeenInTraining
from segsvc.models.checkpoint import save_model, write_whole
from segsvc.models.library import WEIGHTS, find_model
from segsvc.readers import ReadLimits
from segsvc.segment import Stopwatch, score_rows
from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.training.arrangement import Arrangement, Fold, arrange
from segsvc.training.choosing import ExtractionChoice
from segsvc.training.classification import ClassificationLesson
from segsvc.training.detecting import ObjectSizes, object_sizes
from segsvc.training.group import Alone, Group
from segsvc.training.instance import InstanceLesson
from segsvc.training.live import LivePredictor
from segsvc.training.loop import Lesson, Training
from segsvc.training.pictures import Pictures
from segsvc.training.recipe import Recipe, TrainingRequest, look, recipe_for
from segsvc.training.semantic import SemanticLesson
from segsvc.training.starts import IMAGENET, RANDOM, Start, encoder_names, started
from segsvc.training.state import Best, Point, Progress, Weights
from segsvc.types import SCORE_ONE, Runtime

_CHOSEN_HERE = ("Which weights were kept, and how candidates are formed, was chosen on these images: the figures are a "
                "little too good. `segsvc evaluate` on images that training has not seen says more.")
_OUT_OF_FOLD = ("The model itself learnt from all images, and for twice as long as those that were judged here: it should "
                "be no worse.")
STATE = ".training"  # in the model's folder while it is trained
_FOLD_STEPS = 0.5  # of the course: out-of-fold models are trained for so long


def train(request: TrainingRequest, say: Callable[[str], None],
          by_others: Callable[[TrainingRequest, int], None] | None = None) -> Path:
    """Trains a model and writes its folder; gives the folder back.

    by_others: brings the trainings to their end elsewhere, by processes that `take_part`; it is given the request and the
    examples of a step, which the processes share. Without it this process learns alone.

    Raises ConfigError before any work where data or options are wrong, all that is wrong with the data at once.
    """
    job, arrangement = _prepared(request, say, Alone())
    with _place(request):
        if by_others is not None:
            by_others(request, job.examples_a_step)
        return job.run(arrangement, _silent if by_others is not None else say)


def take_part(request: TrainingRequest, say: Callable[[str], None], group: Group) -> None:
    """Learns in this process as one of a group. What comes of it is the state that the first leaves in the model's folder.

    Raises ConfigError where data or folder are not here as they are where the training was asked for.
    """
    job, arrangement = _prepared(request, say, group)
    if not (request.out / STATE).is_dir():
        raise ConfigError(f"{request.out}: expected a folder that every worker sees under this name, it is not here. Train "
                          "into a folder that all nodes share.")
    job.learn(arrangement, say if group.rank == 0 else _silent)


def _silent(line: str) -> None:
    """What others say of a training is not said twice."""


def _prepared(request: TrainingRequest, say: Callable[[str], None], group: Group) -> tuple[_Job, Arrangement]:
    limits = ReadLimits(decode_bytes=settings().decode_limit_bytes)
    dataset = _readable(request)
    arrangement = arrange(dataset, seed=request.seed)
    init = find_model(request.init).card if request.init not in (IMAGENET, RANDOM) else None
    if init is not None and init.task is not request.task:
        raise ConfigError(f"--init {request.init}: expected a model for {request.task}, got one for {init.task}")
    learnt = arrangement.whole.learnt
    recipe = recipe_for(request, look(learnt, limits), n_images=len(learnt), init=init,
                        sizes=_sizes(request, dataset, learnt))
    return _Job(request, dataset, recipe, limits, say, group), arrangement


def _sizes(request: TrainingRequest, dataset: Dataset, learnt: Sequence[LabelledImage]) -> ObjectSizes | None:
    """The sizes of the objects, where instances are to be learnt. Raises ConfigError where an object has no mask."""
    if request.task is Task.CLASSIFICATION:
        return None
    boxes = []
    for image in learnt:
        marked = image.truth.objects if isinstance(image.truth, ObjectTruth) else ()
        objects = [each for each in marked if not each.ignored]
        if any(each.mask_rle is None for each in objects):
            raise ConfigError(f"{image.ref.uri}: expected objects with masks to learn from, got one with a box alone. "
                              "Draw its outline, or a mask, in its place.")
        boxes.append([(each.box.width_px, each.box.height_px) for each in objects])
    return object_sizes(boxes) if request.task is Task.INSTANCE else None


def _readable(request: TrainingRequest) -> Dataset:
    """The data set, if nothing is wrong with it."""
    dataset = truth.read_dataset(request.dataset, request.called)
    refuse_errors(dataset, check(dataset))
    teaches = {Task.SEMANTIC: (Task.SEMANTIC, Task.INSTANCE)}.get(request.task, (request.task,))
    if dataset.task not in teaches:
        raise ConfigError(f"--task {request.task}: expected labels that teach it, got {dataset.place}, a set of the layout "
                          f"{dataset.layout}, which teaches {dataset.task}")
    return dataset


@contextmanager
def _place(request: TrainingRequest) -> Iterator[None]:
    """Makes the folder of the state for the time of the training: gone when all is done, kept when there is state in it."""
    out, state = request.out, request.out / STATE
    try:
        if state.exists() and not request.resume:
            raise ConfigError(f"{out}: expected a new folder, got one with a training that was interrupted. Go on with "
                              "--resume, or choose another --out.")
        if not state.exists() and out.exists() and any(out.iterdir()):
            raise ConfigError(f"{out}: expected a new or empty folder for the model, got one with files in it"
                              + (": its training is done. " if (out / "card.json").exists() else ". ")
                              + "Choose another --out.")
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: expected a place that can be written, got: {error.strerror}") from error
    try:
        yield
    except BaseException:
        for folder in (state, out):  # nothing was learnt yet: nothing is left
            with suppress(OSError):
                folder.rmdir()
        raise
    shutil.rmtree(state, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Judge:
    """A network and the images that it is judged on, of which it learnt nothing."""

    network: torch.nn.Module
    held: tuple[LabelledImage, ...]


@dataclass(frozen=True, slots=True)
class _Learnt:
    """Where a training started, the weights that count, and the rounds."""

    start: Start
    best: Best
    curve: tuple[Point, ...]


class _Job:
    """One training: what all of its steps need."""

    def __init__(self, request: TrainingRequest, dataset: Dataset, recipe: Recipe, limits: ReadLimits,
                 say: Callable[[str], None], group: Group) -> None:
        self._request, self._dataset, self._recipe, self._say, self._group = request, dataset, recipe, say, group
        self._state, self._limits = request.out / STATE, limits
        self._pictures = Pictures(channels=recipe.channels, normalisation=recipe.normalisation, limits=limits)
        self._draft = _draft(request, dataset, recipe)
        self._started()  # what cannot be begun with is said now
        taught = [image for image in dataset.images if image.split not in (Split.CALIBRATION, Split.TEST)]
        of_start = learnt_from(find_model(request.init)) if request.init not in (IMAGENET, RANDOM) else None
        self._seen = sorted({truth.content_digest(image.ref) for image in taught} | (of_start or frozenset()))
        self._data_digest = truth.data_digest(taught)

    @property
    def examples_a_step(self) -> int:
        return self._recipe.course.batch

    def learn(self, arrangement: Arrangement, say: Callable[[str], None]) -> tuple[list[_Learnt], _Learnt]:
        """Trains the out-of-fold models, if there are to be any, and the model itself."""
        folds = []
        for number, fold in enumerate(arrangement.folds):
            say(f"out-of-fold model {number + 1} of {len(arrangement.folds)}")
            short = replace(self._recipe.course, steps=max(1, round(self._recipe.course.steps * _FOLD_STEPS)))
            folds.append(self._learn(f"fold-{number}", replace(self._recipe, course=short), Fold(fold.learnt, ()), say))
        return folds, self._learn("model", self._recipe, arrangement.whole, say)

    def run(self, arrangement: Arrangement, say_learning: Callable[[str], None]) -> Path:
        """Trains all models that it takes, judges them, and writes the folder."""
        of_folds, learnt = self.learn(arrangement, say_learning)
        start, best = learnt.start, learnt.best
        judges = [_Judge(self._loaded(each.best.weights), fold.held)
                  for each, fold in zip(of_folds, arrangement.folds, strict=True)]
        if not judges:
            judges = [_Judge(self._loaded(best.weights), arrangement.whole.held)]
        card = self._draft.model_copy(update={
            "weights_sha256": save_model(best.weights, self._request.out / WEIGHTS, half=False), "source": start.source,
            "extraction": self._extraction(judges)})
        self._keep_recipe()
        course = Course(start=start.source, steps=self._recipe.course.steps, examples_a_step=self._recipe.course.batch,
                        kept_step=best.step, rounds=[Round(step=each.step, loss=each.loss, figures=dict(each.figures))
                                                     for each in learnt.curve])
        self._write(card, judges, course, out_of_fold=len(arrangement.folds) or None)
        return self._request.out

    def _started(self) -> Start:
        return started(self._draft, self._request.init, assets=settings().assets_dir, seed=self._request.seed)

    def _learn(self, name: str, recipe: Recipe, fold: Fold, say: Callable[[str], None]) -> _Learnt:
        start = self._started()
        if name == "model":
            say(f"starting from {start.source}: {start.taken} of {start.tensors} tensors taken")
        network = start.network.cuda() if torch.cuda.is_available() else start.network
        progress = Progress(self._state / f"{name}.safetensors", {
            "recipe": recipe.described(), "init": start.source, "data": self._data_digest, "fold": name})
        training = Training(network, self._lesson(recipe, fold), recipe.course, progress=progress,
                            encoder=encoder_names(self._draft), group=self._group, say=say)
        return _Learnt(start, *training.learn())

    def _lesson(self, recipe: Recipe, fold: Fold) -> Lesson:
        if recipe.resize is not None:
            return ClassificationLesson(self._dataset, fold.learnt, fold.held, card=self._draft, resize=recipe.resize,
                                        pictures=self._pictures, variation=recipe.variation)
        if recipe.detection is not None:
            return InstanceLesson(self._dataset, fold.learnt, fold.held, card=self._draft, pictures=self._pictures,
                                  variation=recipe.variation, crop_px=recipe.crop_px, limits=self._limits)
        return SemanticLesson(self._dataset, fold.learnt, fold.held, card=self._draft, pictures=self._pictures,
                              variation=recipe.variation, crop_px=recipe.crop_px, seed=self._request.seed)

    def _loaded(self, weights: Weights) -> torch.nn.Module:
        network = started(self._draft, RANDOM, assets=settings().assets_dir, seed=0).network
        network.load_state_dict(weights)
        return network.to(memory_format=torch.channels_last).eval()

    def _extraction(self, judges: Sequence[_Judge]) -> Extraction:
        """How candidates are made of scores, by what would be found in the held images."""
        if self._request.task is not Task.SEMANTIC:
            return _of_classes(self._draft) if self._request.task is Task.CLASSIFICATION else _of_instances(self._draft)
        choice = ExtractionChoice(self._draft.class_names)
        for judge in judges:
            live = LivePredictor(judge.network, self._draft)
            for image in judge.held:
                with self._pictures.source(image.ref) as source:
                    scores = np.concatenate(list(score_rows(source, live, watch=Stopwatch())), axis=1)
                    objects = truth.objects(image, self._dataset, width_px=source.width_px, height_px=source.height_px)
                choice.add(scores, objects)
        return choice.choose()

    def _keep_recipe(self) -> None:
        """Writes down how it was trained, all that its weights depend on."""
        said = {"recipe": self._recipe.described(), "data_digest": self._data_digest, "init": self._request.init}
        write_whole(self._request.out / "training.json", (json.dumps(said, indent=1, sort_keys=True) + "\n").encode())

    def _write(self, card: ModelCard, judges: Sequence[_Judge], course: Course, *, out_of_fold: int | None) -> None:
        """The figures, the report, and last of all the card: a folder without it is no model yet."""
        self._say("judging it on the images that were held out")
        classes = compared(card, self._dataset)
        observations = [observe(image, self._dataset, LivePredictor(judge.network, card), self._limits)
                        for judge in judges for image in judge.held]
        observations.sort(key=lambda each: each.ref.uri.encode("utf-8", "surrogateescape"))
        summary = summarise(observations, classes.names, card.task, seed=self._request.seed,
                            exclusive=self._dataset.exclusive)
        document = metrics_document(
            summary, classes=classes, out_of_fold=out_of_fold,
            seen=SeenInTraining(images=0, share=0.0, image_uris=[]), model=EvaluatedModel(
                name=card.name, version=card.version, digest=card.digest, runtime=Runtime.TORCH_CPU.value, flag_at={},
                operating_point="none"),
            data=EvaluatedData(place=self._dataset.place, layout=self._dataset.layout, images=len(observations),
                               split=None if out_of_fold else Split.VAL.value, exclusive=self._dataset.exclusive))
        said = _OUT_OF_FOLD if out_of_fold else _CHOSEN_HERE
        document = document.model_copy(update={"course": course, "notes": [said, *document.notes]})
        out = self._request.out
        write_whole(out / TRAINED_ON, (json.dumps({"sha256": self._seen}, indent=1) + "\n").encode())
        write_evaluation(store_of(str(out)).folder(str(out)), document, observations, self._limits)
        write_whole(out / "card.json", card.to_json().encode())


def _draft(request: TrainingRequest, dataset: Dataset, recipe: Recipe) -> ModelCard:
    """The card before there are weights."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", request.out.resolve().name).lstrip("._-") or "model"
    softmax = request.task is Task.CLASSIFICATION and dataset.exclusive
    tile_px = recipe.resize.crop_px if recipe.resize is not None else 512
    return ModelCard(
        name=name, family=recipe.family, task=request.task, arch=recipe.arch, encoder=recipe.encoder,
        description=f"{', '.join(dataset.classes[:8])}{' ...' if len(dataset.classes) > 8 else ''}, learnt from labels.",
        classes=tuple(ClassNode(name=each) for each in dataset.classes), channels=recipe.channels,
        activation=Activation.SOFTMAX if softmax else Activation.SIGMOID, weights_sha256="0" * 64,
        normalisation=recipe.normalisation, resize=recipe.resize, detection=recipe.detection, tile_px=tile_px,
        overlap_px=0 if recipe.resize is not None else 64, licence=request.licence,
        trained_on=f"{dataset.place}: {len(dataset.images)} labelled images",
        not_for="Images unlike those that it was trained on", seed=request.seed, made_by="segsvc train")


def _of_instances(card: ModelCard) -> Extraction:
    """All that the detector answers with is stored: its own score_min is the floor."""
    floor = card.detection.score_min if card.detection is not None else 0.05
    return Extraction(extent_min=floor, floor=floor)


def _of_classes(card: ModelCard) -> Extraction:
    """Of a few classes all scores are stored that could matter; of many the ten highest."""
    floor = round(0.001 * SCORE_ONE) / SCORE_ONE
    return Extraction(extent_min=floor, floor=floor, top_k=None if len(card.classes) <= 20 else 10)
