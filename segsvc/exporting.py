"""What of a run is exported, handed to a writer part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from segsvc.ledger.records import EffectiveVerdict
from segsvc.ledger.records import Verdict as LedgerVerdict
from segsvc.models.library import find_same_model
from segsvc.operating_point import OperatingPoint
from segsvc.readers import ReadLimits, open_source
from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.types import Band, Box, ImageRef, Source
from segsvc.views import OpenRun
from segsvc.writers import Export, ExportCount, ExportPart, Writer


class Verdict(StrEnum):
    """Which candidates are exported."""

    ACCEPTED = "accepted"  # accepted by a person, or by rule where no person decided otherwise
    ALL = "all"  # every stored candidate; with the mask and text that a person gave, else as the model found it


DECIDED = ("verdict", "decided_by", "decided_at")  # columns of tables, where a ledger holds the run
Decided = Callable[[Sequence[str]], Mapping[str, EffectiveVerdict]]  # what people decided of candidates, by their ids


def export_run(run: OpenRun, writer: Writer, *, to: Path, verdict: Verdict, as_of: datetime | None,
               decided: Decided | None = None) -> ExportCount:
    """Writes a run by `writer`; `as_of` takes the bands that were in force then, and `decided` says what people decided.

    Raises ConfigError where `to` cannot be written, RunError where a part is damaged.
    """
    point = point_as_of(run, as_of)

    def parts() -> Iterator[ExportPart]:
        for images, candidates in run.parts(point):
            said = decided(candidates["candidate_id"].to_pylist()) if decided is not None else {}
            kept = _corrected(candidates if verdict is Verdict.ALL else _accepted(candidates, said), said)
            yield ExportPart(images, _with_decided(kept, said) if decided is not None else kept)

    return writer.encode(
        Export(_classes(run), parts, run.image_parts, _open_image, DECIDED if decided is not None else ()), to)


def _with_decided(candidates: pa.Table, said: Mapping[str, EffectiveVerdict]) -> pa.Table:
    """With what people decided: null where nobody did."""
    of_people = [said.get(each) for each in candidates["candidate_id"].to_pylist()]
    columns = ([each.verdict.value if each is not None else None for each in of_people],
               [each.decider if each is not None else None for each in of_people],
               [each.decided_at.isoformat() if each is not None else None for each in of_people])
    for name, values in zip(DECIDED, columns, strict=True):
        candidates = candidates.append_column(pa.field(name, pa.string()), pa.array(values, pa.string()))
    return candidates


def _accepted(candidates: pa.Table, said: Mapping[str, EffectiveVerdict]) -> pa.Table:
    """Those that a person accepted, and those that a rule did, unless a person rejected them."""
    by_rule = pc.equal(candidates["band"], Band.ACCEPTED.value)
    if not said:
        return candidates.filter(by_rule)
    ids = candidates["candidate_id"].to_pylist()
    yes = (LedgerVerdict.ACCEPTED, LedgerVerdict.EDITED)
    keep = [said[each].verdict in yes if each in said else rule
            for each, rule in zip(ids, by_rule.to_pylist(), strict=True)]
    return candidates.filter(pa.array(keep))


def _corrected(candidates: pa.Table, said: Mapping[str, EffectiveVerdict]) -> pa.Table:
    """With the mask and text that a person gave, where one did."""
    edited = {each for each, of_person in said.items() if of_person.verdict is LedgerVerdict.EDITED}
    if not edited.intersection(candidates["candidate_id"].to_pylist()):
        return candidates
    rows = [_edited(row, said[row["candidate_id"]]) if row["candidate_id"] in edited else row
            for row in candidates.to_pylist()]
    return pa.Table.from_pylist(rows, schema=candidates.schema)


def _edited(row: dict[str, Any], said: EffectiveVerdict) -> dict[str, Any]:
    """The candidate as a person corrected it."""
    from segsvc.imaging import masks  # loads numba: not for `segsvc export --help`

    changed = dict(row)
    if said.text is not None:
        changed["text"] = said.text
    if said.mask_rle is not None:
        box = said.box if said.box is not None else Box(row["x0"], row["y0"], row["x1"], row["y1"])
        changed.update(mask_rle=said.mask_rle, x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1, area_px=masks.area_px(
            said.mask_rle.encode(), height_px=box.height_px, width_px=box.width_px))
    return changed


def point_as_of(run: OpenRun, when: datetime | None) -> OperatingPoint | None:
    """The operating point that was in force at that time; the latest without a time."""
    points = run.folder.operating_points()
    if when is not None:
        points = [point for point in points if point.set_at is not None and point.set_at <= when]
    return points[-1] if points else None


def _classes(run: OpenRun) -> tuple[str, ...]:
    """What an index mask or a category number refers to: the classes of the run's model, in its card's order.

    So exports of all runs of a model agree. Where the model is not here any more, or was changed, those of all stored
    candidates, by name.
    """
    model = find_same_model(run.spec.model, run.spec.model_digest)
    if model is not None:
        return model.card.class_names
    found: set[str] = set()
    for _, candidates in run.parts():
        found |= set(pc.unique(candidates["class_name"]).to_pylist())
    return tuple(sorted(found))


def _open_image(uri: str, version: str) -> Source:
    blob = store_of(uri).open(ImageRef(uri, version, 0))
    return open_source(blob, ReadLimits(decode_bytes=settings().decode_limit_bytes))
