"""The curve of costs against what a simulated reviewer then does: candidates and hours at three recalls, on fresh runs.

A generated model of two classes, `_crowds.Crowd` each, is calibrated on 1,000 images by `calibration.choosing.choose`. A
first run is reviewed at recall 0.95, which gives the seconds of a decision. Then come fresh runs, which the calibration does
not know: for each the curve tells, from the model alone, what recalls 0.8, 0.9 and 0.95 will cost; the bands are put in
force, the run is taken into a ledger, and a reviewer decides until the queue is empty. The seconds of each decision are
drawn, log-normal with a median of 1.1 s. Compared are the candidates that were given out, the audit among them, and the
hours that the ledger counted. Prints a JSON list of rows: the largest differences, and those of the run's own curve, which
counts instead of expecting.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from _common import Bound, Detail, Row, say, scratch, show
from _crowds import Crowd, drawn
from _ledger_runs import DIGEST, put_shard

from segsvc.calibration.choosing import Targets, choose
from segsvc.card import RunSpec
from segsvc.documents import CandidateCounts, ImageCounts, RunDocument, RunState
from segsvc.ledger import decisions, queue
from segsvc.ledger.deciders import decided_by
from segsvc.ledger.intake import import_run
from segsvc.ledger.opening import Ledger, open_ledger
from segsvc.ledger.pace import pace
from segsvc.ledger.records import LOCAL, NewDecision, ReviewPolicy, Verdict
from segsvc.operating_point import Basis, OperatingPoint, Promise
from segsvc.quality.cost import Cost, CostAt, Reading, cost, expected
from segsvc.quality.thresholds import Tally
from segsvc.results import RunFolder
from segsvc.run_cost import run_cost
from segsvc.settings import RecordSettings
from segsvc.stores import store_of
from segsvc.summary import run_id
from segsvc.tables import CANDIDATES_SCHEMA, IMAGES_SCHEMA
from segsvc.types import Runtime, stable_id
from segsvc.views import OpenRun

CLASSES = {"cell": Crowd(1, 9, crowding=0.08, alike=0.3, others=6), "fibre": Crowd(0, 4, ease=1.5, alike=0.3, others=3)}
CALIBRATED_ON, IMAGES, RUNS = 1000, 1000, 3
RECALLS = (0.8, 0.9, 0.95)
MOST_OFF = 0.10
POLICY = ReviewPolicy(audit_share=0.01, gold_share=0.0)
AT_ONCE = 50
_MEDIAN_S, _SPREAD = 1.1, 0.5
_WHEN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Done:
    """What the reviewer of a run did."""

    candidates: int
    hours: float


def calibrated() -> OperatingPoint:
    """The model's calibration, as `segsvc calibrate` makes it of such images."""
    tallies = drawn(list(CLASSES.values()), CALIBRATED_ON, seed=(0, 0))
    choice = choose(list(CLASSES), tallies, Targets(0.95, 0.95, 0.95), images=CALIBRATED_ON, seed=0, demands_precision=False)
    if choice.shortfalls:
        raise RuntimeError(f"expected a calibration, got {choice.shortfalls}")
    promise = Promise(recall=0.95, precision=0.95, confidence=0.95, unit="image", images=CALIBRATED_ON, units=CALIBRATED_ON,
                      units_apart=choice.units_apart, seed=0, data="drawn", split=None)
    return OperatingPoint(basis=Basis.CALIBRATED, classes=dict(choice.thresholds), proofs=dict(choice.proofs),
                          model_digest=DIGEST, runtime=Runtime.OPENVINO, promise=promise)


def write_run(out: Path, number: int) -> OpenRun:
    """A fresh run over as many images; no bands are in force yet."""
    folder = RunFolder(store_of(str(out)).folder(str(out)))
    spec = RunSpec(input=f"{out}-images", shard_size=IMAGES, model="drawn", model_digest=DIGEST, runtime=Runtime.OPENVINO)
    folder.begin(spec)
    tallies = drawn(list(CLASSES.values()), IMAGES, seed=(1, number))
    images = [stable_id(f"file:///{number}/{place}.png", "1-1") for place in range(IMAGES)]
    rows = sorted((row for name, tally in zip(CLASSES, tallies, strict=True) for row in _rows(name, tally, images)),
                  key=lambda row: (row["image_uri"], row["class_name"], row["x0"]))
    put_shard(folder, 0, pa.Table.from_pylist(rows, CANDIDATES_SCHEMA), pa.Table.from_pylist(_images(images), IMAGES_SCHEMA))
    folder.put_json("run.json", RunDocument(
        id=run_id(folder, spec), state=RunState.SUCCEEDED, attempt=1,
        images=ImageCounts(listed=IMAGES, done=IMAGES, empty=0, failed=0, quarantined=0),
        candidates=CandidateCounts(accepted=0, review=len(rows), rejected=0), skipped={}, filtered={}, eta_s=None,
        created_at=_WHEN, started_at=_WHEN, finished_at=_WHEN, error=None, out=folder.uri, spec=spec, operating_point=None,
        operating_point_wording="guaranteed as calibrated", seconds_by_stage={}, seconds=1.0, workers=1, threads=1,
        versions={}).model_dump(mode="json"))
    return OpenRun(folder)


