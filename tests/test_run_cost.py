"""What a recall would cost in a run that is there: its own candidates counted, as its views would band them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from segsvc.quality.cost import Load, Reading
from segsvc.results import RunFolder
from segsvc.run_cost import run_cost
from segsvc.stores import store_of
from segsvc.types import Band
from segsvc.views import OpenRun
from tests.calibrated import PACE, RECALLS, calibrated_run, point, proof
from tests.ledger.runs import Drawn, review, write_run


def test_at_each_recall_it_counts_what_the_views_would_band(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    steps = [0.2, 0.3, 0.4, 0.6, 0.9]  # scores that lie on thresholds, too
    drawn = [Drawn(str(draw.choice(["cell", "fibre", "other"])), float(draw.choice([*steps, draw.random()])), number % 9)
             for number in range(400)]
    calibration = point(cell=proof(RECALLS), fibre=proof({0.8: (0.5, 90.0), 0.95: (0.2, 300.0)}, accepts=False))
    run = calibrated_run(tmp_path / "out", drawn, calibration)
    found = run_cost(run)
    assert found is not None
    assert (found.images, found.in_force, found.wording) == (9, 0.95, "guaranteed as calibrated")
    curve = found.cost(PACE, Reading())
    assert [row.recall for row in curve.rows] == [0.8, 0.9, 0.95]
    for row in curve.rows:
        bands: Counter[str] = Counter()
        for _, candidates in run.parts(row.point):
            bands.update(candidates["band"].to_pylist())
        assert row.load == Load(bands[Band.REVIEW], bands[Band.ACCEPTED], bands[Band.REJECTED])
        assert sum(bands.values()) == 400


def test_descendants_are_counted_at_the_thresholds_of_their_class(tmp_path: Path) -> None:
    calibration = point(cell=proof(RECALLS).model_copy(update={"counted_too": ("nucleus",)}))
    drawn = [Drawn("cell", 0.35), Drawn("nucleus", 0.35), Drawn("nucleus", 0.95)]
    run = calibrated_run(tmp_path / "out", drawn, calibration)
    found = run_cost(run)
    assert found is not None
    assert [row.load for row in found.cost(PACE, Reading()).rows] == [Load(0, 1, 2), Load(0, 1, 2), Load(2, 1, 0)]


def test_a_run_without_a_calibration_has_no_curve(tmp_path: Path) -> None:
    write_run(tmp_path / "out", review(5))
    assert run_cost(OpenRun(RunFolder(store_of(str(tmp_path)).folder(str(tmp_path / "out"))))) is None


@pytest.mark.parametrize("shard_images", [1, 3, 50])
def test_the_counts_do_not_depend_on_the_parts(tmp_path: Path, shard_images: int) -> None:
    drawn = [Drawn("cell", place / 100, place % 7) for place in range(100)]
    run = calibrated_run(tmp_path / "out", drawn, point(cell=proof(RECALLS)), shard_images=shard_images)
    found = run_cost(run)
    assert found is not None
    assert [row.load for row in found.cost(PACE, Reading()).rows] == [Load(30, 10, 60), Load(50, 10, 40), Load(60, 10, 30)]
