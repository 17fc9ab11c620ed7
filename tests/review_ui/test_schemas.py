"""The JSON of a candidate."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from review_ui.schemas import DecisionAnswer, ItemAnswer, ProgressAnswer, RunAnswer
from segsvc.imaging import masks
from segsvc.ledger import records
from segsvc.ledger.records import Item
from segsvc.types import Band, CandidateKind


def item(**changed: object) -> Item:
    fields: dict[str, object] = {
        "candidate_id": "a", "run_id": "r", "image_id": "i", "image_uri": "s3://bucket/a%20folder/b%20c.tif",
        "image_version": "1", "width_px": 100, "height_px": 80, "frames": 1, "frame": 0, "class_name": "cell",
        "kind": CandidateKind.REGION, "x0": 10, "y0": 20, "x1": 13, "y1": 22, "area_px": 6, "mask_rle": "06", "text": None,
        "touches_edge": False, "score": 0.5, "probability": None, "band": Band.REVIEW, "tag": "t", "decisions": (),
        "decided": False}
    return Item(**{**fields, **changed})  # type: ignore[arg-type]


def test_a_candidate_has_its_outline_in_px_of_the_image_and_the_name_of_its_image() -> None:
    shown = ItemAnswer.of(item())
    assert sorted(shown.outline[0]) == [(10, 20), (10, 22), (13, 20), (13, 22)]
    assert shown.image_name == "b c.tif"


@pytest.mark.parametrize("rle", [None, "", "0", "nonsense", "\u00e9", "0" * 5000])
def test_a_candidate_whose_mask_is_none_has_no_outline_and_does_not_stop_the_review(rle: str | None) -> None:
    assert ItemAnswer.of(item(mask_rle=rle)).outline == []


def test_an_outline_is_not_longer_than_a_page_can_draw() -> None:
    checkered = np.indices((100, 200)).sum(axis=0) % 2 == 0
    shown = ItemAnswer.of(item(x0=0, y0=0, x1=200, y1=100, mask_rle=masks.encode(checkered).decode("ascii")))
    assert 0 < sum(len(ring) for ring in shown.outline) <= 2000


@pytest.mark.parametrize(("answer", "record"), [(ItemAnswer, records.Item), (DecisionAnswer, records.Decision),
                                                (ProgressAnswer, records.Progress), (RunAnswer, records.RunRecord)])
def test_answers_mirror_the_records_of_the_ledger(answer: type, record: type) -> None:
    assert {field.name for field in dataclasses.fields(record)} <= set(answer.model_fields)
