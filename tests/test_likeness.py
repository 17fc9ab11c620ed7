"""A run's images compared with its calibration's, from its parts: which of them, in which units, and when at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segsvc.documents import DriftDocument
from segsvc.likeness import Likeness
from segsvc.operating_point import Basis, OperatingPoint
from segsvc.quality.profile import MOST_IMAGES, Stored, profile_of
from segsvc.results import unit_rows
from segsvc.types import (
    Box,
    Candidate,
    CandidateKind,
    ExtractionCounts,
    ImageRef,
    ImageResult,
    ImageStatus,
    Runtime,
    Segmentation,
)
from segsvc.views import OpenRun
from tests.test_results import SPEC, failed, run_folder


def found(random: np.random.Generator, *, level: float = 0.0) -> tuple[Candidate, ...]:
    """The candidates of a generated image; `level` is how many more it has, and how much higher their scores are."""
    scores = np.clip(random.normal(0.6 + 0.1 * level, 0.1, random.poisson(max(0.0, 2 + level))), 0, 1)
    return tuple(Candidate(0, "bright", CandidateKind.REGION, Box(10 * at, 0, 10 * at + 5, 5), int(random.integers(9, 25)),
                           float(score), float(score) / 2, b"04") for at, score in enumerate(scores))


def image(number: int, candidates: tuple[Candidate, ...], *, group: str | None = None) -> ImageResult:
    ref = ImageRef(f"file:///in/{number:05d}.png", "1-2", 9, group)
    segmentation = Segmentation(40, 30, 1, candidates, ExtractionCounts(len(candidates)))
    return ImageResult(ref, ImageStatus.DONE if candidates else ImageStatus.EMPTY, segmentation, None, None, {})


def calibrated(unit: list[int], candidates: list[tuple[Candidate, ...]], **changed: object) -> OperatingPoint:
    profile = profile_of(np.array(unit), Stored.of(candidates), classes=["bright"], seed=0)
    point = OperatingPoint(basis=Basis.CALIBRATED, classes={}, model_digest=SPEC.model_digest, runtime=SPEC.runtime,
                           profile=profile)
    return point.model_copy(update=changed)


def drift(out: Path, point: OperatingPoint | None, images: list[ImageResult], *, shard_size: int = 64
          ) -> DriftDocument | None:
    """Publishes the images as a run's parts, and compares them."""
    folder = run_folder(out)
    folder.begin(SPEC)
    for number, start in enumerate(range(0, len(images), shard_size)):
        folder.publish(number, [unit_rows(each, model="bright", model_digest=SPEC.model_digest)
                                for each in images[start: start + shard_size]])
    likeness = Likeness(point, SPEC)
    for part, candidates in OpenRun(folder).parts(point):
        likeness.add(part, candidates)
    return likeness.drift()


@pytest.fixture
def point() -> OperatingPoint:
    """A calibration of 200 images, each a unit of its own."""
    random = np.random.default_rng(0)
    return calibrated(list(range(200)), [found(random) for _ in range(200)])


def test_like_images_are_nothing_against_the_promise_and_unlike_ones_put_it_in_doubt(
        tmp_path: Path, point: OperatingPoint) -> None:
    random = np.random.default_rng(1)
    like = drift(tmp_path / "like", point, [image(number, found(random)) for number in range(150)])
    assert like is not None
    assert (like.in_doubt, like.images, like.units) == (False, 150, 150)
    assert like.says.startswith("nothing seen against the promise")
    unlike = drift(tmp_path / "unlike", point, [image(number, found(random, level=1)) for number in range(150)])
    assert unlike is not None
    assert unlike.in_doubt
    assert unlike.statistic is not None and unlike.threshold is not None and unlike.p_value is not None
    assert unlike.statistic > unlike.threshold
    assert unlike.p_value <= 0.01
    assert unlike.says.startswith("the promise is in doubt: these images are unlike the calibration's (")
    assert "highest score: " in unlike.says and " here, " in unlike.says and " there" in unlike.says


@pytest.mark.parametrize("changed", [
    {"basis": Basis.MEASURED}, {"basis": Basis.BY_HAND}, {"runtime": Runtime.TORCH_CPU}, {"model_digest": "e" * 64},
    {"profile": None}], ids=lambda changed: next(iter(changed)))
