"""The images of the ledger: those that its candidates are in."""

from __future__ import annotations

from sqlalchemy import bindparam, select

from segsvc.ledger.errors import Unknown
from segsvc.ledger.opening import Ledger
from segsvc.ledger.prepared import Prepared
from segsvc.ledger.records import ImageRecord
from segsvc.ledger.tables import IMAGES

_IMAGE = Prepared(select(IMAGES).where(IMAGES.c.image_id == bindparam("image_id")))


def find(ledger: Ledger, image_id: str) -> ImageRecord:
    """The image of that id. Raises Unknown."""
    with ledger.read() as conn:
        row = _IMAGE.first(conn, image_id=image_id.replace("\0", "").encode("utf-8", "replace").decode())
    if row is None:
        raise Unknown(f"image: expected one with candidates in the ledger, got {image_id!r}")
    return ImageRecord(row["image_id"], row["uri"], row["version"], row["width_px"], row["height_px"], row["frames"])
