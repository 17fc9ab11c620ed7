"""Rows of the ledger as the values that go out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segsvc.ledger.records import Decision, Item, Verdict
from segsvc.ledger.sight import Sight
from segsvc.ledger.standing import Row
from segsvc.ledger.tables import as_time
from segsvc.types import Band, Box, CandidateKind


def box_of(row: Mapping[str, Any]) -> Box | None:
    """The box in the columns x0 to y1; None where they are empty."""
    return Box(row["x0"], row["y0"], row["x1"], row["y1"]) if row["x0"] is not None else None


def decision(row: Row, run_id: str, *, undone: bool) -> Decision:
    """A row of decisions that a person made."""
    return Decision(
        decision_id=row["decision_id"], candidate_id=row["candidate_id"], run_id=run_id, verdict=Verdict(row["verdict"]),
        reader=row["reader"], decided_at=as_time(row["decided_at"]),
        shown_at=as_time(row["shown_at"]) if row["shown_at"] is not None else None,
        seconds=row["worked_us"] / 1e6 if row["worked_us"] is not None else None, note=row["note"], text=row["text"],
        mask_rle=row["mask_rle"], box=box_of(row), undoes=row["undoes"], undone=undone)


def item(row: Mapping[str, Any], run_id: str, sight: Sight, decisions: tuple[Decision, ...], *, decided: bool) -> Item:
    """A row of entries with its candidate and image, as the sight allows."""
    return Item(
        candidate_id=row["candidate_id"], run_id=run_id, image_id=row["image_id"], image_uri=row["uri"],
        image_version=row["version"], width_px=row["width_px"], height_px=row["height_px"], frames=row["frames"],
        frame=row["frame"], class_name=row["class_name"], kind=CandidateKind(row["kind"]), x0=row["x0"], y0=row["y0"],
        x1=row["x1"], y1=row["y1"], area_px=row["area_px"], mask_rle=row["mask_rle"], text=row["text"],
        touches_edge=bool(row["touches_edge"]), score=row["score"] if sight.scores else None,
        probability=row["probability"] if sight.scores else None, band=Band(row["band"]) if sight.scores else None,
        tag=sight.tag, decisions=decisions, decided=decided, audit=bool(row["audit"]) if sight.origin else None,
        gold=Verdict(row["gold"]) if sight.origin and row["gold"] is not None else None)
