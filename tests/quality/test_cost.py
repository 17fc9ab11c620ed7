"""What a recall costs: by the rows of proofs, jointly for all classes, and by the seconds that people took."""

from __future__ import annotations

import pytest

from segsvc.operating_point import Basis, ClassThresholds, OperatingPoint, latest_calibration
from segsvc.quality.cost import ASSUMED, Load, Pace, PaceBasis, Reading, cost, expected, says, time_of
from tests.calibrated import PACE, RECALLS, point, proof


def test_rows_are_the_recalls_that_all_classes_show_with_what_is_flagged_less_what_is_accepted() -> None:
    short = proof({0.8: (0.5, 90.0), 0.95: (0.2, 300.0)}, beyond={0.98: 30}, objects=100, accepts=False)
    found = cost(point(cell=proof(RECALLS, beyond={0.98: 15}), fibre=short), expected(2000), images=2000, pace=PACE,
                 reading=Reading())
    assert [row.recall for row in found.rows] == [0.8, 0.9, 0.95]
    assert [row.load.review for row in found.rows] == [2 * (50 + 90), 2 * (250 + 300), 2 * (500 + 300)]  # 0.9: by 0.95's row
    assert [row.load.accepted for row in found.rows] == [300] * 3
    assert [row.load.rejected for row in found.rows] == [2 * (4800 + 4910), 2 * (4600 + 4700), 2 * (4350 + 4700)]
    assert found.rows[1].recall_measured == pytest.approx((0.92 * 300 + 0.97 * 100) / 400)
    assert found.rows[1].point.classes["fibre"].flag_at == 0.2
    assert found.at(0.93) == found.rows[2]
    assert found.at(0.96) is None


def test_hours_are_of_all_readings_by_the_mean_and_an_audit_is_read_too() -> None:
    row = cost(point(cell=proof(RECALLS)), expected(1000), images=1000, pace=PACE,
               reading=Reading(readers=2, audit_share=0.01)).rows[-1]
    assert row.audit == pytest.approx(0.01 * (150 + 4350))
    assert row.hours == pytest.approx(2 * (500 + 45) * 1.8 / 3600)


def test_what_is_not_shown_takes_as_many_more_as_the_class_that_lacks_most() -> None:
    lacking = proof({0.8: (0.5, 90.0), 0.9: (0.3, 100.0)}, beyond={0.95: 12, 0.98: None})
    found = cost(point(cell=proof(RECALLS, beyond={0.98: 15}), fibre=lacking), expected(10), images=10, pace=PACE,
                 reading=Reading())
    # of 80 units 40 held objects: twice as many are to be labelled
    assert [(each.recall, each.more_units, each.more_images) for each in found.beyond] == [
        (0.95, 24, 24), (0.98, None, None)]


def test_calibrations_of_before_say_what_is_shown_and_nothing_of_what_is_not() -> None:
    old = point(cell=proof(RECALLS, stored=None))
    found = cost(old, expected(1000), images=1000, pace=ASSUMED, reading=Reading(audit_share=0.01))
    assert (found.beyond, found.rows[0].load.rejected) == ((), None)
    assert found.rows[0].audit == pytest.approx(0.01 * 150)
    assert says(found, 0.8) == "at recall 0.8 you will review 50 candidates of 1,000 images, 2 minutes"
    text = old.model_dump_json(exclude={"proofs": {"cell": {"beyond", "stored_per_1000_images"}}})
    assert OperatingPoint.model_validate_json(text) == old


def test_the_sentence_says_what_a_recall_costs_and_what_the_next_one_would_take() -> None:
    found = cost(point(cell=proof(RECALLS, beyond={0.98: 30})), expected(1000), images=1000, pace=PACE, reading=Reading())
    assert says(found, 0.95) == ("at recall 0.95 you will review 500 candidates of 1,000 images, 15 minutes; to promise "
                                 "0.98 label 60 images more")
    never = cost(point(cell=proof(RECALLS, beyond={0.98: None})), expected(1), images=1, pace=PACE, reading=Reading())
    assert says(never, 0.8) == ("at recall 0.8 you will review 0 candidates of 1 image, under a minute; no number of images "
                                "like these would show 0.98")
    assert says(never, 0.99) == "recall 0.99 is not shown"


def test_groups_are_labelled_whole_and_said_in_images_too() -> None:
    patients = point(cell=proof(RECALLS, beyond={0.98: 5}))
    assert patients.promise is not None
    grouped = patients.model_copy(update={"promise": patients.promise.model_copy(
        update={"unit": "group", "units": 50, "images": 1000})})
    found = cost(grouped, expected(1000), images=1000, pace=PACE, reading=Reading())
    assert says(found, 0.95).endswith("to promise 0.98 label 10 groups more (about 200 images)")


def test_candidates_that_are_there_are_counted_by_whoever_can() -> None:
    asked = []

    def load_of(at: OperatingPoint) -> Load:
        asked.append(at.classes["cell"].flag_at)
        return Load(7.0, 1.0, 3.0)

    found = cost(point(cell=proof(RECALLS)), load_of, images=9, pace=PACE, reading=Reading())
    assert asked == [0.6, 0.4, 0.3]
    assert {row.load for row in found.rows} == {Load(7.0, 1.0, 3.0)}


def test_only_a_calibration_has_a_curve_and_the_latest_of_several_counts() -> None:
    by_hand = OperatingPoint(basis=Basis.BY_HAND, classes={"*": ClassThresholds(flag_at=0.5)})
    with pytest.raises(ValueError, match="expected a calibration, got an operating point without a promise"):
        cost(by_hand, expected(1), images=1, pace=PACE, reading=Reading())
    one, two = point(cell=proof(RECALLS)), point(fibre=proof(RECALLS))
    assert latest_calibration([one, two, by_hand, None]) == two
    assert latest_calibration([by_hand, None]) is None


def test_times_are_in_words() -> None:
    assert [time_of(hours) for hours in (0.001, 1 / 60, 0.5, 1.25, 400)] == [
        "under a minute", "1 minute", "30 minutes", "1.2 hours", "400 hours"]
    assert Pace.of(PaceBasis.LEDGER, [1.0, 2.0, 6.0]) == Pace(PaceBasis.LEDGER, 3, 2.0, 3.0)
