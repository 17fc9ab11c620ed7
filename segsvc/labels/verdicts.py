"""What people decided in the review of a run, as labels to train on: never whole images, and said so in the set itself.

What the model found and a person accepted or corrected is an object, and so is what people marked beside it; what a person
rejected is known not to be one. All the rest of an image is not known, as nobody looked there, and is marked to be ignored:
training learns nothing of it (px of an index mask that are 255). Of what was rejected, what a candidate that nobody decided
covers too is not known either. Where somebody said of an image that all is marked, that alone is true of it. A box without
px is ignored where px are learnt. A detector's objects are whole boxes: there what lies around a decided candidate, half its
size, is known as well.

Of a whole image's classes a label is all or nothing: an image is a label where every class that the run stored of it was
decided, or, of a model for which one class holds, where one was accepted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from segsvc.card import Activation, Task
from segsvc.datasets import ClassTruth, LabelledImage, ObjectTruth, TrueObject
from segsvc.datasets.origin import Origin
from segsvc.errors import ConfigError, ImageError
from segsvc.exporting import Decided, point_as_of
from segsvc.imaging import masks
from segsvc.imaging.masks import BoolArray
from segsvc.labels.files import CLASSES, OBJECTS, class_file, coco_file, ignored
from segsvc.ledger.label_records import Label
from segsvc.ledger.label_rows import shape_of
from segsvc.ledger.records import EffectiveVerdict, Verdict
from segsvc.ledger.run_labels import ImageLabels
from segsvc.models.library import find_same_model
from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.types import Band, Box, CandidateKind, ImageRef
from segsvc.views import OpenRun

RULE = "rule"  # who decided, in an annotation, where no person did
_YES = (Verdict.ACCEPTED, Verdict.EDITED)
_AROUND = 0.5  # of a detector's object: so much of its size is known on each side
_Row = Mapping[str, Any]


@dataclass(slots=True)
class VerdictLabels:
    """The labels of a run. left_out: why images with decisions are no labels, and how many."""

    images: list[LabelledImage] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    origin: Origin = field(default_factory=lambda: Origin(()))
    of_whole_images: bool = False
    by_px: bool = False  # what is learnt of it are px
    further: dict[tuple[str, TrueObject], dict[str, Any]] = field(default_factory=dict)
    rejected: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def objects(self) -> int:
        """Objects, or classes that images show."""
        return sum(len(image.truth.names) if isinstance(image.truth, ClassTruth) else
                   sum(not each.ignored for each in image.truth.objects)
                   for image in self.images if isinstance(image.truth, (ClassTruth, ObjectTruth)))

    def file(self) -> tuple[str, bytes]:
        """What the file is called, and what it holds."""
        if self.of_whole_images:
            return CLASSES, class_file(self.images, origin=self.origin)
        return OBJECTS, coco_file(self.images, self.classes, origin=self.origin, further=self.further)


def verdict_labels(run: OpenRun, decided: Decided, marked: Mapping[str, ImageLabels], *, run_id: str, as_of: datetime,
                   by_rule: bool) -> VerdictLabels:
    """The labels of a run's images on which somebody decided or marked something, in the order of the run.

    marked: what people marked beside the candidates, by the images' ids. by_rule: what rules accepted counts as accepted; of
    classes of whole images also what they rejected. Raises ConfigError where nothing was decided, RunError where a part of
    the run is damaged.
    """
    model = find_same_model(run.spec.model, run.spec.model_digest)
    exclusive = model is not None and model.card.activation is Activation.SOFTMAX
    made = VerdictLabels(by_px=model is not None and model.card.task is Task.SEMANTIC)
    names: set[str] = set()
    deciders: set[str] = set()
    for images, candidates in run.parts(point_as_of(run, as_of)):
        said = decided(candidates["candidate_id"].to_pylist())
        rows_of = _by_image(candidates)
        for image in images.to_pylist():
            judged = [_Judged(row, said.get(row["candidate_id"]), by_rule=by_rule)
                      for row in rows_of.get(image["image_id"], ())]
            names |= {each.row["class_name"] for each in judged}
            beside = marked.get(image["image_id"])
            if beside is None and not any(each.verdict is not None for each in judged):
                continue
            names |= {each.class_name for each in beside.labels} if beside is not None else set()
            deciders |= {*(each.by for each in judged if each.is_known), *(beside.readers if beside is not None else ())}
            made.of_whole_images |= any(each.row["kind"] == CandidateKind.IMAGE for each in judged) or (
                beside is not None and any(each.box is None for each in beside.labels))
            made.by_px |= any(each.row["kind"] == CandidateKind.REGION for each in judged)
            fault = _fault(image) or _add(image, judged, beside, made, exclusive=exclusive)
            if fault is not None:
                made.left_out[fault] += 1
    if not made.images:
        came = f"; {sum(made.left_out.values())} images are none: {_listed(made.left_out)}" if made.left_out else ""
        raise ConfigError(f"run {run_id}: expected candidates that people decided, got none that make labels{came}. Review "
                          "some first: `segsvc review import OUT`, `segsvc serve`.")
    made.classes = model.card.class_names if model is not None else tuple(sorted(names))
    made.origin = Origin((run_id,), (as_of.isoformat(),), tuple(sorted(deciders)))
    return made


class _Judged:
    """A candidate, and what holds of it."""

    def __init__(self, row: _Row, verdict: EffectiveVerdict | None, *, by_rule: bool) -> None:
        self.row, self.verdict = row, verdict
        self.box = Box(row["x0"], row["y0"], row["x1"], row["y1"])
        rule = by_rule and verdict is None
        self.is_object = verdict.verdict in _YES if verdict is not None else rule and row["band"] == Band.ACCEPTED
        of_whole_image = row["kind"] == CandidateKind.IMAGE
        self.is_none = verdict.verdict is Verdict.REJECTED if verdict is not None else (
            rule and of_whole_image and row["band"] == Band.REJECTED)
        self.by = verdict.decider if verdict is not None else RULE

    @property
    def is_known(self) -> bool:
        return self.is_object or self.is_none

    def true_object(self) -> TrueObject:
        """The object, as a person corrected it."""
        rle, box = self.row["mask_rle"], self.box
        if self.verdict is not None and self.verdict.mask_rle is not None:
            rle, box = self.verdict.mask_rle, self.verdict.box or box
        return TrueObject(self.row["class_name"], box, rle.encode("ascii") if rle is not None else None)

    def further(self) -> dict[str, Any]:
        """What its annotation says beside."""
        said = self.verdict
        return {"candidate_id": self.row["candidate_id"], "score": self.row["score"], "decided_by": self.by,
                "verdict": said.verdict.value if said is not None else Band.ACCEPTED.value,
                "decided_at": said.decided_at.isoformat() if said is not None else None}


def _by_image(candidates: pa.Table) -> dict[str, list[_Row]]:
    rows = sorted(candidates.to_pylist(), key=lambda row: str(row["image_id"]))
    return {image_id: list(own) for image_id, own in groupby(rows, key=lambda row: str(row["image_id"]))}


def _fault(image: _Row) -> str | None:
    """Why an image can be no label; None where it can."""
    if image["frames"] != 1:
        return "of several frames"
    if image["width_px"] * image["height_px"] > settings().decode_limit_bytes:
        return "too large"
    try:
        there = store_of(image["image_uri"]).find(image["image_uri"]).version
    except ImageError:
        return "not to be read"
    return None if there == image["image_version"] else "changed or gone since the run"


def _add(image: _Row, judged: Sequence[_Judged], beside: ImageLabels | None, made: VerdictLabels, *,
         exclusive: bool) -> str | None:
    """Adds the image's labels; why there are none, else None."""
    ref = ImageRef(image["image_uri"], image["image_version"], 0, group=image["group"], meta=dict(image["meta"] or ()))
    width, height = image["width_px"], image["height_px"]
    yes = [each for each in judged if each.is_object]
    if made.of_whole_images:
        said = beside is not None and beside.whole
        shown = frozenset(each.class_name for each in beside.labels) if beside is not None and beside.whole else frozenset(
            each.row["class_name"] for each in yes)
        if exclusive and len(shown) != 1:
            return "without just one accepted class"
        if not exclusive and not said and not all(each.is_known for each in judged):
            return "with classes that nobody decided"
        made.images.append(LabelledImage(ref, ClassTruth(shown)))
    else:
        objects = [_marked(each, made, ref.uri) for each in beside.labels] if beside is not None else []
        if beside is not None and beside.whole:
            hidden: tuple[TrueObject, ...] = ()
        else:
            for each in yes:
                objects.append(one := each.true_object())
                made.further[ref.uri, one] = each.further()
            unknown = ~_known_px(judged, objects, width_px=width, height_px=height)
            hidden = ignored(unknown, judged[0].row["class_name"] if judged else objects[0].class_name)
        made.images.append(LabelledImage(ref, ObjectTruth((*objects, *hidden), width, height)))
    made.rejected += sum(each.is_none for each in judged)
    return None


