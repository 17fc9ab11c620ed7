"""Tallies of calibration images -> thresholds, what shows them, and probabilities: of all classes jointly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segsvc.errors import ConfigError
from segsvc.operating_point import ClassThresholds, PrecisionAt, Proof, RecallAt, RecallBeyond, Reliability, ScoreMap
from segsvc.quality.bounds import fewest_draws
from segsvc.quality.calibration_error import calibration_error, reliability, tally_of_all
from segsvc.quality.probabilities import fitted
from segsvc.quality.thresholds import BoolArray, PrecisionProof, RecallProof, Tally, set_apart
from segsvc.types import SCORE_ONE

RECALLS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, *(round(0.9 + step / 100, 2) for step in range(10)), 0.995)
PRECISIONS = (0.8, 0.9, 0.95, 0.98, 0.99)
_APART = 0.2  # of the units
_SPARE = 2.0  # units are set apart where twice as many are there as the recall takes at the least
_OF_PRECISION = 0.2  # of what may go wrong: recall comes first
_A_THOUSAND = 1000
_TIMES: tuple[int, ...] = (*range(2, 9), *range(10, 21, 2), *range(24, 65, 8))  # as many units: tried for a precision
_MOST_REPEATED = 2_000_000  # candidates; beyond that no number is said to be enough


@dataclass(frozen=True, slots=True)
class Targets:
    """What is asked for. Raises ConfigError for what no data could show."""

    recall: float
    precision: float
    confidence: float

    def __post_init__(self) -> None:
        for name, value in (("recall", self.recall), ("precision", self.precision), ("confidence", self.confidence)):
            if not 0 < value < 1:
                raise ConfigError(f"--{name}: expected more than 0 and less than 1, got {value:g}. No data show certainty.")


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A recall or precision of a class that the data cannot show.

    best: the recall that they can, 0 for none. more_units: how many more with objects would do; None: no number would.
    units: how many hold the objects.
    """

    class_name: str
    best: float
    more_units: int | None
    objects: int
    units: int
    never_found: int


@dataclass(frozen=True, slots=True)
class Unaccepted:
    """A precision of a class that was demanded and that the data cannot show.

    best: the highest of those tried that they can; None for none. more_units: how many more would do; None: no number would.
    """

    class_name: str
    best: float | None
    more_units: int | None


@dataclass(frozen=True, slots=True)
class Choice:
    """What came of it, by the compared class names. `thresholds` is empty where `shortfalls` is not.

    unaccepted: of the classes without acceptance, where a precision was demanded.
    """

    thresholds: Mapping[str, ClassThresholds]
    proofs: Mapping[str, Proof]
    probabilities: Mapping[str, ScoreMap]
    shortfalls: tuple[Shortfall, ...]
    without_acceptance: tuple[str, ...]
    unaccepted: tuple[Unaccepted, ...]
    units_apart: int


def choose(names: Sequence[str], tallies: Sequence[Tally], targets: Targets, *, images: int, seed: int,
           demands_precision: bool) -> Choice:
    """Thresholds of all classes that hold jointly with the confidence that is asked for.

    images: how many the tallies are of. What may go wrong, 1 - confidence, is divided evenly among the classes, and in each
    four fifths go to recall and one to precision, all of it to recall where acceptance is not tried (Bonferroni: the
    probability that anything goes wrong is at most the sum). Whether units are set apart, and so whether acceptance is
    tried, depends on the numbers of units alone.
    """
    apart = _apart(tallies, targets, seed=seed, demands_precision=demands_precision)
    each = (1 - targets.confidence) / len(names)
    deltas = (each * (1 - _OF_PRECISION), each * _OF_PRECISION) if apart.any() else (each, 0.0)
    proofs, thresholds, probabilities = {}, {}, {}
    shortfalls, without, unaccepted = [], [], []
    for name, tally in zip(names, tallies, strict=True):
        of_class = _Class(tally, apart, images=images, seed=seed, recall_delta=deltas[0], precision_delta=deltas[1])
        missing = of_class.shortfall(name, targets.recall)
        if missing is not None:
            shortfalls.append(missing)
            continue
        mapped = of_class.score_map()
        if mapped is not None:
            probabilities[name] = mapped
        proofs[name] = proof = of_class.proof(targets, mapped)
        accepts = proof.shows(targets.precision)
        thresholds[name] = proof.bands(name, targets.recall, targets.precision if accepts else None)
        if not accepts:
            without.append(name)
            if demands_precision:
                best = max((row.precision for row in proof.precisions), default=None)
                unaccepted.append(Unaccepted(name, best, of_class.more_for_precision(targets.precision)))
    return Choice({} if shortfalls else thresholds, proofs, probabilities, tuple(shortfalls), tuple(without),
                  tuple(unaccepted), int(apart.sum()))


