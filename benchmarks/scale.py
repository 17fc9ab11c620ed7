"""Planner and ledger at a million units against ten thousand: time a unit, no pixels.

The planner reads a manifest with `uri,etag,size`, so that no store is asked, cuts it into shards and publishes the plan's
parts in OUT, as a run does it. The ledger does what a service asks of it for the same units: runs of ten thousand are
queued, each is taken, kept by a sign of life a shard, its candidates (one a unit) come into review, and it has succeeded.

Prints a JSON list of rows, `ours` at the many units and `peer` at the few, in seconds of processor and by the clock, in
which the disk and whatever else the machine does have their part. The few are done again and again in between, each time
with an empty OUT or ledger, so that what else the machine does meets both. Writing the manifests and the runs' parts is not
in the time.

Needs about 2 GB in TMPDIR for a million units.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from _common import Bound, Detail, Row, machine, say, scratch, show
from _ledger_runs import DIGEST, IMAGES_A_SHARD, SIDE_PX, begin_run, finish_run, put_shard

from segsvc.asking import Asked
from segsvc.documents import ImageCounts
from segsvc.imaging import masks
from segsvc.ledger import job_work, jobs
from segsvc.ledger.intake import import_run
from segsvc.ledger.job_records import NewJob
from segsvc.ledger.opening import Ledger, open_ledger
from segsvc.ledger.records import ReviewPolicy
from segsvc.plan import read_input, shards
from segsvc.readahead import in_order
from segsvc.results import RunFolder
from segsvc.runner import DEFAULT_SHARD_SIZE
from segsvc.stores import store_of
from segsvc.summary import finished_document
from segsvc.tables import CANDIDATES_SCHEMA, IMAGES_SCHEMA
from segsvc.types import stable_id

A_RUN, RUNS = 10_000, 100  # units a run, which are the few; runs of the many
AGAIN = 10  # times that the few are measured
MOST_RATIO = 1.2
LEASE_S = 60.0
POLICY = ReviewPolicy(audit_share=0.0, gold_share=0.0)


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of something: of processor in this process, and by the clock."""

    computing: float
    clock: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"the many units are so many times {A_RUN:,}")
    runs: int = parser.parse_args().runs
    machine()  # how busy it is before this begins
    with scratch() as folder:
        rows = [*_planner(folder, runs), *_ledger(folder, runs)]
    show(rows)


def _rows(name: str, few: Sequence[Took], many: Sequence[Took], units: int, details: dict[str, Detail]) -> list[Row]:
    """many: what its pieces took, one after another."""
    rows = []
    for kind, words in (("computing", "processor"), ("clock", "the clock")):
        each = [getattr(took, kind) / A_RUN * 1e6 for took in few]
        ours, peer = sum(getattr(took, kind) for took in many) / units * 1e6, statistics.mean(each)
        rows.append(Row(
            f"scale: {name}, time a unit by {words}", ours, f"us a unit at {units:,}", peer, f"the same at {A_RUN:,}",
            ours / peer, None, MOST_RATIO, Bound.RATIO_AT_MOST,
            {**details, "few, least and most": [round(min(each), 2), round(max(each), 2)]}))
    return rows


def _timed(work: Callable[[], object]) -> Took:
    clock, computing = time.perf_counter(), time.process_time()
    work()
    return Took(time.process_time() - computing, time.perf_counter() - clock)


# -- the planner ---------------------------------------------------------------------------------------------------------