def _marked(label: Label, made: VerdictLabels, uri: str) -> TrueObject:
    """An object that a person marked."""
    shape = shape_of(label)
    if shape is None:
        raise ConfigError(f"{uri}: expected objects, got {label.class_name!r} for the whole image")
    one = TrueObject(label.class_name, shape.box, shape.mask_rle, ignored=made.by_px and shape.mask_rle is None)
    made.further[uri, one] = {"decided_by": label.reader, "verdict": "marked", "decided_at": label.made_at.isoformat()}
    return one


def _known_px(judged: Sequence[_Judged], objects: Sequence[TrueObject], *, width_px: int, height_px: int) -> BoolArray:
    """(height_px, width_px): which px are of an object, or known to be of none."""
    frame = Box(0, 0, width_px, height_px)
    layers: list[tuple[bytes, Box, int]] = []

    by_box = any(each.row["kind"] == CandidateKind.INSTANCE for each in judged)

    def paint(shapes: Iterable[TrueObject], value: int, *, around: bool = False) -> None:
        for shape in shapes:
            box = _around(shape.box, frame) if by_box and around else shape.box
            rle = shape.mask_rle if shape.mask_rle is not None and not by_box else masks.encode(
                np.ones((box.height_px, box.width_px), np.bool_))
            layers.append((rle, box, value))

    paint((*(each.true_object() for each in judged if each.is_none), *objects), 1, around=True)
    paint((each.true_object() for each in judged if not each.is_known), 0)
    paint(objects, 1)
    known: BoolArray = masks.compose(layers, window=frame) == 1
    return known


def _around(box: Box, frame: Box) -> Box:
    """The box with what lies around it, within the image."""
    x, y = round(_AROUND * box.width_px), round(_AROUND * box.height_px)
    return Box(max(frame.x0, box.x0 - x), max(frame.y0, box.y0 - y), min(frame.x1, box.x1 + x), min(frame.y1, box.y1 + y))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {why}" for why, count in sorted(counts.items()))
