"""Recall of single objects: the coverage of the exact bound, computed, and 1,000 simulated calibrations beside MAPIE.

Generated scores: Beta(5, 2) of objects and Beta(2, 5) of others, independent, one object a unit, nine others for each
object. Asked for is a recall of 0.95 at 95 %. What a threshold reaches on fresh data, and what of it would be flagged, comes
from the distribution functions and is not sampled. Prints a JSON list: the exact coverage of n objects; the share of
calibrations that reach the recall; what they flag over what the oracle would, who knows the distributions; and the same
against MAPIE's, on the same draws.

MAPIE 1.6 as it flags least: BinaryClassificationController with `fixed_sequence`, which its documentation recommends for
recall, over 1,000 thresholds, and the highest of its valid ones. Misses are given as a BinaryRisk of our own, since
MAPIE's `recall` comes to 1 - recall by a subtraction whose rounding error can count as one miss more. That
is the same binomial test as ours on a grid, so the rest between the two is the grid's. In the details: by its predefined
`recall` and 100 thresholds, and with all its defaults (Bonferroni-Holm). Its valid thresholds depend on the scores
of objects alone, so it gets those. Where it finds none, all is flagged.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
from _common import Bound, Detail, Row, say, show
from mapie.risk_control import BinaryClassificationController, BinaryRisk
from scipy.stats import beta

from segsvc.quality.bounds import order_confidence, order_rank
from segsvc.quality.thresholds import RecallProof, Tally

Floats = npt.NDArray[np.float64]

RECALL, CONFIDENCE, PREVALENCE = 0.95, 0.95, 0.1
OBJECTS, OTHERS = beta(5, 2), beta(2, 5)
COVERED = (59, 100, 300, 1000)
LOADS = {100: 1.55, 300: 1.28, 1000: 1.13}
SHARE = 0.936
SIMULATIONS = 1000
OURS, BEST, NAMED, DEFAULT = "ours", "MAPIE, least load", "MAPIE, its recall, 100 thresholds", "MAPIE, its defaults"
MISSES = BinaryRisk(lambda true, said: said.ravel() != true.ravel(), lambda true, said: true.ravel() == 1,
                    higher_is_better=False)
GRID = np.arange(1000) / 1000


def load(scores: Floats | float) -> Floats:
    """The share of all candidates with at least each of the scores."""
    flagged: Floats = PREVALENCE * OBJECTS.sf(scores) + (1 - PREVALENCE) * OTHERS.sf(scores)
    return flagged


def ours(objects: Floats) -> float:
    """By the proof that a calibration makes; 0 where nothing is shown."""
    units = np.arange(len(objects))
    tally = Tally(len(objects), units, objects, units, objects, np.ones(len(objects), np.bool_))
    return RecallProof(tally, None, seed=0).flag_at(RECALL, delta=1 - CONFIDENCE) or 0.0


def mapies(objects: Floats, controller: BinaryClassificationController) -> float:
    """The highest threshold that it finds valid; 0 where there is none."""
    controller.calibrate(objects, np.ones(len(objects), np.int64))
    return float(max(controller.valid_predict_params, default=0.0))


def same_with_others(n_objects: int) -> bool:
    """Whether MAPIE finds the same thresholds valid when it also sees nine others for each object."""
    random = np.random.default_rng((n_objects, 0))
    scores = np.concatenate([random.beta(5, 2, n_objects), random.beta(2, 5, 9 * n_objects)])
    labels = np.arange(len(scores)) < n_objects
    alone, among = controllers()[BEST], controllers()[BEST]
    alone.calibrate(scores[labels], labels[labels])
    among.calibrate(scores, labels)
    return bool(np.array_equal(alone.valid_predict_params, among.valid_predict_params))


def probabilities(scores: Floats) -> Floats:
    """(n, 2), as MAPIE takes them."""
    return np.column_stack([1 - scores, scores])


def controllers() -> dict[str, BinaryClassificationController]:
    """The peer, set up in three ways."""
    least = {"confidence_level": CONFIDENCE, "best_predict_param_choice": "predicted_positive_fraction",
             "fwer_method": "fixed_sequence"}
    return {BEST: BinaryClassificationController(probabilities, MISSES, 1 - RECALL, list_predict_params=GRID, **least),
            NAMED: BinaryClassificationController(probabilities, "recall", RECALL, **least),
            DEFAULT: BinaryClassificationController(probabilities, "recall", RECALL, confidence_level=CONFIDENCE)}


def simulated(n_objects: int, simulations: int) -> dict[str, Floats]:
    """The thresholds (simulations,) of each contender."""
    peers = controllers()
    found: dict[str, list[float]] = {name: [] for name in (OURS, *peers)}
    for number in range(simulations):
        objects = np.random.default_rng((n_objects, number)).beta(5, 2, n_objects)
        found[OURS].append(ours(objects))
        for name, controller in peers.items():
            found[name].append(mapies(objects, controller))
    return {name: np.array(thresholds) for name, thresholds in found.items()}


def expected_load(n_objects: int) -> float:
    """The mean load of our threshold over all calibrations: it is an order statistic, whose distribution is known."""
    rank = order_rank(n_objects, share=1 - RECALL, delta=1 - CONFIDENCE)
    levels = (np.arange(100_000) + 0.5) / 100_000
    return float(load(OBJECTS.ppf(beta(rank, n_objects - rank + 1).ppf(levels))).mean())


def coverage(n_objects: int) -> Row:
    rank = order_rank(n_objects, share=1 - RECALL, delta=1 - CONFIDENCE)
    covered = order_confidence(n_objects, rank, share=1 - RECALL)
    return Row(f"exact coverage, {n_objects} objects", covered, "probability", None, None, None, None, CONFIDENCE,
               Bound.OURS_AT_LEAST, {"rank": rank})


def rows(n_objects: int, simulations: int) -> list[Row]:
    """Of so many objects: the share that reaches the recall, the load, and both against MAPIE."""
    thresholds = simulated(n_objects, simulations)
    share = {name: float((OBJECTS.cdf(scores) <= 1 - RECALL).mean()) for name, scores in thresholds.items()}
    oracle = float(load(OBJECTS.ppf(1 - RECALL)))
    loads = {name: float(load(scores).mean()) / oracle for name, scores in thresholds.items()}
    nothing = {f"{name}: nothing shown": float((scores == 0).mean()) for name, scores in thresholds.items()}
    say(f"{n_objects} objects: shares {share}, loads {loads}")
    of_shares: Mapping[str, Detail] = {"simulations": simulations, "shares": share, **nothing}
    of_loads: Mapping[str, Detail] = {
        "loads": loads, "standard_error": float(load(thresholds[OURS]).std()) / oracle / simulations**0.5,
        "expected": expected_load(n_objects) / oracle}
    of_both: Mapping[str, Detail] = {
        "mapie": version("mapie"), "fwer_method": "fixed_sequence", "thresholds": len(GRID),
        "flags_never_more_than_mapie": bool((thresholds[OURS] >= thresholds[BEST]).all()),
        "mapies_thresholds_are_the_same_with_others": same_with_others(n_objects)}
    ratio = loads[BEST] / loads[OURS]
    return [
        Row(f"share of calibrations that reach the recall, {n_objects} objects", share[OURS], "share", share[BEST], BEST,
            None, None, SHARE, Bound.OURS_AT_LEAST, of_shares),
        Row(f"review load over the oracle's, {n_objects} objects", loads[OURS], "times", loads[BEST], BEST, ratio, None,
            LOADS[n_objects], Bound.OURS_AT_MOST, of_loads),
        Row(f"review load over the oracle's against MAPIE's, {n_objects} objects", loads[OURS], "times", loads[BEST], BEST,
            ratio, None, 1.0, Bound.RATIO_AT_LEAST, of_both)]


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="The promise of a recall, of single objects, beside MAPIE.")
    parser.add_argument("--simulations", type=int, default=SIMULATIONS)
    simulations = parser.parse_args().simulations
    warnings.filterwarnings("ignore", category=UserWarning, module=r"mapie\.")  # that no threshold, or every one, is valid
    show([*map(coverage, COVERED), *(row for n_objects in LOADS for row in rows(n_objects, simulations))])


if __name__ == "__main__":
    main()
