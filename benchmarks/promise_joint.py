"""Both bands of five classes jointly: 1,000 simulated calibrations of 300 and of 1,000 units.

Generated units hold objects of five classes, `_crowds.Crowd` each: from many a unit to one at most; objects of a unit are
found or missed together, and units that are hard or crowded for one class tend to be so for the others. Asked for is a
recall of 0.95 and a precision of 0.95 at 95 %, all of it jointly: a calibration is right if the recall from `flag_at` and
the precision from `accept_at` reach theirs in every class. Where a recall cannot be shown all is flagged, and where a
precision cannot, nothing is accepted; both are right, and counted in the details. What thresholds reach on fresh units, and
what they flag and accept there, comes in closed form.

The proofs are those of a calibration: a fifth of the units is set apart, each class gets a fifth of what may go wrong, and
of that four fifths go to recall and one to precision. `outputs_equal`: the thresholds of the first calibrations are those of
`calibration.choosing.choose`, as which it divides. Prints a JSON list, a share and the loads for each number of units.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from _common import Bound, Detail, Row, say, show
from _crowds import Crowd, drawn

from segsvc.calibration.choosing import Targets, choose
from segsvc.quality.thresholds import PrecisionProof, RecallProof, Tally, set_apart

Floats = npt.NDArray[np.float64]

CLASSES = {
    "many": Crowd(),
    "several": Crowd(0, 10, ease=1.8, crowding=0.08, others=6),
    "some": Crowd(1, 6, ease=1.6, crowding=0.05, others=4),
    "few": Crowd(0, 3, ease=1.5, others=3),
    "one": Crowd(0, 1, ease=1.4, others=2),
}
RECALL, PRECISION, CONFIDENCE = 0.95, 0.95, 0.95
APART, OF_PRECISION = 0.2, 0.2
UNITS = (300, 1000)
SHARE = 0.936
SIMULATIONS = 1000
COMPARED = 5  # calibrations that are also made by `choose`


def thresholds(tally: Tally, apart: npt.NDArray[np.bool_], seed: int) -> tuple[float, float]:
    """(flag_at, accept_at) of a class; NaN where nothing is shown."""
    each = (1 - CONFIDENCE) / len(CLASSES)
    proving, others = tally.of_units(~apart), tally.of_units(apart)
    flag_at = RecallProof(proving, others, seed=seed).flag_at(RECALL, delta=each * (1 - OF_PRECISION))
    accept_at = PrecisionProof(proving, others, PRECISION, seed=seed).accept_at(delta=each * OF_PRECISION)
    return np.nan if flag_at is None else flag_at, np.nan if accept_at is None else accept_at


def chosen(tallies: Sequence[Tally], seed: int) -> list[tuple[float, float]] | None:
    """The same by the product; None where it refuses, as a recall cannot be shown."""
    choice = choose(list(CLASSES), tallies, Targets(RECALL, PRECISION, CONFIDENCE), images=tallies[0].n_units,
                    seed=seed, demands_precision=False)
    if choice.shortfalls:
        return None
    bands = [choice.thresholds[name] for name in CLASSES]
    return [(band.flag_at, np.nan if band.accept_at is None else band.accept_at) for band in bands]


def simulated(n_units: int, simulations: int) -> tuple[Floats, bool]:
    """Thresholds (simulations, classes, 2), and whether the first are the product's."""
    found = np.zeros((simulations, len(CLASSES), 2))
    equal = True
    for number in range(simulations):
        tallies = drawn(list(CLASSES.values()), n_units, seed=(n_units, number))
        apart = set_apart(n_units, share=APART, seed=number)
        found[number] = [thresholds(tally, apart, number) for tally in tallies]
        if number < COMPARED:
            expected = chosen(tallies, number)
            equal &= bool(np.isnan(found[number, :, 0]).any() if expected is None
                          else np.array_equal(found[number], expected, equal_nan=True))
    return found, equal


def rows(n_units: int, simulations: int) -> list[Row]:
    """Of so many units: the joint share, and what is flagged and accepted."""
    found, equal = simulated(n_units, simulations)
    flag_at, accept_at = found[..., 0], found[..., 1]
    flagged, accepted = ~np.isnan(flag_at), ~np.isnan(accept_at)
    flag_at = np.nan_to_num(flag_at, nan=0.0)
    missed = np.zeros(flag_at.shape, np.bool_)
    wrong = np.zeros(flag_at.shape, np.bool_)
    loads, least, taken, most = np.zeros(flag_at.shape), 0.0, np.zeros(flag_at.shape), 0.0
    for number, crowd in enumerate(CLASSES.values()):
        missed[:, number] = crowd.missed(flag_at[:, number]) > 1 - RECALL
        loads[:, number] = crowd.flagged(flag_at[:, number])
        least += float(crowd.flagged(crowd.flag_at(RECALL))[0])
        shown = accepted[:, number]
        wrong[shown, number] = crowd.precision(accept_at[shown, number]) < PRECISION
        taken[shown, number] = crowd.flagged(accept_at[shown, number])
        most += float(crowd.flagged(crowd.accept_at(PRECISION))[0])
    joint = float((~(missed | wrong).any(axis=1)).mean())
    load, acceptance = float(loads.sum(axis=1).mean()) / least, float(taken.sum(axis=1).mean()) / most
    say(f"{n_units} units: joint share {joint}, load {load}, accepted {acceptance}, as chosen: {equal}")
    of_shares: Mapping[str, Detail] = {
        "simulations": simulations, "recalls_reached": float((~missed.any(axis=1)).mean()),
        "precisions_reached": float((~wrong.any(axis=1)).mean()), "recalls_missed_by_class": by_class(missed),
        "precisions_missed_by_class": by_class(wrong), "all_recalls_shown": float(flagged.all(axis=1).mean()),
        "all_precisions_shown": float(accepted.all(axis=1).mean()), "recall_shown_by_class": by_class(flagged),
        "precision_shown_by_class": by_class(accepted)}
    each = {name: float(of_class) for name, of_class in zip(CLASSES, loads.mean(axis=0), strict=True)}
    of_loads: Mapping[str, Detail] = {
        "flagged_a_unit_by_class": each, "oracles_flagged_a_unit": least,
        "accepted_over_the_oracles": acceptance, "oracles_accepted_a_unit": most,
        "left_to_people_a_unit": float((loads - taken).sum(axis=1).mean()), "oracles_left_to_people_a_unit": least - most}
    return [
        Row(f"joint share of calibrations that reach all recalls and precisions, five classes, {n_units} units", joint,
            "share", None, None, None, equal, SHARE, Bound.OURS_AT_LEAST, of_shares),
        Row(f"review load over the oracle's, five classes, {n_units} units", load, "times", None, None, None, None, None,
            details=of_loads)]


def by_class(happened: npt.NDArray[np.bool_]) -> dict[str, float]:
    """The share of calibrations in which it did, by class."""
    return {name: float(share) for name, share in zip(CLASSES, happened.mean(axis=0), strict=True)}


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(description="The promise of both bands, of five classes jointly.")
    parser.add_argument("--simulations", type=int, default=SIMULATIONS)
    simulations = parser.parse_args().simulations
    show([row for n_units in UNITS for row in rows(n_units, simulations)])


if __name__ == "__main__":
    main()
