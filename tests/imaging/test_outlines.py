"""Polygons and encodings of whole images become the px that COCO's own tools give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from segsvc.imaging import masks
from segsvc.imaging.outlines import Mask, counts_mask, frame_mask, polygons_mask
from segsvc.types import Box


def in_frame(mask: Mask | None, width_px: int, height_px: int) -> bytes:
    """The encoding of a mask in its whole image, as pycocotools writes it."""
    if mask is None:
        return masks.encode(np.zeros((height_px, width_px), np.bool_))
    return masks.full_frame_rle(mask[1], mask[0], width_px=width_px, height_px=height_px)


def expected(rings: list[list[float]], width_px: int, height_px: int) -> bytes:
    """What pycocotools makes of polygons."""
    counts: bytes = coco.merge(coco.frPyObjects(rings, height_px, width_px))["counts"]
    return counts


def drawn(rings: list[list[float]], width_px: int, height_px: int) -> bytes:
    mask = polygons_mask([np.array(ring, np.float64).reshape(-1, 2) for ring in rings], width_px=width_px,
                         height_px=height_px)
    return in_frame(mask, width_px, height_px)


COORDINATES = st.one_of(st.floats(-40, 80), st.integers(-10, 60).map(float), st.integers(-50, 300).map(lambda n: n / 10))
RINGS = st.lists(st.lists(COORDINATES, min_size=6, max_size=16).map(lambda ring: ring[:len(ring) // 2 * 2]),
                 min_size=1, max_size=3)


@settings(max_examples=400, deadline=None)
@given(RINGS, st.integers(1, 50), st.integers(1, 50))
def test_polygons_cover_the_px_that_pycocotools_gives_to_the_same_bytes(
    rings: list[list[float]], width_px: int, height_px: int,
) -> None:
    assert drawn(rings, width_px, height_px) == expected(rings, width_px, height_px)


def test_round_outlines_as_people_draw_them_are_the_same_too() -> None:
    random = np.random.default_rng(5)
    for _ in range(200):
        angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(5, 60)))
        radii = random.uniform(5, 90, angles.size)
        x, y = random.uniform(-20, 340), random.uniform(-20, 260)
        ring = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1).round(2).ravel().tolist()
        assert drawn([ring], 320, 240) == expected([ring], 320, 240)


def test_the_box_is_tight() -> None:
    ring = np.array([[3, 4], [9, 4], [9, 7], [3, 7]], np.float64)
    assert polygons_mask([ring], width_px=20, height_px=20) == (Box(3, 4, 9, 7), masks.encode(np.ones((3, 6), np.bool_)))


@pytest.mark.parametrize("ring", [[[5, 5], [5, 5], [5, 5]], [[-9, -9], [-5, -9], [-5, -5]], [[3.5, 2], [3.6, 9], [3.5, 9]],
                                  [[50, 50], [60, 50], [60, 60]]])
def test_an_outline_that_covers_no_px_is_no_mask(ring: list[list[float]]) -> None:
    assert polygons_mask([np.array(ring, np.float64)], width_px=20, height_px=20) is None


@pytest.mark.parametrize("ring", [[[0, 0], [3e7, 0], [0, 9]], [[0, 0], [float("nan"), 0], [0, 9]],
                                  [[0, 0], [float("inf"), 0], [0, 9]], [[0, 0], [1e300, 1e300], [0, 9]]])
def test_an_outline_of_no_image_is_refused_before_it_is_walked(ring: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="outline of at most 20000000 px"):
        polygons_mask([np.array(ring, np.float64)], width_px=20, height_px=20)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False), st.floats(0, 1))
def test_an_encoding_of_the_image_comes_into_its_tight_box_and_back(
    width_px: int, height_px: int, random: object, share: float,
) -> None:
    drawn_px = np.array([random.random() < share for _ in range(width_px * height_px)])  # type: ignore[attr-defined]
    mask = drawn_px.reshape(height_px, width_px)
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    found = frame_mask(packed, width_px=width_px, height_px=height_px)
    assert in_frame(found, width_px, height_px) == packed
    down = mask.T.ravel()
    runs = [len(run) for run in np.split(down, np.flatnonzero(down[1:] != down[:-1]) + 1)]
    assert counts_mask([0, *runs] if down[0] else runs, width_px=width_px, height_px=height_px) == found
    if found is not None:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert found[0] == Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


@pytest.mark.parametrize("counts", [[], [3], [5, 5], [-1, 13], [12, 1], [10**30], [6, -3, 9]])
def test_run_lengths_of_another_size_are_a_value_error(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="sum 12"):
        counts_mask(counts, width_px=4, height_px=3)


def test_runs_of_no_px_between_others_change_nothing() -> None:
    assert counts_mask([2, 0, 1, 3, 0, 2, 4], width_px=4, height_px=3) == counts_mask([3, 5, 4], width_px=4, height_px=3)


@pytest.mark.parametrize("rle", [b"", b"~", b"5", b"1000", "0é".encode()])
def test_bytes_that_are_no_encoding_of_that_size_are_a_value_error(rle: bytes) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        frame_mask(rle, width_px=4, height_px=3)
