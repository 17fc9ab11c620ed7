"""What is written down about thresholds: where candidates are flagged and accepted, and what that rests on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from segsvc.card import Document, Probability
from segsvc.quality.figures import ReliabilityBin
from segsvc.quality.profile import Profile
from segsvc.types import Bound, Runtime

_ROUNDING = 1e-9  # of targets that were computed
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=0)]


class Basis(StrEnum):
    """What an operating point rests on; only CALIBRATED is a promise, and only where the runtime is the same."""

    CALIBRATED = "calibrated"  # proven by a bound on calibration data
    MEASURED = "measured"  # measured on held-out data: "measured, not guaranteed"
    BY_HAND = "by_hand"  # set by a person


class ClassThresholds(Document):
    """From `flag_at` a candidate of the class is flagged; from `accept_at` it is accepted by rule (null: never)."""

    flag_at: Probability
    accept_at: Probability | None = None

    @model_validator(mode="after")
    def _ordered(self) -> ClassThresholds:
        if self.accept_at is not None and self.accept_at < self.flag_at:
            raise ValueError(f"accept_at must be at least flag_at ({self.flag_at}), got {self.accept_at}")
        return self


class ScoreMap(Document):
    """From score to probability: linear between points of rising score, and level beyond the first and the last."""

    method: Literal["isotonic", "platt"]
    scores: Annotated[tuple[Probability, ...], Field(min_length=1)]
    probabilities: Annotated[tuple[Probability, ...], Field(min_length=1)]
    fitted_on: Count = 0  # candidates

    def of(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(n,) the probabilities of scores (n,)."""
        found: npt.NDArray[np.float64] = np.interp(scores, self.scores, self.probabilities)
        return found

    @model_validator(mode="after")
    def _rises(self) -> ScoreMap:
        if len(self.scores) != len(self.probabilities):
            raise ValueError(f"expected as many probabilities as scores ({len(self.scores)}), got {len(self.probabilities)}")
        for name, values in (("scores", self.scores), ("probabilities", self.probabilities)):
            if any(after < before for before, after in pairwise(values)):
                raise ValueError(f"{name} must not fall")
        return self


class RecallAt(Document):
    """A recall that the calibration shows: from `flag_at` on, flagging keeps it.

    As counted there: `recall_measured` of the objects are flagged, and so many candidates per thousand images.
    """

    recall: Share
    flag_at: Probability
    recall_measured: Probability
    flagged_per_1000_images: Annotated[float, Field(ge=0)]


class RecallBeyond(Document):
    """A recall that the calibration does not show, and about how many more units with objects like its own would show it.

    more_units: null where no number would, or too many.
    """

    recall: Share
    more_units: Count | None


class PrecisionAt(Document):
    """A precision that the calibration shows: from `accept_at` on, acceptance keeps it.

    A unit of more than `cap_candidates` accepted candidates counts as so many. As counted there: `precision_measured` of
    the accepted candidates are right, and so many per thousand images.
    """

    precision: Share
    accept_at: Probability
    precision_measured: Probability
    accepted_per_1000_images: Annotated[float, Field(ge=0)]
    bound: Bound
    cap_candidates: Annotated[int, Field(ge=1)]


class Reliability(Document):
    """Whether scores, and the probabilities made of them, are what they say, on candidates that made neither.

    The errors are expected calibration errors (`quality.calibration_error`).
    """

    error_of_scores: Probability
    error_of_probabilities: Probability
    of_scores: tuple[ReliabilityBin, ...]
    of_probabilities: tuple[ReliabilityBin, ...]


class Proof(Document):
    """What a calibration shows of one class, target by target.

    The bounds were made on `units` units that hold `objects` objects, `never_found` of which no stored candidate finds. A
    unit of more than `cap_objects` objects counts as so many (`units_over_cap` did). The confidence that is left for the
    class is 1 - `recall_delta` and 1 - `precision_delta` (0 where acceptance was not tried). `counted_too` are descendants
    of the class, for which the data have no name: their candidates count as its, and have its thresholds. `beyond` holds the
    recalls that were tried and are not shown, `stored_per_1000_images` all stored candidates; files of before have none.
    """

    counted_too: tuple[str, ...] = ()
    bound: Bound
    units: Count
    units_with_objects: Count
    objects: Count
    never_found: Count
    cap_objects: Annotated[int, Field(ge=1)]
    units_over_cap: Count
    candidates: Count
    recall_delta: Probability
    precision_delta: Probability
    best_recall: Probability
    recalls: tuple[RecallAt, ...]
    precisions: tuple[PrecisionAt, ...]
    reliability: Reliability | None = None
    beyond: tuple[RecallBeyond, ...] = ()
    stored_per_1000_images: Annotated[float, Field(ge=0)] | None = None

    def shows(self, precision: float) -> bool:
        """Whether a precision as high is shown."""
        return any(row.precision >= precision - _ROUNDING for row in self.precisions)

    def recall_at(self, recall: float) -> RecallAt | None:
        """The row of that recall or, where it was not tried, of the next stricter one that is shown; None where none is."""
        return min((row for row in self.recalls if row.recall >= recall - _ROUNDING), key=lambda row: row.recall,
                   default=None)

    def flagged_per_1000_images(self, at: ClassThresholds) -> float:
        """Candidates that thresholds of the rows' own flag, per thousand images; also where acceptance begins lower."""
        rows = [(row.flag_at, row.flagged_per_1000_images) for row in self.recalls]
        rows += [(row.accept_at, row.accepted_per_1000_images) for row in self.precisions]
        return next(flagged for score, flagged in rows if score == at.flag_at)

    def bands(self, class_name: str, recall: float, precision: float | None) -> ClassThresholds:
        """The thresholds for a recall and a precision (None: nothing is accepted): of the next stricter ones that are shown.

        Raises ValueError, in words for the user, where no such recall or precision is shown.
        """
        shown = self.recall_at(recall)
        if shown is None:
            raise ValueError(f"expected a recall that the calibration shows for {class_name}, up to "
                             f"{max((row.recall for row in self.recalls), default=0):g}, got {recall:g}")
        flag_at = shown.flag_at
        if precision is None:
            return ClassThresholds(flag_at=flag_at)
        precisions = [row for row in self.precisions if row.precision >= precision - _ROUNDING]
        if not precisions:
            most = max((row.precision for row in self.precisions), default=None)
            raise ValueError(f"expected a precision that the calibration shows for {class_name}, "
                             f"{f'up to {most:g}' if most is not None else 'of which it shows none'}, got {precision:g}")
        accept_at = min(precisions, key=lambda row: row.precision).accept_at
        return ClassThresholds(flag_at=min(flag_at, accept_at), accept_at=accept_at)  # to flag more never lowers recall


