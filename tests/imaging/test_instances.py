"""Small masks are pasted as torchvision pastes them, written as pycocotools writes them, and joined across tiles."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pycocotools import mask as coco
from torchvision.models.detection.roi_heads import paste_masks_in_image

from segsvc.card import Extraction
from segsvc.imaging.instances import Detections, InstanceCollector
from segsvc.imaging.masks import decode, full_frame_rle
from segsvc.imaging.tiling import TilePlan, plan_tiles
from segsvc.types import SCORE_ONE, Box, Candidate, CandidateKind, ExtractionCounts

ALL = Extraction(extent_min=0, floor=0, min_area_px=1)
FULL = np.ones((28, 28), np.float32)


def detections(*found: tuple[float, float, float, float, float], label: int = 0,
               masks: npt.NDArray[np.float32] | None = None) -> Detections:
    """Boxes x0, y0, x1, y1 with their scores, of one class and with full masks unless others are given."""
    values = np.array(found, np.float32).reshape(-1, 5)
    return Detections(values[:, :4], np.round(values[:, 4] * SCORE_ONE).astype(np.uint16), np.full(len(values), label),
                      np.repeat(FULL[None], len(values), axis=0) if masks is None else masks)


def collected(plan: TilePlan, tiles: dict[tuple[int, int], Detections], *,
              extraction: Extraction = ALL) -> tuple[tuple[Candidate, ...], ExtractionCounts]:
    """What comes of the detections of those tiles (row, column)."""
    collector = InstanceCollector(plan, extraction=extraction, mask_min=0.5, class_names=("a", "b"), frame=0)
    for (row, column), found in tiles.items():
        collector.add(found, row=row, column=column)
    return collector.finish()


def one_tile(width_px: int, height_px: int, *, stride_px: int = 1) -> TilePlan:
    return plan_tiles(width_px, height_px, tile_px=1024, overlap_px=64, stride_px=stride_px)


def two_tiles() -> TilePlan:
    """160 x 96 px as tiles of 96 px at 0 and 64: they share columns 64 to 96, the cores meet at 80."""
    plan = plan_tiles(160, 96, tile_px=96, overlap_px=32, stride_px=32)
    assert (plan.rows, plan.x.starts_px) == (1, (0, 64))
    return plan


# -- pasting -----------------------------------------------------------------------------------------------------------


def random_detections(seed: int, *, n: int, width_px: int, height_px: int) -> Detections:
    """Boxes of all sizes, cut to the image as torchvision's are, with soft, ragged masks."""
    draw = np.random.default_rng(seed)
    middles = draw.uniform((0, 0), (width_px, height_px), (n, 2))
    halves = np.exp(draw.uniform(np.log(0.3), np.log(width_px / 2), (n, 2)))
    boxes = np.concatenate((middles - halves, middles + halves), axis=1).astype(np.float32)
    boxes = boxes.clip(0, np.array((width_px, height_px) * 2, np.float32))
    coarse = torch.from_numpy(draw.uniform(0, 1, (n, 1, 7, 7)).astype(np.float32))
    masks = torch.nn.functional.interpolate(coarse, size=(28, 28), mode="bicubic").clamp(0, 1)[:, 0].numpy()
    return Detections(boxes, np.full(n, SCORE_ONE, np.uint16), np.zeros(n, np.int64), masks)


@pytest.mark.parametrize(("width_px", "height_px"), [(200, 150), (37, 300)])
def test_masks_are_those_of_torchvision_and_pycocotools_to_the_byte(width_px: int, height_px: int) -> None:
    found = random_detections(width_px, n=400, width_px=width_px, height_px=height_px)
    pasted = paste_masks_in_image(torch.from_numpy(found.masks)[:, None], torch.from_numpy(found.boxes),
                                  (height_px, width_px))[:, 0].numpy()
    wanted = sorted(bytes(coco.encode(np.asfortranarray(mask.view(np.uint8)))["counts"])
                    for mask in pasted >= 0.5 if mask.any())
    candidates, counts = collected(one_tile(width_px, height_px), {(0, 0): found})
    got = sorted(full_frame_rle(each.mask_rle or b"", each.box, width_px=width_px, height_px=height_px)
                 for each in candidates)
    assert len(wanted) > 300
    assert got == wanted
    assert counts.kept == len(wanted)