def test_only_a_calibration_of_this_model_and_runtime_is_compared_with(
        tmp_path: Path, point: OperatingPoint, changed: dict[str, object]) -> None:
    images = [image(number, ()) for number in range(30)]
    assert drift(tmp_path / "out", point.model_copy(update=changed), images) is None
    assert drift(tmp_path / "other", None, images) is None


def test_images_that_could_not_be_read_do_not_count(tmp_path: Path, point: OperatingPoint) -> None:
    random = np.random.default_rng(2)
    read = [image(number, found(random)) for number in range(60)]
    among = [each for number, one in enumerate(read) for each in (one, failed(f"bad-{number}"))]
    assert drift(tmp_path / "among", point, among) == drift(tmp_path / "read", point, read)


def test_a_large_run_is_sampled_alike_however_its_shards_are_cut(tmp_path: Path, point: OperatingPoint) -> None:
    random = np.random.default_rng(3)
    images = [image(number, found(random)) for number in range(3 * MOST_IMAGES)]
    said = [drift(tmp_path / str(size), point, images, shard_size=size) for size in (64, 1000, 5000)]
    assert said[0] is not None
    assert said[0].images == MOST_IMAGES
    assert said[0] == said[1] == said[2]


def test_a_few_images_are_not_compared_and_it_is_said(tmp_path: Path, point: OperatingPoint) -> None:
    few = drift(tmp_path / "few", point, [image(number, ()) for number in range(19)])
    assert few is not None
    assert (few.in_doubt, few.statistic, few.threshold, few.p_value) == (False, None, None, None)
    assert few.says == "too few images here to compare: expected at least 20 of 5 units, got 19"
    none = drift(tmp_path / "none", point, [failed("a")])
    assert none is not None
    assert none.says.endswith("got 0")
    poor = calibrated(list(range(8)), [()] * 8)
    said = drift(tmp_path / "poor", poor, [image(number, ()) for number in range(30)])
    assert said is not None
    assert said.says.startswith("too few images at the calibration to compare")


# -- groups --------------------------------------------------------------------------------------------------------------


def grouped(seed: int, groups: int, each: int) -> tuple[list[int], list[tuple[Candidate, ...]]]:
    """Images of groups that are alike within and differ from each other."""
    random = np.random.default_rng(seed)
    levels = random.normal(0, 1.5, groups)
    return ([group for group in range(groups) for _ in range(each)],
            [found(random, level=float(levels[group])) for group in range(groups) for _ in range(each)])


def test_a_runs_groups_are_units_where_the_calibrations_were(tmp_path: Path) -> None:
    point = calibrated(*grouped(4, 30, 10))
    unit, candidates = grouped(5, 12, 25)
    said = drift(tmp_path / "out", point, [image(number, own, group=f"patient {group}")
                                           for number, (group, own) in enumerate(zip(unit, candidates, strict=True))])
    assert said is not None
    assert (said.units, said.images) == (12, 120)  # of each as many as the calibration had
    assert not said.in_doubt
    assert "in a row" not in said.says


def test_without_groups_images_in_a_row_stand_for_one_and_it_is_said(tmp_path: Path) -> None:
    point = calibrated(*grouped(4, 30, 10))
    _, candidates = grouped(6, 12, 10)
    said = drift(tmp_path / "out", point, [image(number, own) for number, own in enumerate(candidates)])
    assert said is not None
    assert (said.units, said.images, said.in_doubt) == (12, 120, False)
    assert said.says.endswith("as the run names no groups, 10 images in a row were taken for one")


def test_a_runs_groups_are_no_units_where_the_calibration_had_none(tmp_path: Path, point: OperatingPoint) -> None:
    random = np.random.default_rng(7)
    said = drift(tmp_path / "out", point, [image(number, found(random), group="all") for number in range(40)])
    assert said is not None
    assert (said.units, said.images) == (40, 40)


def test_an_image_that_a_manifest_names_twice_counts_once(tmp_path: Path, point: OperatingPoint) -> None:
    random = np.random.default_rng(8)
    images = [image(number, found(random)) for number in range(40)]
    said = drift(tmp_path / "twice", point, [each for each in images for _ in range(2)])
    assert said is not None
    assert said == drift(tmp_path / "once", point, images)
