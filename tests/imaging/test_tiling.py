"""Tiles: every px covered, weights that sum to one, and a merge that gives back what was cut."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsvc.imaging.tiling import (
    WEIGHT_ONE,
    AxisPlan,
    BandMerger,
    TilePlan,
    cut_tile,
    plan_axis,
    plan_tiles,
    reflected,
)
from segsvc.types import SCORE_ONE, Box, ScoreArray

CHOICES = [(32, 0, 32), (32, 16, 32), (64, 16, 32), (64, 32, 16), (96, 48, 32), (128, 7, 1), (512, 64, 32), (40, 20, 8),
           (64, 31, 64)]


def summed_weights(axis: AxisPlan) -> list[int]:
    total = np.zeros(axis.size_px, np.int64)
    for index in range(len(axis.starts_px)):
        first, last = axis.covered(index)
        total[first:last] += axis.weights[index, axis.pad_before_px: axis.pad_before_px + last - first]
    return total.tolist()


def random_scores(seed: int, classes: int, height_px: int, width_px: int) -> ScoreArray:
    return np.random.default_rng(seed).integers(0, SCORE_ONE + 1, (classes, height_px, width_px)).astype(np.uint16)


def merged(scores: ScoreArray, plan: TilePlan) -> list[ScoreArray]:
    """The bands that come of the tiles of a score map."""
    merger = BandMerger(plan, classes=scores.shape[0])
    pixels = np.moveaxis(scores, 0, 2)

    def tiles() -> Iterator[ScoreArray]:
        for row in range(plan.rows):
            box = plan.band(row)
            for column in range(plan.columns):
                tile = cut_tile(pixels[box.y0: box.y1], plan, row=row, column=column)
                yield np.moveaxis(tile, 2, 0).astype(np.uint16)

    given_tiles = tiles()
    return [merger.row(given_tiles, row) for row in range(plan.rows)]


@pytest.mark.parametrize(("tile_px", "overlap_px", "stride_px"), CHOICES)
@pytest.mark.parametrize("flexible", [True, False])
def test_every_px_is_covered_by_weights_that_sum_to_exactly_one(tile_px: int, overlap_px: int, stride_px: int,
                                                                flexible: bool) -> None:
    for size_px in [*range(1, 4 * tile_px + 2), 1000, 4097]:
        axis = plan_axis(size_px, tile_px=tile_px, overlap_px=overlap_px, stride_px=stride_px, flexible=flexible)
        assert summed_weights(axis) == [WEIGHT_ONE] * size_px, size_px


@settings(max_examples=300, deadline=None)
@given(size_px=st.integers(1, 3000), strides=st.integers(1, 8), stride_px=st.integers(1, 64), share=st.floats(0, 0.5),
       flexible=st.booleans())
def test_any_tile_overlap_and_stride_that_a_card_allows_gives_a_valid_plan(
        size_px: int, strides: int, stride_px: int, share: float, flexible: bool) -> None:
    tile_px = strides * stride_px
    overlap_px = int(share * tile_px)
    axis = plan_axis(size_px, tile_px=tile_px, overlap_px=overlap_px, stride_px=stride_px, flexible=flexible)
    assert summed_weights(axis) == [WEIGHT_ONE] * size_px
    assert axis.tile_px % stride_px == 0
    assert axis.tile_px <= tile_px
    assert flexible or axis.tile_px == tile_px
    for index in range(len(axis.starts_px) - 1):
        assert axis.covered(index)[1] - axis.covered(index + 1)[0] >= overlap_px
    assert (np.count_nonzero(axis.weights, axis=1) > 0).all()


def test_no_px_is_shared_by_three_tiles_so_that_one_row_of_tiles_completes_the_one_before() -> None:
    for size_px in range(1, 700):
        axis = plan_axis(size_px, tile_px=64, overlap_px=32, stride_px=32)
        sharing = np.zeros(size_px, np.int64)
        for index in range(len(axis.starts_px)):
            first, last = axis.covered(index)
            sharing[first:last] += axis.weights[index, axis.pad_before_px: axis.pad_before_px + last - first] > 0
        assert sharing.max() <= 2
        assert sharing.min() >= 1


def test_neighbours_hand_over_along_a_ramp_over_their_whole_overlap() -> None:
    axis = plan_axis(448 + 512, tile_px=512, overlap_px=64, stride_px=32)
    assert axis.starts_px == (0, 448)
    shared = axis.weights[1, :64].astype(int)
    assert shared[0] <= 4
    assert shared[-1] >= WEIGHT_ONE - 4
    assert set(np.diff(shared)) == {4}
    assert (axis.weights[0, 448:].astype(int) + shared == WEIGHT_ONE).all()


def test_tiles_are_as_few_and_as_small_as_the_image_lets_them_be() -> None:
    assert plan_axis(100, tile_px=512, overlap_px=64, stride_px=32).tile_px == 128
    assert plan_axis(512, tile_px=512, overlap_px=64, stride_px=32).starts_px == (0,)
    two = plan_axis(513, tile_px=512, overlap_px=64, stride_px=32)
    assert (len(two.starts_px), two.tile_px) == (2, 320)
    fixed = plan_axis(513, tile_px=512, overlap_px=64, stride_px=32, flexible=False)
    assert (fixed.starts_px, fixed.tile_px) == ((0, 1), 512)


def test_an_axis_without_px_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 px, got 0"):
        plan_axis(0, tile_px=32, overlap_px=0, stride_px=32)


@pytest.mark.parametrize("flexible", [True, False])
@pytest.mark.parametrize(("width_px", "height_px"), [
    (1, 1), (1, 300), (300, 1), (2, 3), (31, 33), (64, 64), (65, 64), (64, 65), (100, 500), (500, 100), (333, 257)])
def test_tiles_cut_from_a_score_map_merge_to_that_map_band_by_band(width_px: int, height_px: int,
                                                                   flexible: bool) -> None:
    scores = random_scores(1, 2, height_px, width_px)
    for tile_px, overlap_px, stride_px in CHOICES:
        plan = plan_tiles(width_px, height_px, tile_px=tile_px, overlap_px=overlap_px, stride_px=stride_px,
                          flexible=flexible)
        bands = merged(scores, plan)
        assert len(bands) == plan.rows
        assert all(band.dtype == np.uint16 and band.shape[2] == width_px for band in bands)
        assert np.array_equal(np.concatenate(bands, axis=1), scores)


@settings(max_examples=60, deadline=None)
@given(width_px=st.integers(1, 200), height_px=st.integers(1, 200), strides=st.integers(1, 4),
       stride_px=st.integers(1, 32), share=st.floats(0, 0.5), flexible=st.booleans(), seed=st.integers(0, 9))
def test_the_merge_is_exact_for_any_size_and_card(width_px: int, height_px: int, strides: int, stride_px: int,
                                                  share: float, flexible: bool, seed: int) -> None:
    tile_px = max(16, strides * stride_px)
    tile_px += -tile_px % stride_px
    scores = random_scores(seed, 1, height_px, width_px)
    plan = plan_tiles(width_px, height_px, tile_px=tile_px, overlap_px=int(share * tile_px), stride_px=stride_px,
                      flexible=flexible)
    assert np.array_equal(np.concatenate(merged(scores, plan), axis=1), scores)


def test_the_highest_score_survives_the_merge_of_integers() -> None:
    plan = plan_tiles(150, 150, tile_px=64, overlap_px=32, stride_px=32)
    scores = np.full((1, 150, 150), SCORE_ONE, np.uint16)
    assert np.array_equal(np.concatenate(merged(scores, plan), axis=1), scores)


def test_where_tiles_differ_the_score_goes_over_from_one_to_the_other_within_their_range() -> None:
    plan = plan_tiles(112, 48, tile_px=64, overlap_px=16, stride_px=32)
    assert plan.columns == 2
    left, right = np.full((1, 64, 64), 10_000, np.uint16), np.full((1, 64, 64), 50_000, np.uint16)
    band = BandMerger(plan, classes=1).row(iter([left, right]), 0)[0].astype(int)
    assert (band[:, :48] == 10_000).all()
    assert (band[:, 64:] == 50_000).all()
    assert (np.diff(band[0, 47:65]) > 0).all()
    assert np.diff(band[0]).max() <= 40_000 / 16 + 1


def test_the_result_does_not_depend_on_the_order_in_which_tiles_are_added() -> None:
    plan = plan_tiles(230, 170, tile_px=64, overlap_px=24, stride_px=8)
    rng = np.random.default_rng(3)
    tiles = {(row, column): rng.integers(0, SCORE_ONE + 1, (1, plan.y.tile_px, plan.x.tile_px)).astype(np.uint16)
             for row in range(plan.rows) for column in range(plan.columns)}
    exact = np.zeros((plan.y.size_px, plan.x.size_px), np.uint64)
    for row, column in sorted(tiles, reverse=True):  # the other way round, in whole numbers, without bands
        (y0, y1), (x0, x1) = plan.y.covered(row), plan.x.covered(column)
        weights = plan.y.weights[row].astype(np.uint64)[:, None] * plan.x.weights[column].astype(np.uint64)
        exact[y0:y1, x0:x1] += (tiles[row, column][0] * weights)[: y1 - y0, : x1 - x0]
    merger = BandMerger(plan, classes=1)
    bands = [merger.row(iter([tiles[row, column] for column in range(plan.columns)]), row) for row in range(plan.rows)]
    assert np.array_equal(np.concatenate(bands, axis=1)[0], ((exact + (1 << 15)) >> np.uint64(16)).astype(np.uint16))


def test_what_is_carried_from_band_to_band_is_the_overlap_and_no_more() -> None:
    plan = plan_tiles(64, 64 * 40, tile_px=64, overlap_px=16, stride_px=32)
    bands = merged(random_scores(0, 1, 64 * 40, 64), plan)
    assert max(band.shape[1] for band in bands) <= 64
    assert sum(band.shape[1] for band in bands) == 64 * 40


@pytest.mark.parametrize(("size_px", "before", "after"), [(1, 4, 4), (2, 3, 3), (5, 4, 4), (5, 13, 22), (30, 1, 1)])
def test_beyond_the_border_px_are_reflected_as_numpy_does(size_px: int, before: int, after: int) -> None:
    line = np.arange(10, 10 + size_px)
    wanted = np.pad(line, (before, after), mode="reflect" if size_px > 1 else "edge")
    assert np.array_equal(line[reflected(size_px, -before, size_px + after)], wanted)


@pytest.mark.parametrize(("width_px", "height_px"), [(1, 1), (1, 40), (3, 2), (33, 40), (64, 20)])
def test_an_image_smaller_than_a_tile_stands_in_the_middle_of_its_reflections(width_px: int, height_px: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3)).astype(np.uint8)
    plan = plan_tiles(width_px, height_px, tile_px=64, overlap_px=16, stride_px=32, flexible=False)
    tile = cut_tile(image, plan, row=0, column=0)
    top, left = plan.y.pad_before_px, plan.x.pad_before_px
    assert tile.shape == (64, 64, 3)
    assert (top, left) == ((64 - height_px) // 2, (64 - width_px) // 2)
    assert np.array_equal(tile[top: top + height_px, left: left + width_px], image)
    rows = reflected(height_px, -top, 64 - top)
    columns = reflected(width_px, -left, 64 - left)
    assert np.array_equal(tile, image[rows][:, columns])


def test_a_band_is_the_full_width_of_what_its_row_of_tiles_covers() -> None:
    plan = plan_tiles(100, 150, tile_px=64, overlap_px=16, stride_px=32)
    assert plan.band(0) == Box(0, 0, 100, 64)
    assert plan.band(plan.rows - 1) == Box(0, 86, 100, 150)