def test_a_candidate_has_the_tight_box_of_its_mask_its_area_and_the_mean_of_its_probabilities() -> None:
    found = random_detections(5, n=60, width_px=120, height_px=90)
    pasted = paste_masks_in_image(torch.from_numpy(found.masks)[:, None], torch.from_numpy(found.boxes),
                                  (90, 120))[:, 0].numpy()
    of_box = {}
    for probabilities in pasted:
        mask = probabilities >= 0.5
        if mask.any():
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            box = Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
            of_box[box, int(mask.sum())] = float(probabilities[mask].mean())
    candidates, _ = collected(one_tile(120, 90), {(0, 0): found})
    assert {(each.box, each.area_px) for each in candidates} == set(of_box)
    for each in candidates:
        assert each.kind is CandidateKind.INSTANCE
        assert each.mean_score == pytest.approx(of_box[each.box, each.area_px], abs=1e-5)
        assert decode(each.mask_rle or b"", height_px=each.box.height_px, width_px=each.box.width_px).sum() == each.area_px
        at_edge = each.box.x0 == 0 or each.box.y0 == 0 or each.box.x1 == 120 or each.box.y1 == 90
        assert each.touches_edge == at_edge
    assert {each.touches_edge for each in candidates} == {True, False}


def test_the_score_is_the_detections_own_and_the_threshold_of_px_is_met_from_above() -> None:
    masks = np.full((2, 28, 28), 0.5, np.float32)
    masks[1] = np.nextafter(np.float32(0.5), np.float32(0))
    found = detections((10, 10, 38, 38, 0.8), (50, 10, 78, 38, 0.9), masks=masks)
    [candidate], counts = collected(one_tile(100, 60), {(0, 0): found})
    assert candidate.score == round(0.8 * SCORE_ONE) / SCORE_ONE
    assert candidate.box.x0 < 38
    assert candidate.mean_score == pytest.approx(0.5, abs=1e-4)
    assert counts == ExtractionCounts(kept=1, below_min_area=1)


def test_detections_below_the_floor_and_masks_below_the_area_are_taken_away_and_counted() -> None:
    found = detections((10, 10, 30, 30, 0.9), (40, 10, 60, 30, 0.49), (10, 40, 14, 44, 0.9), (40, 40, 44, 44, 0.1))
    extraction = Extraction(extent_min=0.5, floor=0.5, min_area_px=100)
    candidates, counts = collected(one_tile(100, 60), {(0, 0): found}, extraction=extraction)
    assert [each.box.x0 for each in candidates] == [10]
    assert counts == ExtractionCounts(kept=1, below_floor=2, below_min_area=1)


def test_what_lies_in_the_reflection_beyond_a_small_image_is_cut_off_and_not_counted() -> None:
    plan = one_tile(50, 40, stride_px=32)  # a tile of 64 x 64 px, the image 7 px from its left and 12 from its top
    assert (plan.x.pad_before_px, plan.y.pad_before_px) == (7, 12)
    found = detections((0, 12, 27, 32, 0.9), (57.5, 12, 63, 30, 0.9), (0, 0, 6, 8, 0.2))
    candidates, counts = collected(plan, {(0, 0): found}, extraction=Extraction(extent_min=0.5, floor=0.5))
    assert [each.box for each in candidates] == [Box(0, 0, 20, 20)]
    assert candidates[0].touches_edge
    assert counts == ExtractionCounts(kept=1)


def test_no_detections_give_no_candidates() -> None:
    assert collected(one_tile(30, 20), {(0, 0): detections()}) == ((), ExtractionCounts())


def test_detections_whose_arrays_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected boxes \(n, 4\), scores \(n,\)"):
        Detections(np.zeros((2, 4), np.float32), np.zeros(1, np.uint16), np.zeros(2, np.int64),
                   np.zeros((2, 28, 28), np.float32))


# -- across tiles ------------------------------------------------------------------------------------------------------


def test_an_object_that_two_tiles_see_is_stored_once_with_the_higher_score() -> None:
    left = detections((60, 10, 84, 34, 0.7), (20, 50, 40, 70, 0.6))
    right = detections((61 - 64, 10, 84 - 64, 34, 0.2), (70 - 64, 50, 90 - 64, 70, 0.9))
    right = detections((1, 10, 20, 34, 0.8), (86 - 64, 50, 110 - 64, 70, 0.9))  # the first is cut by the tile's edge
    candidates, counts = collected(two_tiles(), {(0, 0): left, (0, 1): right})
    assert [(each.box.x0, each.box.x1) for each in candidates] == [(20, 40), (60, 84), (86, 110)]
    assert counts.kept == 3
    near = {(0, 0): detections((66, 10, 94, 34, 0.7)), (0, 1): detections((2, 10, 30, 34, 0.8))}  # both whole, at 80
    [candidate], _ = collected(two_tiles(), near)
    assert candidate.score == round(0.8 * SCORE_ONE) / SCORE_ONE


