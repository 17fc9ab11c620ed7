"""The JSON of label sets and of what people mark on their images."""

from __future__ import annotations

from datetime import datetime
from math import ceil, floor
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from review_ui.problems import Problem, ProblemType
from review_ui.schemas import MOST_LEASED, Answer, Body, BoxDocument, ClassName, Id, name_of, outline_of
from segsvc.ledger import label_records as records
from segsvc.ledger.label_records import MOST_CORNERS, MOST_OBJECTS, LabelTask
from segsvc.types import Box

_IMAGE = "0f3a5a7c2d1e48b6a9c0d4e5f6071829"
_TIME = "2026-11-02T09:30:12.250000Z"
Corner = tuple[float, float]
Edges = tuple[float, float, float, float]


class BoxBody(Body):
    """A rectangle in px of the full image; fractions are enclosed by whole px."""

    x0: float
    y0: float
    x1: float
    y1: float


class ObjectBody(Body):
    """An object: a polygon, a box, or a mask within its box; none of them for a class of the whole image.

    box: {x0, y0, x1, y1} or [x0, y0, x1, y1]. polygon: [[x, y], ...] or [x, y, x, y, ...], px of the image. mask_rle: COCO's
    compressed RLE within the box. candidate_id: the model's candidate that it is. request_id: made by the sender; the same
    one sent again stores nothing more and gets the same answer.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"class_name": "car", "box": {"x0": 10, "y0": 20, "x1": 40, "y1": 30}, "note": "half hidden"},
        {"class_name": "car", "polygon": [[10, 20], [40, 20], [40, 30]]}]})

    class_name: ClassName
    box: BoxBody | Edges | None = None
    polygon: Annotated[list[Corner], Field(max_length=MOST_CORNERS)] | Annotated[
        list[float], Field(max_length=2 * MOST_CORNERS)] | None = None
    mask_rle: str | None = None
    frame: Annotated[int, Field(ge=0, lt=2**31)] = 0
    note: str | None = None
    candidate_id: Id | None = None
    request_id: str | None = None

    def object_(self) -> records.NewObject:
        """As the ledger takes it. Raises Refused, and Problem(INVALID) for corners or edges that are none."""
        return records.NewObject(self.class_name, box=self._box(), polygon=self._polygon(), mask_rle=self.mask_rle,
                                 frame=self.frame, note=self.note or "", candidate_id=self.candidate_id,
                                 request_id=self.request_id)

    def _box(self) -> Box | None:
        if self.box is None:
            return None
        x0, y0, x1, y1 = self.box if isinstance(self.box, tuple) else (self.box.x0, self.box.y0, self.box.x1, self.box.y1)
        try:
            return Box(floor(x0), floor(y0), ceil(x1), ceil(y1))
        except (ValueError, OverflowError) as error:
            raise Problem(ProblemType.INVALID, f"box: {error}") from error

    def _polygon(self) -> tuple[Corner, ...] | None:
        if self.polygon is None:
            return None
        numbers = [each for corner in self.polygon for each in (corner if isinstance(corner, tuple) else (corner,))]
        if len(numbers) % 2:
            raise Problem(ProblemType.INVALID, f"polygon: expected pairs of x and y, got {len(numbers)} numbers")
        return tuple(zip(numbers[::2], numbers[1::2], strict=True))


class DoneBody(Body):
    """The image is labelled. objects: all that there are, in place of what this person said of it before; without them those
    stand that were added by /objects. nothing: there is none. seconds: from shown to done."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"nothing": True, "shown_at": "2026-11-02T09:30:11Z", "seconds": 1.25}, {"nothing": False, "objects": [
            {"class_name": "car", "box": {"x0": 10, "y0": 20, "x1": 40, "y1": 30}}]}]})

    nothing: bool
    objects: Annotated[list[ObjectBody], Field(max_length=MOST_OBJECTS)] | None = None
    shown_at: datetime | None = None
    seconds: float | None = None
    candidates_shown: bool = False
    request_id: str | None = None

    def labelling(self) -> records.NewLabelling:
        """As the ledger takes it. Raises Refused, and Problem(INVALID)."""
        objects = tuple(each.object_() for each in self.objects) if self.objects is not None else None
        return records.NewLabelling(self.nothing, objects, shown_at=self.shown_at, seconds=self.seconds,
                                    candidates_shown=self.candidates_shown, request_id=self.request_id)


class ImageLeaseBody(Body):
    """Asks for `n` images. holding: ids of those that are still on the page; they stay this person's. candidates: whether
    the model's candidates are wanted with them."""

    n: Annotated[int, Field(ge=0, le=MOST_LEASED)] = 4
    holding: Annotated[list[Id], Field(max_length=10 * MOST_LEASED, default_factory=list)]
    candidates: bool = False


class LabelAnswer(Answer):
    """An object as it stands in the ledger. outline: rings to draw in px of the image; none for a box or a whole image."""

    example: ClassVar[dict[str, Any]] = {
        "label_id": "a9", "image_id": _IMAGE, "reader": "ada", "made_at": _TIME, "class_name": "car",
        "box": {"x0": 10, "y0": 20, "x1": 40, "y1": 30}, "polygon": None, "mask_rle": None, "frame": 0, "note": "",
        "candidate_id": None, "outline": []}
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    label_id: str
    image_id: str
    reader: str
    made_at: datetime
    class_name: str
    box: BoxDocument | None
    polygon: list[Corner] | None
    mask_rle: str | None
    frame: int
    note: str
    candidate_id: str | None
    outline: list[list[Corner]]

    @classmethod
    def of(cls, label: records.Label) -> LabelAnswer:
        if label.polygon is not None:
            outline: list[list[Corner]] = [list(label.polygon)]
        else:
            outline = [[*ring] for ring in outline_of(label.mask_rle, label.box)] if label.box is not None else []
        fields = {name: getattr(label, name) for name in records.Label.__dataclass_fields__}
        # a polygon's box follows from it
        fields["box"] = None if label.polygon is not None or label.box is None else BoxDocument.model_validate(label.box)
        return cls(**fields, outline=outline)


