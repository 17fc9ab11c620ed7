"""What each recall would cost in a finished run: counted exactly on its own stored candidates, a part at a time.

Counts are kept at the thresholds that its calibration may put in force, so that memory does not grow with the candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segsvc.models.library import find_same_model
from segsvc.operating_point import OperatingPoint, latest_calibration
from segsvc.quality.cost import Cost, Load, Pace, Reading, cost
from segsvc.readahead import in_order
from segsvc.results import UNREAD
from segsvc.views import OpenRun

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class ScoreCount:
    """How many candidates of each class score at least each threshold of a calibration, over all parts that were added."""

    def __init__(self, calibration: OperatingPoint) -> None:
        self._thresholds: dict[str, Floats] = {}
        for name, proof in calibration.proofs.items():
            wanted = np.unique([*(row.flag_at for row in proof.recalls), *(row.accept_at for row in proof.precisions)])
            self._thresholds.update(dict.fromkeys((name, *proof.counted_too), wanted))
        self._counts: dict[str, Ints] = {}  # by class: of the candidates with so many thresholds at or below their score

    def add(self, candidates: pa.Table) -> None:
        """Counts the candidates of a part."""
        classes = candidates["class_name"].combine_chunks().dictionary_encode()
        codes, score = classes.indices.to_numpy(zero_copy_only=False), candidates["score"].to_numpy()
        for code, name in enumerate(classes.dictionary.to_pylist()):
            thresholds = self._thresholds.get(name, np.zeros(0))
            reached = np.searchsorted(thresholds, score[codes == code], side="right")
            counts = np.bincount(reached, minlength=len(thresholds) + 1)
            self._counts[name] = self._counts.get(name, np.zeros(len(counts), np.int64)) + counts

    def load(self, point: OperatingPoint) -> Load:
        """What rules do at thresholds of the calibration; of a class without any all is for review, as in a run's views."""
        review = accepted = rejected = 0
        for name, counts in self._counts.items():
            at, total = point.thresholds(name), int(counts.sum())
            flagged = self._at_least(name, at.flag_at) if at is not None else total
            accepts = self._at_least(name, at.accept_at) if at is not None and at.accept_at is not None else 0
            review, accepted, rejected = review + flagged - accepts, accepted + accepts, rejected + total - flagged
        return Load(review, accepted, rejected)

    def _at_least(self, name: str, threshold: float) -> int:
        place = int(np.searchsorted(self._thresholds[name], threshold))
        return int(self._counts[name][place + 1:].sum())


@dataclass(frozen=True, slots=True)
class RunCost:
    """A run's calibration, and the counts at its thresholds. wording: what may be said of it on the run's runtime."""

    calibration: OperatingPoint
    wording: str
    in_force: float | None  # the recall whose bands are
    images: int
    counts: ScoreCount

    def cost(self, pace: Pace, reading: Reading) -> Cost:
        """The curve."""
        return cost(self.calibration, self.counts.load, images=self.images, pace=pace, reading=reading)


def calibration_of(run: OpenRun) -> OperatingPoint | None:
    """The calibration out of which `segsvc band` takes a run's bands; None where there is none."""
    model = find_same_model(run.spec.model, run.spec.model_digest)
    return latest_calibration([*run.folder.operating_points(), model.operating_point if model is not None else None])


def run_cost(run: OpenRun) -> RunCost | None:
    """Reads all parts of a run once; None where no calibration is there. Raises RunError where a part is damaged."""
    calibration = calibration_of(run)
    return counted(run, calibration, *counts_of(run, calibration)) if calibration is not None else None


def counts_of(run: OpenRun, calibration: OperatingPoint) -> tuple[ScoreCount, int]:
    """The counts at the thresholds of a calibration, and of how many images that were read."""
    folder, counts, images = run.folder, ScoreCount(calibration), 0

    def both(number: int) -> tuple[pa.Table, pa.Table]:
        return folder.part("images", number), folder.part("candidates", number).select(["class_name", "score"])

    for of_images, candidates in in_order(both, folder.numbers("images"), at_once=folder.in_flight):
        counts.add(candidates)
        images += sum(status not in UNREAD for status in of_images["status"].to_pylist())
    return counts, images


def counted(run: OpenRun, calibration: OperatingPoint, counts: ScoreCount, images: int) -> RunCost:
    """Of counts that were made already, over so many images that were read."""
    point, spec = run.operating_point, run.spec
    wording = calibration.wording(model_digest=spec.model_digest, runtime=spec.runtime)
    return RunCost(calibration, wording, point.promise.recall if point is not None and point.promise is not None else None,
                   images, counts)
