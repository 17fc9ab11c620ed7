"""metrics.json: what an evaluation says of a model. It holds no time: the same work gives the same bytes."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict

from segsvc.quality.figures import (
    ClassificationFigures,
    DenseFigures,
    Figure,
    FoundFigures,
    InstanceFigures,
    SliceFigures,
    Sureness,
    WorstImage,
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EvaluatedModel(_Part):
    """Which model was asked; `runtime` computed it, and `flag_at` are the thresholds of its operating point."""

    name: str
    version: str
    digest: str
    runtime: str | None
    flag_at: dict[str, float]
    operating_point: str


class EvaluatedData(_Part):
    """Which images were looked at; `split` is null where the whole set was. `exclusive`: each shows exactly one class."""

    place: str
    layout: str
    split: str | None
    images: int
    exclusive: bool


class ComparedClasses(_Part):
    """The classes that were compared, and those that only the set or only the model knows.

    `folded`: classes of the model that the set has no name for, and the ancestor that each of them counted as.
    """

    names: list[str]
    only_in_data: list[str]
    only_in_model: list[str]
    folded: dict[str, str] = {}


class SeenInTraining(_Part):
    """How many of the images the model was trained on, by content; null where its folder does not say what it saw."""

    images: int | None
    share: float | None
    image_uris: list[str]


class FailedImage(_Part):
    """An image that the model could not read, and why."""

    image_uri: str
    kind: str
    error: str


class Round(_Part):
    """A look at validation while a model was trained: after so many steps, the mean loss since the last one, and figures."""

    step: int
    loss: float
    figures: dict[str, float]


class Course(_Part):
    """How a model was trained: from where, for how many steps of how many examples, and which step's weights were kept."""

    start: str
    steps: int
    examples_a_step: int
    kept_step: int
    rounds: list[Round]


class MetricsDocument(_Part):
    """metrics.json, and what `segsvc evaluate --json` prints. Of `semantic`, `instance` and `classification` one is there.

    `figures` say it in few words, `notes` are sentences that belong beside them. `out_of_fold` is how many models judged
    images that they had not learnt from, null where one model judged all. `course` is there in a trained model's own folder.
    """

    format: int = 1
    task: str
    model: EvaluatedModel
    data: EvaluatedData
    images: int
    failed: list[FailedImage]
    classes: ComparedClasses
    sureness: Sureness
    seen_in_training: SeenInTraining
    out_of_fold: int | None
    notes: list[str]
    figures: dict[str, Figure]
    semantic: DenseFigures | None
    instance: InstanceFigures | None
    classification: ClassificationFigures | None
    found: FoundFigures | None
    slices: list[SliceFigures]
    worst: list[WorstImage]
    versions: dict[str, str]
    course: Course | None = None

    def to_json(self) -> str:
        """The document as JSON with sorted keys: the same bytes for the same content."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