def _rows(name: str, tally: Tally, images: list[str]) -> Iterator[dict[str, object]]:
    for place, (unit, score) in enumerate(zip(tally.candidate_unit.tolist(), tally.candidate_score.tolist(), strict=True)):
        box = (place, 0, place + 10, 10)
        yield {"candidate_id": stable_id(images[unit], DIGEST, 0, "region", name, *box), "image_id": images[unit],
               "image_uri": f"file:///{unit:06d}.png", "image_version": "1-1", "frame": 0, "model": "drawn",
               "model_digest": DIGEST, "class_name": name, "kind": "region", "score": score, "mean_score": score,
               "x0": box[0], "y0": box[1], "x1": box[2], "y1": box[3], "area_px": 100, "mask_rle": None, "text": None,
               "touches_edge": False}


def _images(images: list[str]) -> list[dict[str, object]]:
    return [{"image_id": image_id, "image_uri": f"file:///{place:06d}.png", "image_version": "1-1", "status": "done",
             "width_px": 100_000, "height_px": 10, "frames": 1, "error_kind": None, "error": None, "n_candidates": 0,
             "n_below_floor": 0, "n_below_min_area": 0, "group": None, "meta": []} for place, image_id in enumerate(images)]


def reviewed(ledger: Ledger, out: Path, draw: np.random.Generator) -> tuple[str, Done]:
    """Takes the run in and decides until nothing is left; time passes as the seconds say, a month ago."""
    run, clock, count = import_run(ledger, str(out), POLICY), _WHEN, 0
    while items := queue.lease(ledger, LOCAL, run.run_id, n=AT_ONCE):
        for item in items:
            seconds = float(_MEDIAN_S * np.exp(_SPREAD * draw.normal()))
            decisions.decide(ledger, LOCAL, item.candidate_id, NewDecision(
                Verdict.ACCEPTED, shown_at=clock, seconds=seconds), if_match=item.tag)
            clock += timedelta(seconds=seconds)
            count += 1
    return run.run_id, Done(count, sum(each.hours or 0.0 for each in decided_by(ledger, run.run_id)))


def at(found: Cost, recall: float) -> CostAt:
    """The row of a recall, which the calibration shows."""
    row = found.at(recall)
    if row is None:
        raise RuntimeError(f"expected a calibration that shows recall {recall}, got up to {found.rows[-1].recall}")
    return row


def measured(runs: int) -> list[tuple[float, CostAt, CostAt, Done]]:
    """For each run and recall: what the model's curve told, what the run's own, and what was done."""
    point, found = calibrated(), []
    reading = Reading(POLICY.readers, POLICY.audit_share)
    with scratch() as folder:
        def ledger_of(name: str) -> Ledger:
            return open_ledger(str(folder / name), record=RecordSettings(anchors=str(folder / f"{name}.jsonl")))

        with ledger_of("first") as ledger:
            write_run(folder / "first-run", 0).folder.add_operating_point(point)
            reviewed(ledger, folder / "first-run", np.random.default_rng((2, 0)))
            known = pace(ledger, model_digest=DIGEST)
        told = cost(point, expected(IMAGES), images=IMAGES, pace=known, reading=reading)
        for number in range(1, runs + 1):
            run = write_run(folder / f"run-{number}", number)
            for place, recall in enumerate(RECALLS):
                run.folder.add_operating_point(point.asked(recall, None))
                own = run_cost(run)
                if own is None:
                    raise RuntimeError("expected a run with a calibration, got one without")
                with ledger_of(f"ledger-{number}-{place}") as ledger:
                    _, done = reviewed(ledger, folder / f"run-{number}", np.random.default_rng((2, number, place)))
                row = at(told, recall)
                found.append((recall, row, at(own.cost(known, reading), recall), done))
                say(f"run {number}, recall {recall}: told {row.load.review + row.audit:.0f} candidates and "
                    f"{row.hours:.2f} h, were {done.candidates} and {done.hours:.2f} h")
    return found


def off(told: float, came: float) -> float:
    """How far what was told is from what came."""
    return abs(told - came) / came


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="The curve of costs against a simulated reviewer.")
    parser.add_argument("--runs", type=int, default=RUNS)
    found = measured(parser.parse_args().runs)
    figures = {
        "model's curve, candidates": [off(row.load.review + row.audit, done.candidates) for _, row, _, done in found],
        "model's curve, hours": [off(row.hours, done.hours) for _, row, _, done in found],
        "run's own curve, candidates": [off(own.load.review + own.audit, done.candidates) for _, _, own, done in found],
        "run's own curve, hours": [off(own.hours, done.hours) for _, _, own, done in found]}
    details: dict[str, Detail] = {
        f"run {place // len(RECALLS) + 1}, recall {recall}": [row.load.review + row.audit, done.candidates, row.hours,
                                                              done.hours]
        for place, (recall, row, _, done) in enumerate(found)}
    show([Row(f"{name}: farthest from what was done, three recalls on fresh runs", max(values), "share", None, None, None,
              None, MOST_OFF, Bound.OURS_AT_MOST, details) for name, values in figures.items()])


if __name__ == "__main__":
    main()
