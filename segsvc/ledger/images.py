"""The images of the ledger: those that its candidates are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from segsvc.ledger import ids
from segsvc.ledger.bulk import insert_rows
from segsvc.ledger.candidates import storable
from segsvc.ledger.errors import Unknown
from segsvc.ledger.opening import Ledger
from segsvc.ledger.prepared import Prepared
from segsvc.ledger.records import ImageRecord
from segsvc.ledger.tables import IMAGES

_COLUMNS = ["number", "image_id", "uri", "version", "width_px", "height_px", "frames"]
_IMAGE = Prepared(select(IMAGES).where(IMAGES.c.number == bindparam("number")))


def find(ledger: Ledger, image_id: str) -> ImageRecord:
    """The image of that id. Raises Unknown."""
    with ledger.read() as conn:
        row = image_row(conn, storable(image_id))
    if row is None:
        raise Unknown(f"image: expected one with candidates in the ledger, got {image_id!r}")
    return ImageRecord(row["image_id"], row["uri"], row["version"], row["width_px"], row["height_px"], row["frames"])


def image_row(conn: Connection, image_id: str) -> Mapping[str, Any] | None:
    """The row of the image of that id."""
    number = ids.numbers(conn, ids.IMAGE, [image_id]).get(image_id)
    return _IMAGE.first(conn, number=number) if number is not None else None


def image_numbers(conn: Connection, images: Sequence[ImageRecord]) -> dict[str, int]:
    """The numbers of these images by id; they are added where they are not there yet."""
    ids.fill(conn)
    found = add_images(conn, images, ids.numbers(conn, ids.IMAGE, [image.image_id for image in images]))
    ids.fill(conn)
    return found


def add_images(conn: Connection, images: Sequence[ImageRecord], there: Mapping[str, int]) -> dict[str, int]:
    """Adds those of the images that are not there yet, whose ids `ids.fill` is to take in; the numbers of all, by id."""
    last = conn.execute(select(func.max(IMAGES.c.number))).scalar() or 0
    new = {image.image_id: image for image in images if image.image_id not in there}
    numbers = {**there, **{image_id: number for number, image_id in enumerate(new, start=last + 1)}}
    insert_rows(conn, IMAGES, _COLUMNS, [
        (numbers[each], each, image.uri, image.version, image.width_px, image.height_px, image.frames)
        for each, image in new.items()])
    return {image.image_id: numbers[image.image_id] for image in images}
