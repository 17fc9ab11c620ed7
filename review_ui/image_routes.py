"""`/v1/images`: what a person sees of an image, from this origin."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Request, Response

from review_ui.answers import problems
from review_ui.pictures import MOST_SIDE_PX, Region, RegionError
from review_ui.problems import ProblemType
from review_ui.service import Parts, Service, Who
from segsvc.ledger import images
from segsvc.types import Box, ImageRef

router = APIRouter(prefix="/v1", tags=["images"], responses=problems(ProblemType.SIGN_IN))
_FOR_EVER = "private, max-age=31536000, immutable"  # an image_id stands for a version of the image
Px = Annotated[int, Query(ge=0, lt=2**31)]


@router.get("/images/{image_id}/region.jpg", response_class=Response, responses={
    200: {"content": {"image/jpeg": {}}, "description": "The crop"}, 304: {"description": "Not changed"},
    **problems(ProblemType.UNKNOWN, ProblemType.IMAGE_GONE, ProblemType.IMAGE_UNREADABLE, ProblemType.INVALID,
               ProblemType.STORE)})
async def region(
    service: Parts, _: Who, request: Request, image_id: Annotated[str, Path(max_length=64)], x0: Px, y0: Px, x1: Px, y1: Px,
    width: Annotated[int, Query(ge=1, le=MOST_SIDE_PX)], frame: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> Response:
    """The px from x0, y0 to x1, y1 (half-open), `width` px wide and as high as they are: any part at any scale, as JPEG.

    The part lies within the image, and neither side of the picture is longer than 4096 px. Deeper than 8 bit is stretched.
    """
    asked = Region(_box(x0, y0, x1, y1), width, frame)
    ref = await to_thread.run_sync(_find, service, image_id, asked)
    headers = {"ETag": f'"{asked.tag(image_id)}"', "Cache-Control": _FOR_EVER}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    # opening may take long, as it may decode all of an image: it does not stand in the way of what is there already
    limiter = service.cropping if service.pictures.is_ready(image_id, frame) else service.opening
    data = await to_thread.run_sync(service.pictures.crop, ref, asked, limiter=limiter)
    return Response(data, media_type="image/jpeg", headers=headers)


def _box(x0: int, y0: int, x1: int, y1: int) -> Box:
    try:
        return Box(x0, y0, x1, y1)
    except ValueError as error:
        raise RegionError(f"region: {error}") from error


def _find(service: Service, image_id: str, asked: Region) -> ImageRef:
    """The image, and whether the region lies within it. Raises Unknown and RegionError."""
    image = images.find(service.ledger, image_id)
    asked.check_within(width_px=image.width_px, height_px=image.height_px, frames=image.frames)
    return ImageRef(image.uri, image.version, 0)
