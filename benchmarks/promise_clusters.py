"""Recall of objects that depend on each other within units: 1,000 simulated calibrations of 100, 300 and 1,000 units.

Generated units of 1 to 20 objects, found or missed together (correlation 0.6 of normal scores), those of crowded units
harder, and 12 candidates a unit that find nothing: `_crowds.Crowd()`. Asked for is a recall of 0.95 at 95 %. As in the
product, 20 % of the units are set apart and the others are tested. Where nothing can be shown all is flagged, which reaches
the recall; how often is in the details. Of 100 units it is always: even if none of the 80 misses anything, no bet gains
enough, as a unit of 20 missed objects must not lose all. What a threshold reaches on fresh units, and what it flags there,
comes in closed form. Prints a JSON list. For each number of units:

- the share of calibrations that reach the recall; and that of the binomial bound, which takes all objects of all units for
  independent. That falls short: it is demanded to, or the units would not be such as the promise is about;
- candidates flagged over those of the oracle, who knows the distributions, against those of a normal approximation that
  knows the true variance: a z-test over all units, none set apart, from the lowest threshold up until it fails.

Last, units of one object each, where the bound is the exact one; the thresholds are held to the order statistics.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from _common import Bound, Detail, Row, say, show
from _crowds import Crowd, drawn
from scipy.special import ndtr, ndtri

from segsvc.quality.bounds import order_rank
from segsvc.quality.thresholds import RecallProof, Tally, set_apart

Floats = npt.NDArray[np.float64]

RECALL, CONFIDENCE = 0.95, 0.95
MISSING, DELTA = 1 - RECALL, 1 - CONFIDENCE
APART = 0.2
UNITS = (100, 300, 1000)
LOADS = {300: 1.25, 1000: 1.25}
SHARE = 0.936
SIMULATIONS = 1000
MANY, ONE = Crowd(), Crowd(fewest=1, most=1)
OURS, NAIVE, NORMAL = "ours", "binomial, objects taken for independent", "z-test with the true variance, all units"


def apart_and_proving(tally: Tally, seed: int) -> tuple[Tally, Tally]:
    apart = set_apart(tally.n_units, share=APART, seed=seed)
    return tally.of_units(apart), tally.of_units(~apart)


def ours(tally: Tally, seed: int) -> float:
    """By the proof that a calibration makes; NaN where nothing is shown."""
    apart, proving = apart_and_proving(tally, seed)
    flag_at = RecallProof(proving, apart, seed=seed).flag_at(RECALL, delta=DELTA)
    return np.nan if flag_at is None else flag_at


def naive(tally: Tally) -> float:
    """By the order statistics of all objects' scores."""
    rank = order_rank(len(tally.object_score), share=MISSING, delta=DELTA)
    return float(np.sort(tally.object_score)[rank - 1]) if rank else np.nan


class Normal:
    """The z-test that knows the standard deviation, tabled over even steps of the normal score."""

    def __init__(self, crowd: Crowd) -> None:
        self._levels = np.linspace(-6, 3, 721)
        self._deviations = crowd.deviation(ndtr(self._levels), missing=MISSING)

    def flag_at(self, tally: Tally) -> float:
        """The last threshold, from the lowest object's score up, before the first that the test does not pass."""
        scores = np.sort(tally.object_score)
        mean = (MISSING * len(scores) - np.arange(len(scores))) / tally.n_units
        deviation = np.interp(ndtri(scores), self._levels, self._deviations)
        passed = mean * np.sqrt(tally.n_units) >= ndtri(CONFIDENCE) * deviation
        last = len(passed) if passed.all() else int(np.argmin(passed))
        return float(scores[last - 1]) if last else np.nan


