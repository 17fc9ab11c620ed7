"""Regions of score maps, against OpenCV's connected components and pycocotools' encoding of their crops."""

from __future__ import annotations

import itertools
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from segsvc.card import Extraction
from segsvc.imaging import regions
from segsvc.imaging.compiled import compiled
from segsvc.imaging.regions import RegionExtractor, extract_regions, in_order, lowest_score_above, lowest_score_from
from segsvc.types import SCORE_ONE, Box, Candidate, CandidateKind, ExtractionCounts, ScoreArray

EXTRACTION = Extraction(extent_min=0.5, floor=0.7, min_area_px=3)
EVERYTHING = Extraction(extent_min=0.5, floor=0.5, min_area_px=1)

Found = tuple[tuple[Candidate, ...], ExtractionCounts]


def reference(scores: ScoreArray, extraction: Extraction) -> Found:
    above = (scores / SCORE_ONE > extraction.extent_min).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8, ltype=cv2.CV_32S)
    found = []
    below_floor = below_area = 0
    for label, (x, y, w, h, area) in enumerate(stats.tolist()):
        if label == 0:
            continue
        mask = labels[y:y + h, x:x + w] == label
        values = scores[y:y + h, x:x + w][mask]
        if int(values.max()) / SCORE_ONE < extraction.floor:
            below_floor += 1
        elif area < extraction.min_area_px:
            below_area += 1
        else:
            touches = x == 0 or y == 0 or x + w == scores.shape[1] or y + h == scores.shape[0]
            found.append(Candidate(
                0, "thing", CandidateKind.REGION, Box(x, y, x + w, y + h), area, int(values.max()) / SCORE_ONE,
                int(values.sum(dtype=np.int64)) / area / SCORE_ONE,
                coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"], None, touches))
    return in_order(found), ExtractionCounts(len(found), below_floor, below_area)


def whole(scores: ScoreArray, extraction: Extraction = EXTRACTION) -> Found:
    return extract_regions(scores, extraction=extraction, class_name="thing")


def in_bands(scores: ScoreArray, rows: list[int], extraction: Extraction = EXTRACTION) -> Found:
    extractor = RegionExtractor(width_px=scores.shape[1], height_px=scores.shape[0], extraction=extraction,
                                class_name="thing", frame=0)
    found: list[Candidate] = []
    y = 0
    for n in [*rows, scores.shape[0]]:
        found += extractor.feed(scores[y:y + n])
        y += n
    found += extractor.finish()
    return in_order(found), extractor.counts


def random_scores(seed: int) -> ScoreArray:
    """Maps of many sizes: noise, blobs, and blobs with ragged edges."""
    rng = np.random.default_rng(seed)
    h, w = (int(side) for side in rng.integers(1, 150, 2))
    field = rng.standard_normal((h, w), np.float32)
    if seed % 3:
        field = np.atleast_2d(cv2.GaussianBlur(field, (0, 0), rng.uniform(0.5, 6))).reshape(h, w)
        field /= field.std() + 1e-6
    if seed % 3 == 2:
        field += 0.4 * rng.standard_normal((h, w), np.float32)
    return np.round(SCORE_ONE / (1 + np.exp(-field.astype(np.float64)))).astype(np.uint16)


def as_scores(mask: np.ndarray) -> ScoreArray:
    return np.where(mask, SCORE_ONE, 0).astype(np.uint16)


def spiral(side: int) -> np.ndarray:
    """One line of 1 px that winds from the border to the centre, with 1 px between its turns."""
    mask = np.zeros((side, side), bool)
    x = y = 0
    dx, dy = 1, 0
    length, leg = side - 1, 0
    mask[0, 0] = True
    while length > 0:
        for _ in range(length):
            x, y = x + dx, y + dy
            mask[y, x] = True
        dx, dy = -dy, dx
        if leg >= 2 and leg % 2 == 0:
            length -= 2
        leg += 1
    return mask


def comb(height: int, width: int) -> np.ndarray:
    """Teeth of 1 px that are joined in the last row only."""
    mask = np.zeros((height, width), bool)
    mask[:, ::2] = True
    mask[-1] = True
    return mask


@pytest.mark.parametrize("seed", range(60))
def test_regions_equal_those_of_opencv_and_pycocotools(seed: int) -> None:
    scores = random_scores(seed)
    assert whole(scores) == reference(scores, EXTRACTION)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_small_maps_of_any_shape_equal_the_reference_in_any_bands(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 9)), data.draw(st.sampled_from([1, 2, 5, 63, 64, 65, 130]))
    values = st.sampled_from([0, 32767, 32768, 45873, 45875, SCORE_ONE])
    scores = np.array(data.draw(st.lists(values, min_size=height * width, max_size=height * width)), np.uint16)
    scores = scores.reshape(height, width)
    expected = reference(scores, EXTRACTION)
    assert whole(scores) == expected
    assert in_bands(scores, data.draw(st.lists(st.integers(0, 3), max_size=4))) == expected


@pytest.mark.parametrize("sweep_runs", [0, 50, 1 << 16])
@pytest.mark.parametrize("seed", range(8))
def test_every_way_of_cutting_into_bands_gives_the_same_regions(
    seed: int, sweep_runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "SWEEP_RUNS", sweep_runs)
    rng = np.random.default_rng(seed)
    scores = random_scores(seed)
    expected = whole(scores)
    for rows in ([1] * len(scores), [7] * (len(scores) // 7), rng.integers(0, 9, len(scores) // 9).tolist()):
        assert in_bands(scores, rows) == expected


@pytest.mark.parametrize(("name", "mask"), [
    ("one px", np.ones((1, 1), bool)),
    ("no px above", np.zeros((70, 70), bool)),
    ("all foreground", np.ones((130, 200), bool)),
    ("one row", np.arange(200)[None] % 7 < 3),
    ("one column", np.arange(200)[:, None] % 7 < 3),
    ("checkerboard", np.indices((300, 300)).sum(axis=0) % 2 == 0),
    ("stripes down", np.indices((200, 300))[1] % 2 == 0),
    ("stripes across", np.indices((200, 300))[0] % 2 == 0),
    ("spiral", spiral(301)),
    ("comb", comb(200, 301)),
    ("comb upside down", comb(200, 301)[::-1]),
    ("dots", (np.indices((300, 300)) % 2 == 0).all(axis=0)),
    ("rings in rings", np.maximum(*np.abs(np.indices((201, 201)) - 100)) % 2 == 0),
    ("wider than a sum of 32 bits holds", np.ones((2, 70000), bool)),
])
def test_awkward_shapes_equal_the_reference_whole_and_row_by_row(
    name: str, mask: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = as_scores(mask)
    expected = reference(scores, EVERYTHING) if name != "dots" else whole(scores, EVERYTHING)
    assert whole(scores, EVERYTHING) == expected
    monkeypatch.setattr(regions, "SWEEP_RUNS", 0)
    assert in_bands(scores, [1] * (len(scores) - 1), EVERYTHING) == expected
    if name == "dots":
        assert expected[1] == ExtractionCounts(kept=150 * 150)
        assert {candidate.mask_rle for candidate in expected[0]} == {b"01"}


def test_white_noise_of_one_megapixel_is_one_region_and_specks_in_bounded_memory() -> None:
    scores = np.random.default_rng(5).integers(0, SCORE_ONE, (1024, 1024), np.uint16, endpoint=True)
    extractor = RegionExtractor(width_px=1024, height_px=1024, extraction=EVERYTHING, class_name="thing", frame=0)
    found: list[Candidate] = []
    for y in range(0, 1024, 64):
        found += extractor.feed(scores[y:y + 64])
    found += extractor.finish()
    assert sum(candidate.area_px for candidate in found) == int((scores > SCORE_ONE // 2).sum())
    assert (in_order(found), extractor.counts) == whole(scores, EVERYTHING)


def test_memory_is_that_of_open_regions_and_not_of_the_rows_fed() -> None:
    band = np.zeros((64, 4096), np.uint16)
    band[1:-1, ::4] = SCORE_ONE  # 1024 bars that end within the band
    extractor = RegionExtractor(width_px=4096, height_px=64 * 40, extraction=EVERYTHING, class_name="", frame=0)
    sizes = []
    found = 0
    for _ in range(40):
        found += len(extractor.feed(band))
        sizes.append(extractor.held_bytes)
    found += len(extractor.finish())
    assert found == extractor.counts.kept == 40 * 1024
    assert max(sizes) == sizes[3] < 16 * 2**20


def test_regions_that_ended_are_given_before_the_last_row() -> None:
    band = np.zeros((64, 4096), np.uint16)
    band[1:-1, ::4] = SCORE_ONE
    extractor = RegionExtractor(width_px=4096, height_px=640, extraction=EVERYTHING, class_name="", frame=0)
    assert sum(len(extractor.feed(band)) for _ in range(5)) > 0


def test_the_order_is_frame_class_box_and_mask() -> None:
    def candidate(frame: int, name: str, box: Box, rle: bytes | None, text: str | None = None) -> Candidate:
        return Candidate(frame, name, CandidateKind.REGION, box, 1, 1.0, 1.0, rle, text)

    ordered = [candidate(0, "a", Box(0, 5, 9, 9), b"2"), candidate(0, "a", Box(1, 0, 2, 2), b"1"),
               candidate(0, "a", Box(1, 0, 2, 2), b"3"), candidate(0, "b", Box(0, 0, 1, 1), None, "x"),
               candidate(0, "b", Box(0, 0, 1, 1), None, "y"), candidate(1, "a", Box(0, 0, 1, 1), b"1")]
    for shuffled in itertools.permutations(ordered):
        assert in_order(shuffled) == tuple(ordered)


def test_a_region_lies_strictly_above_extent_min_and_reaches_the_floor() -> None:
    extraction = Extraction(extent_min=0.2, floor=0.6, min_area_px=1)
    at_extent, at_floor = 13107, 39321  # 0.2 and 0.6 of 65535, exactly
    scores = np.array([[at_floor, at_extent, at_floor - 1, at_extent, at_floor + 1, at_extent + 1]], np.uint16)
    candidates, counts = whole(scores, extraction)
    assert [(c.box.x0, c.box.x1, c.score) for c in candidates] == [(0, 1, 0.6), (4, 6, (at_floor + 1) / SCORE_ONE)]
    assert counts == ExtractionCounts(kept=2, below_floor=1)


def test_a_region_that_fails_both_filters_counts_as_below_the_floor() -> None:
    scores = np.array([[40000, 0, 50000, 0, 50000, 50000, 50000]], np.uint16)
    assert whole(scores)[1] == ExtractionCounts(kept=1, below_floor=1, below_min_area=1)


@pytest.mark.parametrize("score", [0.0, 1e-9, 1 / 3, 0.1, 0.2, 0.5, 0.6, 0.7, 0.95, 12345 / 65535, 1 - 1e-12, 1.0])
def test_integer_thresholds_are_those_of_the_float_scores(score: float) -> None:
    as_floats = np.arange(SCORE_ONE + 1) / SCORE_ONE
    assert lowest_score_above(score) == int((as_floats <= score).sum())
    assert lowest_score_from(score) == int((as_floats < score).sum())
    assert abs(Fraction(lowest_score_from(score)) - Fraction(score) * SCORE_ONE) <= 1


def test_nothing_is_above_an_extent_min_of_one_and_zero_scores_are_above_nothing() -> None:
    assert whole(as_scores(np.ones((3, 3), bool)), Extraction(extent_min=1.0, floor=1.0)) == ((), ExtractionCounts())
    assert whole(np.zeros((3, 3), np.uint16), Extraction(extent_min=0.0, floor=0.0)) == ((), ExtractionCounts())


def test_scores_that_are_read_only_or_not_contiguous_give_the_same_regions() -> None:
    scores = random_scores(4)
    expected = whole(scores)
    frozen = scores.copy()
    frozen.flags.writeable = False
    assert whole(frozen) == whole(np.asfortranarray(scores)) == whole(np.repeat(scores, 2, axis=1)[:, ::2]) == expected


def test_wrong_scores_and_too_many_or_too_few_rows_are_refused_with_what_was_expected() -> None:
    extractor = RegionExtractor(width_px=4, height_px=3, extraction=EXTRACTION, class_name="", frame=0)
    with pytest.raises(ValueError, match=r"expected scores of uint16 \(rows, 4\), got float64 \(1, 4\)"):
        extractor.feed(np.zeros((1, 4)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected scores of uint16 \(rows, 4\), got uint16 \(1, 5\)"):
        extractor.feed(np.zeros((1, 5), np.uint16))
    extractor.feed(np.zeros((2, 4), np.uint16))
    with pytest.raises(ValueError, match="expected 3 rows in all, got 2"):
        extractor.finish()
    with pytest.raises(ValueError, match="expected 3 rows in all, got 4"):
        extractor.feed(np.zeros((2, 4), np.uint16))
    with pytest.raises(ValueError, match="at least 1 x 1 px, got 0 x 3 px"):
        RegionExtractor(width_px=0, height_px=3, extraction=EXTRACTION, class_name="", frame=0)
    with pytest.raises(ValueError, match=r"expected scores of uint16 \(h, w\)"):
        whole(np.zeros(4, np.uint16))


def test_a_kernel_whose_machine_code_cannot_be_kept_is_compiled_all_the_same() -> None:
    namespace: dict[str, object] = {}
    exec("def twice(x):\n    return 2 * x", namespace)  # noqa: S102 -- a function without a file to keep code beside
    assert compiled(namespace["twice"])(21) == 42  # type: ignore[arg-type]