def test_an_object_at_the_seam_is_not_lost_where_each_tile_puts_its_centre_on_the_other_side() -> None:
    left = detections((69, 10, 93, 34, 0.7))  # centre 81, of the right tile's core
    right = detections((67 - 64, 10, 91 - 64, 34, 0.6))  # centre 79, of the left one's
    [candidate], counts = collected(two_tiles(), {(0, 0): left, (0, 1): right})
    assert (candidate.box.x0, counts) == (69, ExtractionCounts(kept=1))


def test_a_tile_is_not_heard_of_what_the_edge_cuts_or_of_what_lies_well_in_its_neighbours_core() -> None:
    left = detections((84, 10, 100, 34, 0.9), (82, 50, 92, 70, 0.9))  # cut at 96; whole, centre 87
    candidates, counts = collected(two_tiles(), {(0, 0): left})
    assert candidates == ()
    assert counts == ExtractionCounts()


def test_neighbours_of_iou_below_a_half_and_objects_of_other_classes_stay_two() -> None:
    left, right = detections((64, 10, 84, 34, 0.7)), detections((74 - 64, 10, 94 - 64, 34, 0.8))
    candidates, _ = collected(two_tiles(), {(0, 0): left, (0, 1): right})
    assert len(candidates) == 2
    same = {(0, 0): detections((68, 10, 92, 34, 0.7)), (0, 1): detections((4, 10, 28, 34, 0.7), label=1)}
    candidates, _ = collected(two_tiles(), same)
    assert [each.class_name for each in candidates] == ["a", "b"]


def test_two_objects_of_one_tile_stay_two_however_much_they_overlap() -> None:
    left = detections((60, 10, 80, 34, 0.7), (61, 10, 81, 34, 0.8))
    assert len(collected(two_tiles(), {(0, 0): left})[0]) == 2


def test_of_equal_scores_the_box_that_comes_first_stays() -> None:
    tiles = {(0, 0): detections((68, 10, 93, 34, 0.7)), (0, 1): detections((3, 10, 28, 34, 0.7))}
    [candidate], _ = collected(two_tiles(), tiles)
    assert candidate.box.x0 == 67


def test_what_is_counted_as_taken_away_is_counted_by_one_tile_alone() -> None:
    seen_twice = {(0, 0): detections((68, 10, 84, 34, 0.3), (68, 50, 70, 52, 0.9)),
                  (0, 1): detections((4, 10, 20, 34, 0.3), (4, 50, 6, 52, 0.9))}
    extraction = Extraction(extent_min=0.5, floor=0.5, min_area_px=50)
    assert collected(two_tiles(), seen_twice, extraction=extraction) == (
        (), ExtractionCounts(below_floor=1, below_min_area=1))


def test_the_order_in_which_tiles_come_changes_nothing() -> None:
    plan = plan_tiles(160, 160, tile_px=96, overlap_px=32, stride_px=32)
    found = {}
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        values = random_detections(7, n=40, width_px=160, height_px=160)
        jitter = np.random.default_rng(10 * row + column)
        boxes = (values.boxes - np.array((64 * column, 64 * row) * 2) + jitter.normal(0, 0.7, (40, 4))).clip(0, 96)
        found[row, column] = Detections(boxes.astype(np.float32), jitter.integers(30000, SCORE_ONE, 40).astype(np.uint16),
                                        values.labels, values.masks)
    outcomes = {collected(plan, {place: found[place] for place in order}) for order in permutations(found)}
    assert len(outcomes) == 1
    [(candidates, counts)] = outcomes
    assert 20 < len(candidates) == counts.kept


def test_objects_on_a_grid_over_many_tiles_are_each_found_once() -> None:
    plan = plan_tiles(700, 500, tile_px=128, overlap_px=40, stride_px=32)
    draw = np.random.default_rng(3)
    true = [(x, y, x + 22, y + 20) for x in range(2, 670, 26) for y in range(3, 470, 25)]
    tiles = {}
    for row in range(plan.rows):
        for column in range(plan.columns):
            (left, right), (top, bottom) = plan.x.covered(column), plan.y.covered(row)
            seen = []
            for x0, y0, x1, y1 in true:
                cut = np.array((max(x0, left) - left, max(y0, top) - top, min(x1, right) - left, min(y1, bottom) - top))
                if cut[2] - cut[0] > 4 and cut[3] - cut[1] > 4:
                    seen.append((*np.clip(cut + draw.normal(0, 0.6, 4), 0, 128), draw.uniform(0.3, 1)))
            tiles[row, column] = detections(*seen)
    candidates, counts = collected(plan, tiles)
    assert plan.rows * plan.columns > 30
    assert len(candidates) == counts.kept == len(true)