def _apart(tallies: Sequence[Tally], targets: Targets, *, seed: int, demands_precision: bool) -> BoolArray:
    """Which units are set apart: none where none has more than one object and they are needed for the recall."""
    n_units = tallies[0].n_units
    several = any(tally.objects_a_unit.max(initial=0) > 1 for tally in tallies)
    delta = (1 - targets.confidence) * (1 - _OF_PRECISION) / len(tallies)
    need = fewest_draws(1, share=1 - targets.recall, delta=delta)
    fewest = min(tally.units_with_objects for tally in tallies)
    share = _APART if several or demands_precision or fewest * (1 - _APART) >= _SPARE * need else 0.0
    return set_apart(n_units, share=share, seed=seed)


class _Class:
    """One class while its thresholds are chosen."""

    def __init__(self, tally: Tally, apart: BoolArray, *, images: int, seed: int, recall_delta: float,
                 precision_delta: float) -> None:
        self._all, self._images, self._seed = tally, images, seed
        self._recall_delta, self._precision_delta = recall_delta, precision_delta
        self._proving = tally.of_units(~apart) if apart.any() else tally
        self._apart = tally.of_units(apart) if apart.any() else None
        self._recall = _recall_proof(self._proving, self._apart, seed)

    def shortfall(self, name: str, recall: float) -> Shortfall | None:
        """What is missing for a recall; None where it is shown."""
        objects, units = len(self._all.object_unit), self._all.units_with_objects
        if self._recall is None:
            need = fewest_draws(1, share=1 - recall, delta=self._recall_delta)
            return Shortfall(name, 0.0, max(1, need - units), objects, units, 0)
        if self._recall.flag_at(recall, delta=self._recall_delta) is not None:
            return None
        return Shortfall(name, self._recall.best(delta=self._recall_delta), self._more_units(self._recall, recall), objects,
                         units, self._recall.never_found)

    def _more_units(self, proof: RecallProof, recall: float) -> int | None:
        """How many more with objects would do, those that will be set apart among them."""
        more = proof.more_units(recall, delta=self._recall_delta)
        return more if more is None or self._apart is None else -(-more * self._all.n_units // self._proving.n_units)

    def proof(self, targets: Targets, mapped: ScoreMap | None) -> Proof:
        """What is shown, for the targets and for others."""
        if self._recall is None:
            raise ValueError("expected a class whose recall is shown")
        recalls = {recall: self._recall_at(recall) for recall in sorted({*RECALLS, targets.recall})}
        precisions = map(self._precision_at, sorted({*PRECISIONS, targets.precision}))
        return Proof(
            bound=self._recall.bound, units=self._proving.n_units, units_with_objects=self._proving.units_with_objects,
            objects=len(self._proving.object_unit), never_found=self._recall.never_found, cap_objects=self._recall.cap,
            units_over_cap=self._recall.units_over_cap, candidates=len(self._proving.candidate_unit),
            recall_delta=self._recall_delta, precision_delta=self._precision_delta,
            best_recall=self._recall.best(delta=self._recall_delta), recalls=tuple(filter(None, recalls.values())),
            precisions=tuple(filter(None, precisions)), reliability=self._reliability(mapped),
            beyond=self._beyond(self._recall, [recall for recall, row in recalls.items() if row is None]),
            stored_per_1000_images=self._per_1000(0.0))

    def _beyond(self, proof: RecallProof, recalls: Sequence[float]) -> tuple[RecallBeyond, ...]:
        """Those recalls, rising, with what would show them: what no number of units shows, none shows of a higher one."""
        beyond: list[RecallBeyond] = []
        for recall in recalls:
            out_of_reach = bool(beyond) and beyond[-1].more_units is None
            beyond.append(RecallBeyond(recall=recall, more_units=None if out_of_reach else self._more_units(proof, recall)))
        return tuple(beyond)

    def _recall_at(self, recall: float) -> RecallAt | None:
        flag_at = self._recall.flag_at(recall, delta=self._recall_delta) if self._recall is not None else None
        if flag_at is None:
            return None
        return RecallAt(recall=recall, flag_at=flag_at,
                        recall_measured=float((self._proving.object_score >= flag_at).mean()),
                        flagged_per_1000_images=self._per_1000(flag_at))

    def _precision_at(self, precision: float) -> PrecisionAt | None:
        if self._apart is None or not self._precision_delta:
            return None
        proof = PrecisionProof(self._proving, self._apart, precision, seed=self._seed)
        accept_at = proof.accept_at(delta=self._precision_delta)
        if accept_at is None:
            return None
        accepted = self._proving.candidate_right[self._proving.candidate_score >= accept_at]
        return PrecisionAt(precision=precision, accept_at=accept_at, bound=proof.bound,
                           precision_measured=float(accepted.mean()) if len(accepted) else 1.0,
                           accepted_per_1000_images=self._per_1000(accept_at), cap_candidates=proof.cap_at(accept_at))

    def more_for_precision(self, precision: float) -> int | None:
        """About how many more units like these would show it; None where no number would, or too many."""
        if self._apart is None:
            return None
        for times in _TIMES:
            if times * len(self._all.candidate_unit) > _MOST_REPEATED:
                return None
            proof = PrecisionProof(self._proving.repeated(times), self._apart.repeated(times), precision, seed=self._seed)
            if proof.accept_at(delta=self._precision_delta) is not None:
                return (times - 1) * self._all.n_units
        return None

    def _per_1000(self, at_least: float) -> float:
        flagged = int((self._all.candidate_score >= at_least).sum())
        return round(_A_THOUSAND * flagged / self._images, 3)

    def score_map(self) -> ScoreMap | None:
        """Probabilities by the candidates of the units apart; None where those are too few."""
        found = fitted(self._apart.candidate_score, self._apart.candidate_right) if self._apart is not None else None
        if found is None or self._apart is None:
            return None
        method, scores, probabilities = found
        return ScoreMap(method="isotonic" if method == "isotonic" else "platt", scores=tuple(scores.tolist()),
                        probabilities=tuple(probabilities.tolist()), fitted_on=len(self._apart.candidate_score))

    def _reliability(self, mapped: ScoreMap | None) -> Reliability | None:
        """On the units that the map was not made of."""
        if mapped is None:
            return None
        scores, right = self._proving.candidate_score, self._proving.candidate_right
        both = [tally_of_all(np.rint(each * SCORE_ONE).astype(np.uint16), right).astype(np.float64) for each in (
            scores, mapped.of(scores))]
        errors = [float(np.nan_to_num(calibration_error(each[None])[0])) for each in both]
        return Reliability(error_of_scores=errors[0], error_of_probabilities=errors[1], of_scores=reliability(both[0]),
                           of_probabilities=reliability(both[1]))


def _recall_proof(proving: Tally, apart: Tally | None, seed: int) -> RecallProof | None:
    """None where there are too few units with objects to begin with."""
    if not len(proving.object_unit):
        return None
    several = proving.objects_a_unit.max() > 1 or (apart is not None and apart.objects_a_unit.max(initial=0) > 1)
    if several and (apart is None or not len(apart.object_unit)):
        return None
    return RecallProof(proving, apart, seed=seed)
