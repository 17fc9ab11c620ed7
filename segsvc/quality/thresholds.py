"""From which score on to flag so that a recall is shown, and to accept so that a precision is: of one class, by units.

A unit is what was drawn together: an image, or the group of images of a patient or a street. What is shown holds for the
objects of fresh units of the same kind, pooled, where a unit of more than `cap` objects counts as so many. The theorems are
in `bounds`.

Units that are set apart, by chance, decide how the others are tested, so that nothing which is tested also decides how: the
cap, hence which theorem is used, the first bets, and the thresholds that are walked over. (Where few are expected, the walk
is over all thresholds there are. That is fixed beforehand too; it needs a step only where the tested data change.) An object
that no stored candidate finds is missed at every threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from segsvc.quality.bounds import Guess, fewest_draws, most_share, order_rank, shown_steps, shows_gain
from segsvc.quality.found import NOT_FOUND
from segsvc.types import Bound

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_MOST_STEPS = 512  # of a walk over thresholds; with more, those of the units apart are walked
_REACH = 2.0  # a walk goes no further than so many times the misses that are allowed
_STARTS = 128  # thresholds of the units apart among which that for acceptance is looked for
_MOST_TIMES = 256  # as many units as there are: beyond that, no number is said to be enough
_MOST_UNITS = 4_000_000
_MOST_TRIES = 100
_LADDER = (*(step / 100 for step in range(1, 90)), *(step / 1000 for step in range(900, 1000)))


@dataclass(frozen=True, slots=True)
class Tally:
    """The objects and stored candidates of one class, by the rule of found; units are numbers from 0 to n_units - 1.

    object_unit (m,), object_score (m,): the highest score of a candidate that finds the object, NOT_FOUND where none does.
    candidate_unit (n,), candidate_score (n,), candidate_right (n,): whether it finds an object.
    """

    n_units: int
    object_unit: Ints
    object_score: Floats
    candidate_unit: Ints
    candidate_score: Floats
    candidate_right: BoolArray

    @property
    def objects_a_unit(self) -> Ints:
        return np.bincount(self.object_unit, minlength=self.n_units)

    @property
    def candidates_a_unit(self) -> Ints:
        return np.bincount(self.candidate_unit, minlength=self.n_units)

    @property
    def units_with_objects(self) -> int:
        return int(np.count_nonzero(self.objects_a_unit))

    def of_units(self, wanted: BoolArray) -> Tally:
        """The wanted units (n_units,) alone, numbered anew in the same order."""
        number = np.cumsum(wanted) - 1
        objects, candidates = wanted[self.object_unit], wanted[self.candidate_unit]
        return Tally(int(wanted.sum()), number[self.object_unit[objects]], self.object_score[objects],
                     number[self.candidate_unit[candidates]], self.candidate_score[candidates],
                     self.candidate_right[candidates])

    def repeated(self, times: int) -> Tally:
        """So many times as many units, as if the same came again and again."""
        def units(each: Ints) -> Ints:
            return np.concatenate([each + number * self.n_units for number in range(times)])

        return Tally(times * self.n_units, units(self.object_unit), np.tile(self.object_score, times),
                     units(self.candidate_unit), np.tile(self.candidate_score, times), np.tile(self.candidate_right, times))

    def by_score(self) -> Tally:
        """The same with the objects in the order of their scores, rising."""
        order = np.argsort(self.object_score, kind="stable")
        return replace(self, object_unit=self.object_unit[order], object_score=self.object_score[order])

    def shuffled(self, seed: int) -> Tally:
        """The same units in an order drawn by the seed: bets are made in it, and it knows nothing of what they hold."""
        number = np.random.default_rng((seed, 0)).permutation(self.n_units)
        return replace(self, object_unit=number[self.object_unit], candidate_unit=number[self.candidate_unit])


class RecallProof:
    """What calibration units show of the recall of flagging.

    Where no unit apart has several objects, each unit counts once, by its worst object, and order statistics are exact;
    else units count by all their objects, up to the most that a unit apart has, and bets are made.
    """

    def __init__(self, proving: Tally, apart: Tally | None, *, seed: int) -> None:
        """apart: other units, which decide how the test is made; None where no unit has more than one object.

        Raises ValueError where there are no objects, or several in a unit and no units with objects apart.
        """
        if not len(proving.object_unit):
            raise ValueError("expected at least one object, got none")
        self._apart = apart.by_score() if apart is not None and len(apart.object_unit) else None
        if self._apart is None and proving.objects_a_unit.max() > 1:
            raise ValueError("expected units with objects apart, as units hold several objects, got none")
        self._proving, self._seed = proving.shuffled(seed).by_score(), seed
        self._members = self._proving.objects_a_unit
        self.cap = int(self._apart.objects_a_unit.max()) if self._apart is not None else 1
        self.bound = Bound.BINOMIAL if self.cap == 1 else Bound.BETTING
        worst = np.full(proving.n_units, np.inf)
        np.minimum.at(worst, proving.object_unit, proving.object_score)
        self._worst = np.sort(worst[np.isfinite(worst)])  # a score for each unit with objects
        self._misses = int((self._worst == NOT_FOUND).sum())

    @property
    def units_over_cap(self) -> int:
        """How many of the units hold more objects than count."""
        return int((self._members > self.cap).sum())

    @property
    def over_cap(self) -> int:
        """How many objects are more than their units count."""
        return int(np.maximum(self._members - self.cap, 0).sum())

    @property
    def never_found(self) -> int:
        """How many objects no stored candidate finds."""
        return int((self._proving.object_score == NOT_FOUND).sum())

    def flag_at(self, recall: float, *, delta: float) -> float | None:
        """The highest score from which flagging shows that recall at confidence 1 - delta; None where no score does."""
        missing = 1 - recall
        if self.bound is Bound.BINOMIAL:
            rank = order_rank(len(self._worst), share=missing, delta=delta)
            return None if rank == 0 or self._worst[rank - 1] == NOT_FOUND else float(self._worst[rank - 1])
        thresholds = self._thresholds(missing)
        ends = np.searchsorted(self._proving.object_score, thresholds, side="left")
        places = self._proving.object_unit
        shown = shown_steps(self._members * np.float64(missing), self._members, places=places,
                            changes=np.full(len(places), -1.0), joining=False, ends=ends, caps=np.full(len(ends), self.cap),
                            loss=recall, delta=delta, guess=self._guess(missing))
        return float(thresholds[shown - 1]) if shown else None

    def best(self, *, delta: float) -> float:
        """The highest recall that all stored candidates together show; 0 where none is shown.

        It is in hundredths, and in thousandths from 0.9 on. It holds at confidence 1 - delta though it was chosen after the
        data: it is the end of a confidence interval, as recalls are tried from the lowest on until one is not shown.
        """
        if self.bound is Bound.BINOMIAL:
            shown = 1 - most_share(self._misses, len(self._worst), delta=delta)
            return max((recall for recall in _LADDER if recall <= shown), default=0.0)
        best = 0.0
        for recall in _LADDER:
            if not self._shows_all(recall, delta, self._proving.n_units):
                break
            best = recall
        return best

    def more_units(self, recall: float, *, delta: float) -> int | None:
        """About how many more units with objects like these would show that recall; None where no number would, or too many.

        Counted as if the same units came again and again.
        """
        if self.bound is Bound.BINOMIAL:
            return self._more_single(1 - recall, delta)
        have = self._proving.n_units
        low, high = have, 2 * have
        if self._gains_of_all(recall, have).sum() <= 0:
            return None
        while not self._shows_all(recall, delta, high):
            low, high = high, 2 * high
            if high > min(_MOST_TIMES * have, _MOST_UNITS):
                return None
        while high - low > max(1, high // 50):  # high is enough
            middle = (low + high) // 2
            low, high = (low, middle) if self._shows_all(recall, delta, middle) else (middle, high)
        return max(1, math.ceil((high - have) * self._proving.units_with_objects / have))

    def _more_single(self, missing: float, delta: float) -> int | None:
        """Of units that count once: the fewest more, if of all of them as large a share is missed as of these."""
        have, misses = len(self._worst), self._misses
        expected = misses
        for _ in range(_MOST_TRIES if misses < missing * have else 0):
            need = fewest_draws(expected + 1, share=missing, delta=delta)
            if misses * need // have <= expected:
                return max(1, need - have)
            expected = misses * need // have
        return None

    def _shows_all(self, recall: float, delta: float, n_units: int) -> bool:
        """Whether bets show the recall of all stored candidates together, with so many units like these."""
        gains = self._gains_of_all(recall, n_units)
        return shows_gain(gains, most_loss=recall * self.cap, delta=delta, guess=self._guess(1 - recall))

    def _gains_of_all(self, recall: float, n_units: int) -> Floats:
        """(n_units,) the gains of units where all stored candidates are flagged; where more are asked, they come again."""
        lost = self._proving.object_unit[self._proving.object_score == NOT_FOUND]
        gains = _gains(self._members, np.bincount(lost, minlength=len(self._members)), 1 - recall, self.cap)
        if n_units == len(gains):
            return gains
        return np.random.default_rng((self._seed, 2)).permutation(np.resize(gains, n_units))

    def _thresholds(self, missing: float) -> Floats:
        """The thresholds of the walk, rising: where something changes, no further than is of use.

        They are all that could be walked over; where the units apart let too many be expected, theirs.
        """
        reach = min(1.0, _REACH * missing)
        others = _found(self._apart) if self._apart is not None else np.zeros(0)
        if self._apart is None or reach * len(others) * self._proving.n_units <= _MOST_STEPS * self._apart.n_units:
            found = _found(self._proving)
            return np.unique(found[: math.ceil(reach * len(found))])
        places = np.minimum((np.linspace(0, reach, _MOST_STEPS) * len(others)).astype(np.int64), len(others) - 1)
        return np.unique(np.concatenate([[0.0], others[places]]))

    def _guess(self, missing: float) -> Guess:
        """By the units apart, at a threshold that misses half of what is allowed."""
        if self._apart is None:
            raise ValueError("expected units apart, got none")
        members = self._apart.objects_a_unit
        lost = self._apart.object_unit[: max(1, round(missing / 2 * len(self._apart.object_unit)))]
        gains = _gains(members, np.bincount(lost, minlength=len(members)), missing, self.cap)
        return Guess(max(float((gains**2).mean()), 1e-9))


class PrecisionProof:
    """What calibration units show of the precision of acceptance, for one precision that is wanted.

    Precision is no law's rising function of the score. So the walk over thresholds goes down from one that the units apart
    choose: where they speak most clearly for the precision. Where no unit apart has several candidates, each unit counts
    once, by its worst accepted candidate, and the binomial distribution is exact; else bets are made, and at each threshold
    a unit counts as many accepted candidates as it has, up to the most that a unit apart has there.
    """

    def __init__(self, proving: Tally, apart: Tally, precision: float, *, seed: int) -> None:
        """apart: other units, which decide where the walk starts, what a unit counts at most, and how bets are made."""
        self._proving, self._apart, self._precision = proving.shuffled(seed), apart, precision
        self.bound = Bound.BETTING if apart.candidates_a_unit.max(initial=0) > 1 else Bound.BINOMIAL
        self._apart_scores, self._apart_most = _most_accepted(apart)
        self.start = self._start()  # None where the units apart speak against it at every threshold

    @property
    def cap(self) -> int:
        """How many accepted candidates of a unit count at most, where acceptance begins at `start`."""
        return self.cap_at(self.start) if self.start is not None else 1

    def cap_at(self, threshold: float) -> int:
        """How many accepted candidates of a unit count at most, where acceptance begins at that threshold."""
        return int(self._caps(np.array([threshold]))[0])

    def accept_at(self, *, delta: float) -> float | None:
        """The lowest score from which accepting shows the precision at confidence 1 - delta; None where none does.

        Every threshold of the walk from it up to `start` shows it too. None is taken where more of the accepted candidates
        than may be wrong lie beyond the cap: the units apart have then not seen how crowded units are.
        """
        if self.start is None:
            return None
        thresholds = self._thresholds(self.start)
        order = np.argsort(-self._proving.candidate_score, kind="stable")
        ends = np.searchsorted(-self._proving.candidate_score[order], -thresholds, side="right")
        unit, right = self._proving.candidate_unit[order], self._proving.candidate_right[order]
        if self.bound is Bound.BINOMIAL:
            shown = self._binomial_steps(unit, right, ends, delta)
        else:
            squares = self._gains(self.start) ** 2
            shown = shown_steps(
                np.zeros(self._proving.n_units), np.zeros(self._proving.n_units, np.int64), places=unit,
                changes=np.where(right, 1 - self._precision, -self._precision), joining=True, ends=ends,
                caps=self._caps(thresholds), loss=self._precision, delta=delta,
                guess=Guess((float(squares.sum()) + self._precision**2) / (len(squares) + 1)))
        while shown and self.over_cap(float(thresholds[shown - 1])) > (1 - self._precision) * ends[shown - 1]:
            shown -= 1
        return float(thresholds[shown - 1]) if shown else None

    def over_cap(self, threshold: float) -> int:
        """How many candidates are more than their units count, where acceptance begins at that threshold."""
        accepted = np.bincount(self._proving.candidate_unit[self._proving.candidate_score >= threshold], minlength=1)
        return int(np.maximum(accepted - self.cap_at(threshold), 0).sum())

    def _start(self) -> float | None:
        scores = np.unique(self._apart.candidate_score)
        best, found = 0.0, None
        for threshold in scores[np.unique(np.linspace(0, len(scores) - 1, _STARTS).astype(np.int64))] if len(scores) else ():
            gains = self._gains(threshold)
            gain, square = float(gains.sum()), float((gains**2).sum()) + self._precision**2  # as if one more were wrong
            bet = min(gain / square, 1 / (self._precision * self.cap_at(threshold)))
            growth = bet * gain - bet * bet * square / 2  # about what the logarithm of the wealth would gain by that bet
            if gain > 0 and growth >= best:
                best, found = growth, float(threshold)
        return found

    def _caps(self, thresholds: Floats) -> Ints:
        """(steps,) the most candidates from each threshold on that a unit apart has, at least 1."""
        accepted = np.searchsorted(-self._apart_scores, -thresholds, side="right")
        return np.concatenate([np.ones(1, np.int64), self._apart_most])[accepted]

    def _thresholds(self, start: float) -> Floats:
        """The thresholds of the walk, falling from `start`: all there are, or some of those apart if many are expected."""
        scores = self._apart.candidate_score  # where caps change
        few = len(scores) * self._proving.n_units <= _MOST_STEPS * self._apart.n_units
        below: Floats = np.unique(np.concatenate([scores, self._proving.candidate_score]) if few else scores)
        below = below[below < start][::-1]
        if len(below) > _MOST_STEPS and not few:
            below = below[np.unique(np.linspace(0, len(below) - 1, _MOST_STEPS).astype(np.int64))]
        return np.concatenate([[start], below])

    def _binomial_steps(self, unit: Ints, right: BoolArray, ends: Ints, delta: float) -> int:
        """P(Bin(units that accept, 1 - precision) <= units with a wrong one) must be at most delta."""
        from scipy.stats import binom

        accepting, wrong = (_first_of_unit(unit, wanted)[ends] for wanted in (np.ones(len(unit), np.bool_), ~right))
        refuted = (accepting > 0) & (binom.cdf(wrong, accepting, 1 - self._precision) <= delta)
        return int(np.argmin(refuted)) if not refuted.all() else len(refuted)

    def _gains(self, at_least: float) -> Floats:
        """(n_units,) what the accepted candidates of each unit apart gain over the precision."""
        accepted = self._apart.candidate_score >= at_least
        unit = self._apart.candidate_unit[accepted]
        worth = np.where(self._apart.candidate_right[accepted], 1 - self._precision, -self._precision)
        sums = np.bincount(unit, weights=worth, minlength=self._apart.n_units).astype(np.float64)
        return _capped(sums, np.bincount(unit, minlength=self._apart.n_units), self.cap_at(at_least))


def set_apart(n_units: int, *, share: float, seed: int) -> BoolArray:
    """(n_units,) which units are set apart: a share of them, drawn by the seed."""
    chosen = np.zeros(n_units, np.bool_)
    chosen[np.random.default_rng((seed, 1)).permutation(n_units)[: round(share * n_units)]] = True
    return chosen


def _found(tally: Tally) -> Floats:
    """The scores of the objects that some candidate finds."""
    scores: Floats = tally.object_score[tally.object_score != NOT_FOUND]
    return scores


def _gains(members: Ints, missed: Ints, missing: float, cap: int) -> Floats:
    """(n_units,) the misses that are allowed to units of so many objects, less those that there are."""
    return _capped(members * np.float64(missing) - missed, members, cap)


def _capped(sums: Floats, members: Ints, cap: int) -> Floats:
    """(n_units,) the sums over units' members, those of units with more than `cap` scaled down to as many."""
    scaled: Floats = sums * np.minimum(1, cap / np.maximum(members, 1))
    return scaled


def _most_accepted(tally: Tally) -> tuple[Floats, Ints]:
    """(n,) the scores of candidates, falling, and the most candidates that a unit has down to each."""
    order = np.argsort(-tally.candidate_score, kind="stable")
    by_unit = np.argsort(tally.candidate_unit[order], kind="stable")
    unit = tally.candidate_unit[order][by_unit]
    count = np.empty(len(order), np.int64)
    count[by_unit] = np.arange(len(order)) - np.searchsorted(unit, unit) + 1  # of its unit, down to it
    return tally.candidate_score[order], np.maximum.accumulate(count)


def _first_of_unit(unit: Ints, wanted: BoolArray) -> Ints:
    """(n + 1,) how many units have a wanted one among the first 0, 1, ..., n."""
    places = np.flatnonzero(wanted)
    first = np.zeros(len(unit) + 1, np.int64)
    first[places[np.unique(unit[places], return_index=True)[1]] + 1] = 1
    return np.cumsum(first)
