"""The JSON of `POST /v1/predict`."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from segsvc.card import ModelCard
from segsvc.operating_point import OperatingPoint
from segsvc.results import unit_rows
from segsvc.tables import CANDIDATES_SCHEMA
from segsvc.types import Band, CandidateKind, ImageRef, ImageResult, ImageStatus, Segmentation
from segsvc.views import with_bands

_FOUND: dict[str, Any] = {
    "frame": 0, "class_name": "nucleus", "kind": "region", "score": 0.97, "mean_score": 0.91, "probability": 0.96,
    "band": "accepted", "x0": 10, "y0": 20, "x1": 13, "y1": 22, "area_px": 6, "mask_rle": "06", "text": None,
    "touches_edge": False}
EXAMPLE: dict[str, Any] = {"model": "nuclei", "model_digest": "5f0c" * 16, "width_px": 640, "height_px": 480, "frames": 1,
                           "candidates": [_FOUND]}
_OF_A_RUN = frozenset({"candidate_id", "image_id", "image_uri", "image_version", "model", "model_digest"})


class FoundAnswer(BaseModel):
    """A candidate, with the columns of a run's. Boxes are half-open, in px of the whole image; mask_rle is COCO's compressed
    RLE within the box. probability: null where the model has no calibration; band: by its operating point, else review.
    """

    model_config = ConfigDict(frozen=True)

    frame: int
    class_name: str
    kind: CandidateKind
    score: float
    mean_score: float
    probability: float | None
    band: Band
    x0: int
    y0: int
    x1: int
    y1: int
    area_px: int
    mask_rle: str | None
    text: str | None
    touches_edge: bool


class PredictAnswer(BaseModel):
    """What a model found in one image, in the order of a run's candidates; nothing of it is kept."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [EXAMPLE]})

    model: str
    model_digest: str
    width_px: int
    height_px: int
    frames: int
    candidates: list[FoundAnswer]

    @classmethod
    def of(cls, found: Segmentation, card: ModelCard, point: OperatingPoint | None) -> PredictAnswer:
        """point: the model's operating point, which gives probability and band."""
        result = ImageResult(ImageRef("", "", 0, None, {}), ImageStatus.DONE, found, None, None, {})
        rows = unit_rows(result, model=card.name, model_digest=card.digest).candidates
        seen = with_bands(pa.Table.from_pylist(list(rows), schema=CANDIDATES_SCHEMA), point).to_pylist()
        return cls(model=card.name, model_digest=card.digest, width_px=found.width_px, height_px=found.height_px,
                   frames=found.frames, candidates=[FoundAnswer.model_validate(
                       {name: value for name, value in row.items() if name not in _OF_A_RUN}) for row in seen])
