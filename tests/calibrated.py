"""Calibrations whose rows a test says, and runs and models that have them."""

from __future__ import annotations

from pathlib import Path

from segsvc.models.library import read_model
from segsvc.operating_point import (
    Basis,
    ClassThresholds,
    OperatingPoint,
    PrecisionAt,
    Promise,
    Proof,
    RecallAt,
    RecallBeyond,
)
from segsvc.quality.cost import Pace, PaceBasis
from segsvc.results import RunFolder
from segsvc.stores import store_of
from segsvc.types import Bound, Runtime
from segsvc.views import OpenRun
from tests.conftest import write_model
from tests.ledger.runs import DIGEST, Drawn, write_run

RECALLS = {0.8: (0.6, 200.0), 0.9: (0.4, 400.0), 0.95: (0.3, 650.0)}  # flag_at, flagged a thousand images
PACE = Pace(PaceBasis.RUN, 40, 1.5, 1.8)


def proof(recalls: dict[float, tuple[float, float]], *, beyond: dict[float, int | None] | None = None, objects: int = 300,
          stored: float | None = 5000.0, accepts: bool = True) -> Proof:
    return Proof(
        bound=Bound.BETTING, units=80, units_with_objects=40, objects=objects, never_found=1, cap_objects=9,
        units_over_cap=0, candidates=1000, recall_delta=0.04, precision_delta=0.01, best_recall=max(recalls),
        recalls=tuple(RecallAt(recall=recall, flag_at=flag_at, recall_measured=min(1.0, recall + 0.02),
                               flagged_per_1000_images=flagged) for recall, (flag_at, flagged) in recalls.items()),
        precisions=(PrecisionAt(precision=0.95, accept_at=0.9, precision_measured=0.97, accepted_per_1000_images=150.0,
                                bound=Bound.BETTING, cap_candidates=5),) if accepts else (),
        beyond=tuple(RecallBeyond(recall=recall, more_units=more) for recall, more in (beyond or {}).items()),
        stored_per_1000_images=stored)


def point(**proofs: Proof) -> OperatingPoint:
    return OperatingPoint(
        basis=Basis.CALIBRATED, proofs=proofs, classes={name: ClassThresholds(flag_at=0.3) for name in proofs},
        promise=Promise(recall=0.95, precision=0.95, confidence=0.95, unit="image", images=100, units=100, units_apart=20,
                        seed=0, data="set", split=None))


def calibrated_run(out: Path, drawn: list[Drawn], calibration: OperatingPoint, *, shard_images: int = 4) -> OpenRun:
    """A finished run of these candidates with the calibration in force."""
    write_run(out, drawn, with_bands=False, shard_images=shard_images)
    folder = RunFolder(store_of(str(out)).folder(str(out)))
    folder.add_operating_point(calibration.model_copy(update={"model_digest": DIGEST, "runtime": Runtime.OPENVINO}))
    return OpenRun(folder)


def write_calibrated_model(models: Path, name: str, calibration: OperatingPoint) -> None:
    """A model of the calibration's classes, with it."""
    write_model(models, name=name, classes=tuple(calibration.classes))
    digest = read_model(models / name).digest
    found = calibration.model_copy(update={"model_digest": digest, "runtime": Runtime.OPENVINO})
    (models / name / "operating_point.json").write_text(found.to_json())
