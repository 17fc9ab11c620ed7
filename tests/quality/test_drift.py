"""Two samples of images compared: like ones rarely give an alarm, unlike ones do, and units stay whole."""

from __future__ import annotations

import numpy as np
import pytest

from segsvc.quality.drift import LEVEL, Sample, compare
from segsvc.quality.profile import UNDEFINED, Floats, Ints

TRAITS = 5


def images(random: np.random.Generator, n: int, *, shift: float = 0.0, spread: float = 1.0,
           level: Floats | None = None) -> Ints:
    """(n, traits) of generated images: counts, two scores that depend on each other, one that does not, and areas."""
    made = random.normal(size=(n, TRAITS)) * spread + shift + (level[:, None] if level is not None else 0)
    made[:, 2] += made[:, 1]
    counts = np.floor(np.exp(made[:, 0] / 2)).astype(np.int64)
    rest = np.rint(5000 + 1000 * made[:, 1:]).astype(np.int64)
    found = np.concatenate([counts[:, None], rest], axis=1)
    found[counts == 0, 2:] = UNDEFINED
    return found


def single(traits: Ints) -> Sample:
    return Sample(np.arange(len(traits)), traits)


def alarms(draws: int, **here: float) -> int:
    random = np.random.default_rng(5)
    return sum(compare(single(images(random, 60)), single(images(random, 40, **here)), ()).in_doubt for _ in range(draws))


def test_like_images_give_no_more_alarms_than_the_level() -> None:
    assert alarms(150) <= 150 * LEVEL + 3 * (150 * LEVEL) ** 0.5


def test_images_that_differ_in_height_or_in_spread_are_noticed() -> None:
    assert alarms(20, shift=1.5) == 20
    assert alarms(20, spread=3.0) == 20


def test_the_traits_that_differ_are_named_with_their_means_the_largest_first() -> None:
    random = np.random.default_rng(0)
    there, here = images(random, 200), images(random, 100)
    here[:, 1] = 40_000 + np.arange(100)
    here[:, 0] += 1
    found = compare(single(there), single(here), ())
    assert found.in_doubt
    assert found.statistic > found.threshold
    assert found.p_value == 1 / 1000
    assert [each.trait.words for each in found.differences] == ["highest score", "candidates an image"]
    assert str(found.differences[0]) == f"highest score: 0.611 here, {there[:, 1].mean() / 65535:.3g} there"
    assert found.differences[1].here == here[:, 0].mean()


def test_the_statistic_is_beyond_the_threshold_where_there_is_an_alarm_and_only_there() -> None:
    random = np.random.default_rng(1)
    for shift in np.linspace(0, 1, 20):
        found = compare(single(images(random, 50)), single(images(random, 50, shift=float(shift))), ())
        assert found.in_doubt == (found.statistic > found.threshold) == bool(found.differences)


def test_the_same_samples_give_the_same_whatever_the_order_of_images_and_numbers_of_units() -> None:
    random = np.random.default_rng(2)
    there = Sample(np.repeat(np.arange(20), 4), images(random, 80))
    here = Sample(np.repeat(np.arange(10), 4), images(random, 40, shift=0.3))
    order = random.permutation(80)
    found = compare(there, here, ())
    assert found == compare(there, here, ())
    within = np.concatenate([4 * unit + random.permutation(4) for unit in range(20)])
    assert found == compare(Sample(there.unit[within] * 7 + 3, there.traits[within]), here, ())
    assert compare(Sample(there.unit[order], there.traits[order]), here, ()) == found


def test_images_of_a_unit_that_are_alike_are_dealt_together() -> None:
    """With strong effects of units, images that are dealt one by one give an alarm nearly always, whole units do not."""
    random = np.random.default_rng(3)
    whole = one_by_one = 0
    draws = 30
    for _ in range(draws):
        there, here = (Sample(np.repeat(np.arange(units), 10), images(random, units * 10, level=np.repeat(
            random.normal(size=units) * 2, 10))) for units in (30, 20))
        whole += compare(there, here, ()).in_doubt
        one_by_one += compare(single(there.traits), single(here.traits), ()).in_doubt
    assert whole <= 3
    assert one_by_one > draws / 2


def test_traits_that_never_vary_or_are_never_defined_say_nothing() -> None:
    random = np.random.default_rng(4)
    there, here = images(random, 40), images(random, 30)
    for side in (there, here):
        side[:, 3], side[:, 4] = 7, UNDEFINED
    assert not compare(single(there), single(here), ()).in_doubt
    nothing = np.tile([0, 0, UNDEFINED, UNDEFINED, UNDEFINED], (30, 1))
    found = compare(single(nothing), single(nothing), ())
    assert (found.statistic, found.p_value, found.in_doubt) == (0.0, 1.0, False)


def test_a_run_in_which_nothing_is_found_is_noticed() -> None:
    random = np.random.default_rng(6)
    there = images(random, 60, shift=1.0)
    nothing = np.tile([0, 0, UNDEFINED, UNDEFINED, UNDEFINED], (30, 1))
    found = compare(single(there), single(nothing), ())
    assert found.in_doubt
    assert "0 here" in str(found.differences[0])


def test_samples_say_whether_they_are_enough() -> None:
    traits = images(np.random.default_rng(0), 20)
    assert single(traits).is_enough
    assert not single(traits[:19]).is_enough
    assert not Sample(np.arange(20) % 4, traits).is_enough


def test_samples_without_images_or_of_other_traits_are_refused() -> None:
    traits = images(np.random.default_rng(0), 20)
    with pytest.raises(ValueError, match="5 traits on both sides"):
        compare(single(traits), single(traits[:0]), ())
    with pytest.raises(ValueError, match="7 traits on both sides"):
        compare(single(traits), single(traits), ("a",))
