"""The columns of a run's parts and of the views on them: the one place where they are named and typed."""

from __future__ import annotations

import pyarrow as pa

_META = pa.map_(pa.string(), pa.string())

PLAN_SCHEMA = pa.schema([
    pa.field("ordinal", pa.int64(), nullable=False),  # place in the run, from 0
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("image_uri", pa.string(), nullable=False),
    pa.field("image_version", pa.string(), nullable=False),
    pa.field("size_bytes", pa.int64(), nullable=False),
    pa.field("group", pa.string()),
    pa.field("meta", _META, nullable=False),
])

IMAGES_SCHEMA = pa.schema([
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("image_uri", pa.string(), nullable=False),
    pa.field("image_version", pa.string(), nullable=False),
    pa.field("status", pa.string(), nullable=False),  # segsvc.types.ImageStatus
    pa.field("width_px", pa.int64()),  # null where the image could not be read
    pa.field("height_px", pa.int64()),
    pa.field("frames", pa.int64()),
    pa.field("error_kind", pa.string()),  # segsvc.errors.ImageErrorKind
    pa.field("error", pa.string()),
    pa.field("n_candidates", pa.int64(), nullable=False),
    pa.field("n_below_floor", pa.int64(), nullable=False),  # regions whose highest score did not reach the floor
    pa.field("n_below_min_area", pa.int64(), nullable=False),  # regions smaller than the card's min_area_px
    pa.field("group", pa.string()),
    pa.field("meta", _META, nullable=False),
])

CANDIDATES_SCHEMA = pa.schema([
    pa.field("candidate_id", pa.string(), nullable=False),
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("image_uri", pa.string(), nullable=False),
    pa.field("image_version", pa.string(), nullable=False),
    pa.field("frame", pa.int64(), nullable=False),
    pa.field("model", pa.string(), nullable=False),
    pa.field("model_digest", pa.string(), nullable=False),
    pa.field("class_name", pa.string(), nullable=False),
    pa.field("kind", pa.string(), nullable=False),  # segsvc.types.CandidateKind
    pa.field("score", pa.float64(), nullable=False),
    pa.field("mean_score", pa.float64(), nullable=False),
    pa.field("x0", pa.int64(), nullable=False),
    pa.field("y0", pa.int64(), nullable=False),
    pa.field("x1", pa.int64(), nullable=False),
    pa.field("y1", pa.int64(), nullable=False),
    pa.field("area_px", pa.int64(), nullable=False),
    pa.field("mask_rle", pa.string()),  # COCO's compressed RLE within the box (rows y0..y1, columns x0..x1)
    pa.field("text", pa.string()),
    pa.field("touches_edge", pa.bool_(), nullable=False),
])

CANDIDATES_VIEW_SCHEMA = pa.schema([
    *CANDIDATES_SCHEMA,
    pa.field("probability", pa.float64()),  # null where the model has no calibration
    pa.field("band", pa.string(), nullable=False),  # segsvc.types.Band
])

TIMINGS_SCHEMA = pa.schema([
    pa.field("image_id", pa.string(), nullable=False),
    pa.field("stage", pa.string(), nullable=False),
    pa.field("seconds", pa.float64(), nullable=False),
])

SCHEMAS = {"plan": PLAN_SCHEMA, "images": IMAGES_SCHEMA, "candidates": CANDIDATES_SCHEMA, "timings": TIMINGS_SCHEMA}