def _planner(folder: Path, runs: int) -> list[Row]:
    units = A_RUN * runs
    few, many = _manifest(folder / "few.csv", A_RUN), _manifest(folder / "many.csv", units)
    _plan(few, folder / "plan-warm-up", A_RUN)
    found = [_timed(lambda at=at: _plan(few, folder / f"plan-{at}", A_RUN)) for at in range(AGAIN // 2)]
    whole = _timed(lambda: _plan(many, folder / "plan", units))
    found += [_timed(lambda at=at: _plan(few, folder / f"plan-{at}", A_RUN)) for at in range(AGAIN // 2, AGAIN)]
    say(f"planner: {units:,} units in {whole.clock:.1f} s, {A_RUN:,} in {statistics.mean(t.clock for t in found):.3f} s")
    return _rows("planner", found, [whole], units, {
        "parts": -(-units // DEFAULT_SHARD_SIZE), "bytes in OUT a unit": round(_bytes(folder / "plan") / units, 1)})


def _manifest(file: Path, units: int) -> Path:
    with file.open("w") as lines:
        lines.write("uri,etag,size\n")
        for number in range(units):
            lines.write(f"s3://photos/2026/{number // 10_000:04d}/{number:09d}.jpg,{number * 7919:032x},"
                        f"{100_000 + number % 7919}\n")
    return file


def _plan(manifest: Path, out: Path, units: int) -> None:
    folder = RunFolder(store_of(str(out)).folder(str(out)))
    planned = 0
    for count in in_order(lambda shard: (folder.publish_plan(shard), len(shard.units))[1],
                          shards(read_input(str(manifest)), shard_size=DEFAULT_SHARD_SIZE, limit=None, exclude=folder.uri),
                          at_once=folder.in_flight):
        planned += count
    if planned != units:
        raise RuntimeError(f"expected a plan of {units} units, got one of {planned}")


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


# -- the ledger ----------------------------------------------------------------------------------------------------------


def _ledger(folder: Path, runs: int) -> list[Row]:
    say(f"writing {runs} runs of {A_RUN:,} units")
    queued = [_finished_run(folder / f"out-{number}", number * A_RUN) for number in range(runs)]
    few: list[Took] = []
    many: list[Took] = []
    _one(folder / "ledger-warm-up", queued[0])
    with open_ledger(str(folder / "ledger"), serving=True) as ledger:
        submitting = _timed(lambda: [jobs.submit(ledger, new) for new in queued])
        for number in range(runs):
            many.append(_timed(lambda: _serve(ledger)))
            if number * AGAIN // runs < (number + 1) * AGAIN // runs:
                few.append(_one(folder / f"ledger-{number}", queued[0]))
                say(f"{(number + 1) * A_RUN:,} units: {many[-1].clock / A_RUN * 1e6:.1f} us a unit, "
                    f"{few[-1].clock / A_RUN * 1e6:.1f} in an empty ledger")
        if job_work.take(ledger, "benchmark", lease_s=LEASE_S) is not None:
            raise RuntimeError("expected no run that waits any more")
    tenth = max(1, runs // 10)
    pace = [round(statistics.mean(took.computing for took in many[at:at + tenth]) / A_RUN * 1e6, 1)
            for at in range(0, runs, tenth)]
    return _rows("ledger", few, [submitting, *many], A_RUN * runs, {
        "processor, us a unit, by tenths": pace,
        "and the few in between": [round(took.computing / A_RUN * 1e6, 1) for took in few], "runs": runs,
        "bytes a unit": round(_bytes(folder / "ledger") / runs / A_RUN, 1)})


def _one(place: Path, new: NewJob) -> Took:
    """What a run takes in a ledger of its own."""
    with open_ledger(str(place), serving=True) as ledger:
        return _timed(lambda: (jobs.submit(ledger, new), _serve(ledger)))


def _serve(ledger: Ledger) -> None:
    """Sees the run that waits longest to its end, as a server does."""
    lease = job_work.take(ledger, "benchmark", lease_s=LEASE_S)
    if lease is None:
        raise RuntimeError("expected a run that waits, there is none")
    for done in range(0, A_RUN, DEFAULT_SHARD_SIZE):
        job_work.beat(ledger, lease, lease_s=LEASE_S, eta_s=1.0, images=ImageCounts(
            listed=A_RUN, done=done, empty=0, failed=0, quarantined=0))
    out = lease.job.out
    counts = import_run(ledger, out, POLICY)
    if counts.review != A_RUN:
        raise RuntimeError(f"expected {A_RUN} candidates for review, got {counts.review}")
    job_work.succeed(ledger, lease, finished_document(RunFolder(store_of(out).folder(out)), out))


def _finished_run(out: Path, first: int) -> NewJob:
    """Writes the parts of a run of images that no other run has, with a candidate each for review."""
    folder, spec = begin_run(out)
    draw = np.random.default_rng(first)
    for number, start in enumerate(range(first, first + A_RUN, IMAGES_A_SHARD)):
        _shard(folder, number, draw, range(start, min(start + IMAGES_A_SHARD, first + A_RUN)))
    document = finish_run(folder, spec, images=A_RUN, review=A_RUN, accepted=0)
    asked = Asked(input=spec.input, model=spec.model, out=document.out)
    return NewJob(document.id, asked.model_dump_json(), document.out, spec.input, spec.model, DIGEST, "ada")


def _shard(folder: RunFolder, number: int, draw: np.random.Generator, images: range) -> None:
    count = len(images)
    uris = [f"s3://photos/2026/{image // 10_000:04d}/{image:09d}.jpg" for image in images]
    ids = [stable_id(uri, "1-1") for uri in uris]
    x0, y0 = draw.integers(0, SIDE_PX - 64, (2, count))
    score = np.round(draw.uniform(0.2, 0.9, count) * 65535) / 65535
    rle = masks.encode(np.ones((32, 32), np.bool_)).decode("ascii")
    found = [stable_id(image_id, DIGEST, 0, "region", "cell", x, y)
             for image_id, x, y in zip(ids, x0.tolist(), y0.tolist(), strict=True)]
    put_shard(folder, number, pa.Table.from_pydict({
        "candidate_id": found, "image_id": ids, "image_uri": uris, "image_version": ["1-1"] * count,
        "frame": [0] * count, "model": ["drawn"] * count, "model_digest": [DIGEST] * count, "class_name": ["cell"] * count,
        "kind": ["region"] * count, "score": score, "mean_score": score * 0.9,
        "x0": x0, "y0": y0, "x1": x0 + 32, "y1": y0 + 32, "area_px": [1024] * count,
        "mask_rle": [rle] * count, "text": [None] * count, "touches_edge": [False] * count,
    }, CANDIDATES_SCHEMA), pa.Table.from_pydict({
        "image_id": ids, "image_uri": uris, "image_version": ["1-1"] * count, "status": ["done"] * count,
        "width_px": [SIDE_PX] * count, "height_px": [SIDE_PX] * count, "frames": [1] * count, "error_kind": [None] * count,
        "error": [None] * count, "n_candidates": [1] * count, "n_below_floor": [0] * count,
        "n_below_min_area": [0] * count, "group": [None] * count, "meta": [[]] * count}, IMAGES_SCHEMA))


if __name__ == "__main__":
    main()