def simulated(crowd: Crowd, n_units: int, simulations: int) -> dict[str, Floats]:
    """The thresholds (simulations,) of each contender, NaN where nothing is shown."""
    normal = Normal(crowd)
    found: dict[str, list[float]] = {name: [] for name in (OURS, NAIVE, NORMAL)}
    for number in range(simulations):
        tally = drawn([crowd], n_units, seed=(n_units, number))[0]
        found[OURS].append(ours(tally, number))
        found[NAIVE].append(naive(tally))
        found[NORMAL].append(normal.flag_at(tally))
    return {name: np.array(thresholds) for name, thresholds in found.items()}


def rows(n_units: int, simulations: int) -> list[Row]:
    """Of so many units: the shares that reach the recall, and the loads."""
    shown = simulated(MANY, n_units, simulations)
    thresholds = {name: np.nan_to_num(scores, nan=0.0) for name, scores in shown.items()}  # where not, all is flagged
    share = {name: float((MANY.missed(scores) <= MISSING).mean()) for name, scores in thresholds.items()}
    nothing = {name: float(np.isnan(scores).mean()) for name, scores in shown.items()}
    missed = MANY.missed(shown[OURS][~np.isnan(shown[OURS])])
    oracle = float(MANY.flagged(MANY.flag_at(RECALL))[0])
    loads = {name: float(MANY.flagged(scores).mean()) / oracle for name, scores in thresholds.items()}
    say(f"{n_units} units: shares {share}, loads {loads}, nothing shown {nothing}")
    of_shares: Mapping[str, Detail] = {
        "simulations": simulations, "shares": share, "nothing_shown": nothing,
        "share_of_those_where_something_is_shown": float((missed <= MISSING).mean()) if len(missed) else None}
    of_loads: Mapping[str, Detail] = {
        "loads": loads, "nothing_shown": nothing, "load_of_all_candidates": float(MANY.flagged(0.0)[0]) / oracle,
        "oracles_candidates_a_unit": oracle, "objects_a_unit": MANY.objects}
    return [
        Row(f"share of calibrations that reach the recall, {n_units} units", share[OURS], "share", share[NAIVE], NAIVE, None,
            None, SHARE, Bound.OURS_AT_LEAST, of_shares),
        Row(f"the same with objects taken for independent, {n_units} units: falls short", share[NAIVE], "share", None, None,
            None, None, SHARE, Bound.OURS_AT_MOST, {"simulations": simulations}),
        Row(f"review load over the oracle's, {n_units} units; ratio: over the z-test's", loads[OURS], "times", loads[NORMAL],
            NORMAL, loads[OURS] / loads[NORMAL], None, LOADS.get(n_units), Bound.RATIO_AT_MOST, of_loads)]


def of_single_objects(n_units: int, simulations: int) -> Row:
    """Of units of one object: every threshold must be the order statistic of the units that are tested."""
    found, expected = np.zeros(simulations), np.zeros(simulations)
    for number in range(simulations):
        tally = drawn([ONE], n_units, seed=(n_units, number))[0]
        found[number] = ours(tally, number)
        expected[number] = naive(apart_and_proving(tally, number)[1])
    same = bool(np.array_equal(found, expected, equal_nan=True))
    found, expected = np.nan_to_num(found, nan=0.0), np.nan_to_num(expected, nan=0.0)
    load = float(ONE.flagged(found).mean() / ONE.flagged(ONE.flag_at(RECALL))[0])
    return Row(f"share of calibrations that reach the recall, {n_units} units of one object",
               float((ONE.missed(found) <= MISSING).mean()), "share", float((ONE.missed(expected) <= MISSING).mean()),
               "order statistics", None, same, SHARE, Bound.OURS_AT_LEAST,
               {"simulations": simulations, "load_over_the_oracles": load})


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="The promise of a recall, of objects that depend on each other.")
    parser.add_argument("--simulations", type=int, default=SIMULATIONS)
    simulations = parser.parse_args().simulations
    show([*(row for n_units in UNITS for row in rows(n_units, simulations)), of_single_objects(1000, simulations)])


if __name__ == "__main__":
    main()
