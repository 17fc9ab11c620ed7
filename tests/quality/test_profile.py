"""What images look like by their stored candidates, and the profile that a calibration keeps of it."""

from __future__ import annotations

import numpy as np
import pytest

from segsvc.quality.profile import MOST_IMAGES, UNDEFINED, Profile, Stored, profile_of, traits_of
from segsvc.types import SCORE_ONE, Box, Candidate, CandidateKind


def candidate(score: float, area_px: int, *, name: str = "a", frame: int = 0) -> Candidate:
    return Candidate(frame, name, CandidateKind.REGION, Box(0, 0, area_px, 1), area_px, score, score / 2)


def stored(seed: int, images: int) -> Stored:
    random = np.random.default_rng(seed)
    counts = random.poisson(3, images)
    n = int(counts.sum())
    return Stored(counts, random.choice(["a", "b"], n), random.random(n), random.random(n), random.integers(1, 500, n))


def test_traits_are_counted_by_image_and_class_over_all_frames() -> None:
    images = [[candidate(0.8, 10), candidate(0.4, 30, name="b"), candidate(0.6, 20, frame=1), candidate(0.2, 90, frame=1)],
              [], [candidate(1.0, 7, name="b")]]
    names = [trait.words for trait in traits_of(("a", "b"))]
    found = Stored.of(images).traits(("a", "b"))
    assert found.shape == (3, len(names))
    scales = [trait.scale for trait in traits_of(("a", "b"))]
    rows = [{name: value if value == UNDEFINED else round(value / scale, 3)
             for name, value, scale in zip(names, row, scales, strict=True)} for row in found.tolist()]
    assert rows[0] == {
        "candidates an image": 4, "highest score": 0.8, "mean of the scores": 0.5, "mean score within candidates": 0.25,
        "median area in px": 20, "candidates of a an image": 3, "highest score of a": 0.8, "candidates of b an image": 1,
        "highest score of b": 0.4}
    assert list(rows[1].values()) == [0, 0, UNDEFINED, UNDEFINED, UNDEFINED, 0, 0, 0, 0]
    assert list(rows[2].values()) == [1, 1, 1, 0.5, 7, 0, 0, 1, 1]


def test_images_without_any_candidate_have_traits() -> None:
    assert Stored.of([[], []]).traits(()).tolist() == [[0, 0, UNDEFINED, UNDEFINED, UNDEFINED]] * 2


def test_a_profile_holds_the_traits_of_all_images_where_they_are_few() -> None:
    those = stored(0, 40)
    found = profile_of(np.arange(40), those, classes=["a", "b"], seed=3)
    assert (found.images, found.units, found.most_a_unit, found.by_image) == (40, 40, 1, True)
    assert (found.sample_traits() == those.traits(("a", "b"))).all()
    assert found == profile_of(np.arange(40), those, classes=["a", "b"], seed=3)


def test_many_images_are_sampled_by_the_seed() -> None:
    those = stored(1, 3000)
    found = [profile_of(np.arange(3000), those, classes=["a"], seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert found[0].images == 3000
    assert len(np.unique(found[0].sample_units())) == len(found[0].sample_units()) == MOST_IMAGES


def test_of_large_units_each_gives_a_few_images() -> None:
    unit = np.repeat(np.arange(100), 50)[np.random.default_rng(0).permutation(5000)]
    found = profile_of(unit, stored(2, 5000), classes=["a"], seed=0)
    assert (found.units, found.most_a_unit, found.images_a_unit, found.by_image) == (100, 10, 50, False)
    assert np.unique(found.sample_units(), return_counts=True)[1].tolist() == [10] * 100


def test_the_images_do_not_choose_which_classes_have_traits_of_their_own() -> None:
    classes = [f"class {number}" for number in range(30)]
    assert profile_of(np.arange(5), stored(0, 5), classes=classes, seed=0).classes == tuple(classes[:10])
    assert profile_of(np.arange(5), stored(0, 5), classes=["a"], seed=0).classes == ()  # those of all are its own


def test_a_profile_is_small() -> None:
    found = profile_of(np.arange(5000), stored(3, 5000), classes=["a"], seed=0)
    assert len(found.unit) + sum(map(len, found.traits)) < 30_000


@pytest.mark.parametrize(("changed", "said"), [
    ({"unit": "0 1 x"}, "whole numbers"), ({"unit": "0 1 " + "9" * 400}, "whole numbers"), ({"unit": ""}, "1 to 1000"),
    ({"unit": "0 1"}, "a number for each"), ({"traits": ("1 2 3",)}, "5 traits"), ({"units": 4}, "units"),
    ({"most_a_unit": 0}, "most_a_unit"), ({"classes": ("a",)}, "for 1, 7 traits"),
    ({"unit": "0 " * 1001, "traits": ("0 " * 1001,) * 5}, "1 to 1000"),
], ids=lambda value: None if isinstance(value, str) else next(iter(value)))
def test_a_damaged_profile_is_refused(changed: dict[str, object], said: str) -> None:
    sound: dict[str, object] = {"images": 3, "units": 3, "most_a_unit": 1, "classes": (), "unit": "0 1 2",
                                "traits": ("1 2 3",) * 5}
    Profile(**sound)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=said):
        Profile(**{**sound, **changed})  # type: ignore[arg-type]


def test_wrong_numbers_of_candidates_and_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 2 candidates"):
        Stored(np.array([2]), np.array(["a"]), np.ones(1), np.ones(1), np.ones(1, np.int64))
    with pytest.raises(ValueError, match="at least one image"):
        profile_of(np.array([], np.int64), Stored.of([]), classes=["a"], seed=0)


def test_scores_are_kept_as_exactly_as_they_are_stored() -> None:
    score = 65534 / SCORE_ONE
    assert Stored.of([[candidate(score, 1)]]).traits(())[0, 1] == 65534