class Promise(Document):
    """What an operating point promises, jointly for all of its classes.

    With `confidence` over the draw of the calibration units, at least `recall` of the objects in fresh images like them are
    flagged, and of the candidates that are accepted by rule at least `precision` are right (null: none is accepted).
    `unit` says what was drawn independently. `units_apart` chose how the others were tested and made the probabilities.
    """

    recall: Share
    precision: Share | None
    confidence: Share
    unit: Literal["image", "group"]
    images: Count
    units: Count
    units_apart: Count
    seed: Count
    data: str
    split: str | None


class OperatingPoint(Document):
    """Thresholds per class, and what they rest on. `classes` may hold "*", which stands for every class not named.

    A calibration brings its `promise`, what shows it (`proofs`, for other targets too), maps from score to probability, and
    the `profile` of its images, with which those of a run are compared.
    """

    basis: Basis
    classes: dict[str, ClassThresholds]
    model_digest: str | None = None
    runtime: Runtime | None = None
    data_digest: str | None = None
    note: str = ""
    set_at: datetime | None = None
    promise: Promise | None = None
    proofs: dict[str, Proof] = Field(default_factory=dict)
    probabilities: dict[str, ScoreMap] = Field(default_factory=dict)
    profile: Profile | None = None

    def asked(self, recall: float | None, precision: float | None) -> OperatingPoint:
        """The same calibration with the bands for other targets, each class by its own proof; None: what it was made for.

        A precision that is not given is kept where a class shows it; one that is given must be shown. Raises ValueError, in
        words for the user, where the calibration does not show as much of some class.
        """
        if self.promise is None:
            raise ValueError("expected a calibration, got an operating point without a promise")
        wanted, kept = recall if recall is not None else self.promise.recall, precision or self.promise.precision
        classes = {}
        for name, proof in self.proofs.items():
            shown = kept if precision is not None or (kept is not None and proof.shows(kept)) else None
            bands = proof.bands(name, wanted, shown)
            classes.update(dict.fromkeys((name, *proof.counted_too), bands))
        return self.model_copy(update={"classes": classes, "promise": self.promise.model_copy(
            update={"recall": wanted, "precision": kept})})

    def thresholds(self, class_name: str) -> ClassThresholds | None:
        """The thresholds of a class; None where the point says nothing about it."""
        return self.classes.get(class_name, self.classes.get("*"))

    def says_as(self, other: OperatingPoint) -> bool:
        """Whether both say the same, whenever they were set."""
        return self.model_copy(update={"set_at": None}) == other.model_copy(update={"set_at": None})

    def without_profile(self) -> OperatingPoint:
        """The point as it is shown: its profile is long."""
        return self.model_copy(update={"profile": None})

    def is_calibrated_for(self, model_digest: str, runtime: Runtime) -> bool:
        """Whether its calibration's scores were made by that model and runtime."""
        return self.basis is Basis.CALIBRATED and (self.model_digest, self.runtime) == (model_digest, runtime)

    def wording(self, *, model_digest: str, runtime: Runtime) -> str:
        """What may be said of this point on that model and runtime, in the words shown to users."""
        if self.basis is Basis.BY_HAND:
            return "set by hand, not guaranteed"
        if self.is_calibrated_for(model_digest, runtime):
            return "guaranteed as calibrated"
        return "measured, not guaranteed"


def latest_calibration(points: Sequence[OperatingPoint | None]) -> OperatingPoint | None:
    """The last of these points that brings a promise; None where none does."""
    return next((point for point in reversed(points) if point is not None and point.promise is not None), None)