class LabellingAnswer(Answer):
    """What a person said of an image. position: in its set's drawn order, from 1. seconds: those that count as work."""

    example: ClassVar[dict[str, Any]] = {
        "labelling_id": "c4", "image_id": _IMAGE, "image_name": "a b.jpg", "set": "streets", "run": None, "position": 3,
        "reader": "ada", "nothing": False, "n_objects": 2, "candidates_shown": False, "done_at": _TIME, "seconds": 4.5}
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    labelling_id: str
    image_id: str
    image_name: str
    set: str | None
    run: str | None
    position: int | None
    reader: str
    nothing: bool
    n_objects: int
    candidates_shown: bool
    done_at: datetime
    seconds: float | None

    @classmethod
    def of(cls, labelling: records.Labelling) -> LabellingAnswer:
        return cls(labelling_id=labelling.labelling_id, image_id=labelling.image_id, image_name=name_of(labelling.image_uri),
                   set=labelling.set_name, run=labelling.run_id, position=labelling.position, reader=labelling.reader,
                   nothing=labelling.nothing, n_objects=labelling.n_objects, candidates_shown=labelling.candidates_shown,
                   done_at=labelling.done_at, seconds=labelling.seconds)


class LabellingsAnswer(Answer):
    """What a person said of images of a set."""

    items: list[LabellingAnswer]
    next_cursor: str | None


class SetAnswer(Answer):
    """A label set and how far it is: drawn = labelled + left + unreadable, images."""

    example: ClassVar[dict[str, Any]] = {
        "name": "streets", "task": "objects", "classes": ["car", "sign"], "drawn": 80, "labelled": 3, "left": 77,
        "unreadable": 0, "readers": 1, "input": "s3://bucket/streets/", "seconds_median": 14.5, "agreement": None,
        "created_at": _TIME, "has_candidates": False}
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    name: str
    task: LabelTask
    classes: list[str]
    drawn: int
    labelled: int
    left: int
    unreadable: int
    readers: int
    input: str
    seconds_median: float | None
    agreement: float | None
    created_at: datetime
    has_candidates: bool

    @classmethod
    def of(cls, record: records.LabelSet) -> SetAnswer:
        return cls(name=record.name, task=record.task, classes=list(record.class_names), drawn=record.drawn,
                   labelled=record.labelled, left=record.left, unreadable=record.unreadable, readers=record.readers,
                   input=record.input, seconds_median=record.median_seconds, agreement=record.agreement,
                   created_at=record.created_at, has_candidates=record.has_candidates)


class SetsAnswer(Answer):
    """All label sets, the newest first."""

    items: list[SetAnswer]
    next_cursor: str | None


class CandidateAnswer(Answer):
    """A candidate of the model on an image of a label set."""

    candidate_id: str
    class_name: str
    x0: int
    y0: int
    x1: int
    y1: int
    mask_rle: str | None
    score: float
    outline: list[list[Corner]]

    @classmethod
    def of(cls, shown: records.ShownCandidate) -> CandidateAnswer:
        box = shown.box
        return cls(candidate_id=shown.candidate_id, class_name=shown.class_name, x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1,
                   mask_rle=shown.mask_rle, score=shown.score, outline=[[*ring] for ring in outline_of(shown.mask_rle, box)])


class LabelItemAnswer(Answer):
    """An image of a label set as this person may see it: with their own objects, without those of others."""

    example: ClassVar[dict[str, Any]] = {
        "image_id": _IMAGE, "image_uri": "s3://bucket/streets/a%20b.jpg", "image_name": "a b.jpg", "set": "streets",
        "position": 3, "group": "street 7", "width_px": 1024, "height_px": 768, "frames": 1, "frame": 0, "objects": [],
        "labelled": False, "candidates": None}
    model_config = ConfigDict(json_schema_extra={"examples": [example]})

    image_id: str
    image_uri: str
    image_name: str
    set: str
    position: int
    group: str
    width_px: int
    height_px: int
    frames: int
    frame: int
    objects: list[LabelAnswer]
    labelled: bool
    candidates: list[CandidateAnswer] | None

    @classmethod
    def of(cls, item: records.LabelItem) -> LabelItemAnswer:
        image = item.image
        return cls(image_id=image.image_id, image_uri=image.uri, image_name=name_of(image.uri), set=item.set_name,
                   position=item.position, group=item.unit, width_px=image.width_px, height_px=image.height_px,
                   frames=image.frames, frame=0, objects=[LabelAnswer.of(label) for label in item.labels],
                   labelled=item.labelled, candidates=None if item.candidates is None else [
                       CandidateAnswer.of(each) for each in item.candidates])


class ImageLeaseAnswer(Answer):
    """Images that are this person's for a while, in drawn order, and how far the set is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [LabelItemAnswer.example],
                                                               "progress": SetAnswer.example}]})

    items: list[LabelItemAnswer]
    progress: SetAnswer
