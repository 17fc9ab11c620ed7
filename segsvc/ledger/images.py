"""The images of the ledger: those that its candidates are in."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, func, select

from segsvc.ledger.bulk import insert_rows
from segsvc.ledger.errors import Unknown
from segsvc.ledger.opening import Ledger
from segsvc.ledger.prepared import Prepared
from segsvc.ledger.records import ImageRecord
from segsvc.ledger.tables import IMAGES

_AT_ONCE = 500
_COLUMNS = ["number", "image_id", "uri", "version", "width_px", "height_px", "frames"]
_IMAGE = Prepared(select(IMAGES).where(IMAGES.c.image_id == bindparam("image_id")))


def find(ledger: Ledger, image_id: str) -> ImageRecord:
    """The image of that id. Raises Unknown."""
    with ledger.read() as conn:
        row = _IMAGE.first(conn, image_id=image_id.replace("\0", "").encode("utf-8", "replace").decode())
    if row is None:
        raise Unknown(f"image: expected one with candidates in the ledger, got {image_id!r}")
    return ImageRecord(row["image_id"], row["uri"], row["version"], row["width_px"], row["height_px"], row["frames"])


def image_numbers(conn: Connection, images: Sequence[ImageRecord]) -> dict[str, int]:
    """The numbers of these images by id; they are added where they are not there yet."""
    found: dict[str, int] = {}
    ids = [image.image_id for image in images]
    for start in range(0, len(ids), _AT_ONCE):
        found.update((row[0], row[1]) for row in conn.execute(
            select(IMAGES.c.image_id, IMAGES.c.number).where(IMAGES.c.image_id.in_(ids[start:start + _AT_ONCE]))))
    number = conn.execute(select(func.max(IMAGES.c.number))).scalar() or 0
    new = []
    for image in images:
        if image.image_id not in found:
            number += 1
            found[image.image_id] = number
            new.append((number, image.image_id, image.uri, image.version, image.width_px, image.height_px, image.frames))
    insert_rows(conn, IMAGES, _COLUMNS, new)
    return found
