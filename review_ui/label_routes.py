"""`/v1/label` and what people mark on images: `/v1/images/{image_id}/objects` and `/done`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from review_ui.answers import problems
from review_ui.candidate_routes import check_mask
from review_ui.label_schemas import (
    DoneBody,
    ImageLeaseAnswer,
    ImageLeaseBody,
    LabelAnswer,
    LabelItemAnswer,
    LabellingAnswer,
    LabellingsAnswer,
    ObjectBody,
    SetAnswer,
    SetsAnswer,
)
from review_ui.problems import ProblemType
from review_ui.schemas import MOST_LISTED
from review_ui.service import Parts, Service, Who
from segsvc.ledger import images, label_sets, labelling
from segsvc.ledger.label_records import NewObject

router = APIRouter(prefix="/v1", tags=["labels"], responses=problems(ProblemType.SIGN_IN))
SetName = Annotated[str, Path(max_length=200)]
ImageId = Annotated[str, Path(max_length=64)]
OfSet = Annotated[str | None, Query(alias="set", max_length=200, description="the label set that it is labelled for")]
OfRun = Annotated[str | None, Query(max_length=200, description="the run of which it is an image")]
_SAID = problems(ProblemType.UNKNOWN, ProblemType.INVALID, ProblemType.FULL)


@router.get("/label/sets")
def list_sets(service: Parts, _: Who) -> SetsAnswer:
    """All label sets and how far they are."""
    return SetsAnswer(items=[SetAnswer.of(each) for each in label_sets.all_sets(service.ledger)], next_cursor=None)


@router.get("/label/sets/{name}", responses=problems(ProblemType.UNKNOWN))
def show_set(service: Parts, _: Who, name: SetName) -> SetAnswer:
    """One label set and how far it is."""
    return SetAnswer.of(label_sets.find(service.ledger, name))


@router.post("/label/sets/{name}/lease", responses=problems(ProblemType.UNKNOWN, ProblemType.INVALID))
def lease_images(service: Parts, reader: Who, name: SetName, body: ImageLeaseBody) -> ImageLeaseAnswer:
    """The next images for this person, in drawn order; others get other ones until the lease ends."""
    items = labelling.lease(service.ledger, reader, name, n=body.n, holding=body.holding, candidates=body.candidates)
    return ImageLeaseAnswer(items=[LabelItemAnswer.of(item) for item in items],
                            progress=SetAnswer.of(label_sets.find(service.ledger, name)))


@router.get("/label/sets/{name}/images/{image_id}", responses=problems(ProblemType.UNKNOWN))
def show_image(service: Parts, reader: Who, name: SetName, image_id: ImageId, candidates: bool = False) -> LabelItemAnswer:
    """An image of a label set with this person's own objects."""
    return LabelItemAnswer.of(labelling.find(service.ledger, reader, name, image_id, candidates=candidates))


@router.get("/label/sets/{name}/mine", responses=problems(ProblemType.UNKNOWN, ProblemType.INVALID))
def my_labellings(service: Parts, reader: Who, name: SetName,
                  limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 50) -> LabellingsAnswer:
    """What this person said of the set's images, the latest first; of each image what holds."""
    return LabellingsAnswer(items=[LabellingAnswer.of(each) for each in labelling.mine(
        service.ledger, reader, name, limit=limit)], next_cursor=None)


@router.post("/images/{image_id}/objects", status_code=201, responses=_SAID)
def add_object(service: Parts, reader: Who, image_id: ImageId, body: ObjectBody, set_name: OfSet = None, run: OfRun = None
               ) -> LabelAnswer:
    """Adds an object that the model missed, or one of a label set: in that set or run, else in the newest one that has the
    image, sets first. It is answered once it is on the disk."""
    new = body.object_()
    _check_masks(service, image_id, (new,))
    return LabelAnswer.of(labelling.add_object(service.ledger, reader, image_id, new, set_name=set_name, run_id=run))


@router.post("/images/{image_id}/done", status_code=201, responses=_SAID)
def label_done(service: Parts, reader: Who, image_id: ImageId, body: DoneBody, set_name: OfSet = None, run: OfRun = None
               ) -> LabellingAnswer:
    """Says that all objects of the image are marked, or that there is none. See /objects for which set or run."""
    new = body.labelling()
    _check_masks(service, image_id, new.objects or ())
    return LabellingAnswer.of(labelling.done(service.ledger, reader, image_id, new, set_name=set_name, run_id=run))


def _check_masks(service: Service, image_id: str, objects: tuple[NewObject, ...]) -> None:
    """Raises Problem(INVALID) for a mask that is none within its box and the image, or has no px."""
    masked = [each for each in objects if each.mask_rle is not None]
    if not masked:
        return
    image = images.find(service.ledger, image_id)
    for each in masked:
        if each.box is not None and each.mask_rle is not None:
            check_mask(each.box, each.mask_rle, width_px=image.width_px, height_px=image.height_px)
