"""Run-length encodings, compared to the byte with pycocotools; composing, framing and outlines, with each other."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from segsvc.imaging import masks
from segsvc.imaging.masks import BoolArray, Polygon
from segsvc.types import Box


def random_mask(seed: int, longest_px: int = 40) -> BoolArray:
    rng = np.random.default_rng(seed)
    h, w = rng.integers(1, longest_px, 2)
    field = rng.random((h, w))
    if seed % 2:
        field = cv2.GaussianBlur(field, (0, 0), 1.5).reshape(h, w)  # blobs; else noise
    mask: BoolArray = field > np.quantile(field, rng.random())
    return mask


def by_pycocotools(mask: BoolArray) -> bytes:
    encoded: bytes = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return encoded


def filled(polygons: tuple[Polygon, ...], height_px: int, width_px: int) -> BoolArray:
    """The px that the rings enclose; checks that rings are simple, along px edges, and wind once around each px."""
    steps = np.zeros((height_px + 1, width_px + 1), np.int64)
    for polygon in polygons:
        for ring in (polygon.outer, *polygon.holes):
            corners = [tuple(corner) for corner in ring.tolist()]
            assert len(set(corners)) == len(corners) >= 4
            for (x, y), (x_next, y_next) in zip(corners, corners[1:] + corners[:1], strict=True):
                assert (x == x_next) != (y == y_next)
                steps[min(y, y_next):max(y, y_next), x] += np.sign(y - y_next)
    winding = steps.cumsum(axis=1)
    assert set(np.unique(winding)) <= {0, 1}
    return winding[:height_px, :width_px].astype(bool)


def n_corners(polygons: tuple[Polygon, ...]) -> int:
    return sum(len(ring) for polygon in polygons for ring in (polygon.outer, *polygon.holes))


@pytest.mark.parametrize("seed", range(50))
def test_encode_gives_the_bytes_of_pycocotools_and_decode_the_mask_again(seed: int) -> None:
    mask = random_mask(seed, 90)
    rle = masks.encode(mask)
    assert rle == by_pycocotools(mask)
    height_px, width_px = mask.shape
    decoded = masks.decode(rle, height_px=height_px, width_px=width_px)
    assert decoded.dtype == np.bool_ and decoded.flags.c_contiguous and np.array_equal(decoded, mask)
    assert masks.area_px(rle, height_px=height_px, width_px=width_px) == mask.sum()


@pytest.mark.parametrize("mask", [
    np.ones((1, 1), bool), np.zeros((1, 1), bool), np.ones((3000, 700), bool), np.zeros((3000, 700), bool),
    np.zeros((0, 5), bool), np.eye(65, dtype=bool), np.indices((40, 41)).sum(axis=0) % 2 == 1,
], ids=["one", "none of one", "all", "none", "no px", "diagonal", "checkerboard"])
def test_extreme_masks_are_encoded_as_by_pycocotools_and_come_back(mask: BoolArray) -> None:
    rle = masks.encode(mask)
    assert rle == by_pycocotools(mask)
    assert np.array_equal(masks.decode(rle, height_px=mask.shape[0], width_px=mask.shape[1]), mask)


def test_encode_refuses_what_is_no_mask() -> None:
    with pytest.raises(ValueError, match=r"expected a mask of bool \(h, w\), got uint8 \(2, 2\)"):
        masks.encode(np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize(("rle", "said"), [
    (b"", "with the sum 12, got 0"),
    (b"5", "with the sum 12, got 5"),
    (b"=", "at least 0 px that ends within the mask"),  # 13 px of 12
    (b"O", "at least 0 px that ends within the mask"),  # -1 px
    (b"04O9", "at least 0 px that ends within the mask"),  # a negative run that mends the sum
    (b"01007O", "with the sum 12, got 9"),
    (b"4Q", "a number's last character"),
    (b"P" * 40, "a number of at most 60 bits"),
    (b"o" * 40, "a number of at most 60 bits"),
    (b"PPPPPPPPPPP?", "at least 0 px that ends within the mask"),
    (b"4 8", "a character from '0' to 'o'"),
    (b"4\x008", "a character from '0' to 'o'"),
    (b"4\xff8", "a character from '0' to 'o'"),
    (b"p", "a character from '0' to 'o'"),
])
def test_malformed_and_hostile_strings_are_refused_with_what_was_expected(rle: bytes, said: str) -> None:
    for work in (
        lambda: masks.decode(rle, height_px=3, width_px=4),
        lambda: masks.area_px(rle, height_px=3, width_px=4),
        lambda: masks.full_frame_rle(rle, Box(1, 1, 5, 4), width_px=9, height_px=9),
        lambda: masks.compose([(rle, Box(1, 1, 5, 4), 1)], window=Box(0, 0, 9, 9)),
        lambda: masks.polygons(rle, Box(1, 1, 5, 4)),
    ):
        with pytest.raises(ValueError, match=said):
            work()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(rle=st.binary(max_size=30) | st.text("0123456789:;<=>?@PQRSTo", max_size=30).map(str.encode),
       height_px=st.integers(0, 9), width_px=st.integers(0, 9))
def test_any_bytes_give_a_mask_or_a_value_error(rle: bytes, height_px: int, width_px: int) -> None:
    try:
        mask = masks.decode(rle, height_px=height_px, width_px=width_px)
    except ValueError as error:
        assert "expected" in str(error) and "got" in str(error)
    else:
        assert mask.shape == (height_px, width_px)
        again = masks.encode(mask)
        assert np.array_equal(masks.decode(again, height_px=height_px, width_px=width_px), mask)


def test_a_size_beyond_any_memory_is_refused_before_anything_is_allocated() -> None:
    with pytest.raises(ValueError, match="expected a size from 0 to"):
        masks.decode(b"0", height_px=2**40, width_px=2**40)
    with pytest.raises(ValueError, match="expected a size from 0 to"):
        masks.area_px(b"0", height_px=-1, width_px=4)
    with pytest.raises(ValueError, match="with the sum"):
        masks.decode(b"5", height_px=2**26, width_px=2**26)


@pytest.mark.parametrize("seed", range(40))
def test_the_full_frame_encoding_is_that_of_the_mask_in_its_image(seed: int) -> None:
    mask = random_mask(seed)
    x0, y0, right, below = (int(v) for v in np.random.default_rng(seed).integers(0, 3, 4))
    image = np.pad(mask, ((y0, below), (x0, right)))
    box = Box(x0, y0, x0 + mask.shape[1], y0 + mask.shape[0])
    framed = masks.full_frame_rle(masks.encode(mask), box, width_px=image.shape[1], height_px=image.shape[0])
    assert framed == by_pycocotools(image)


def test_a_full_frame_encoding_of_a_huge_image_takes_no_pixels() -> None:
    box = Box(39_000, 39_999, 39_003, 40_000)
    framed = masks.full_frame_rle(masks.encode(np.array([[True, False, True]])), box, width_px=40_000, height_px=40_000)
    assert masks.area_px(framed, height_px=40_000, width_px=40_000) == 2
    with pytest.raises(ValueError, match="expected a box within 40000 x 39999 px"):
        masks.full_frame_rle(b"12", box, width_px=40_000, height_px=39_999)


def test_compose_paints_in_order_and_window_by_window_gives_the_same() -> None:
    rng = np.random.default_rng(3)
    shapes = []
    expected = np.zeros((60, 80), np.uint8)
    for value in range(1, 30):
        mask = random_mask(value, 25)
        x0, y0 = int(rng.integers(0, 80 - mask.shape[1])), int(rng.integers(0, 60 - mask.shape[0]))
        box = Box(x0, y0, x0 + mask.shape[1], y0 + mask.shape[0])
        shapes.append((masks.encode(mask), box, value))
        expected[box.y0:box.y1, box.x0:box.x1][mask] = value
    whole = masks.compose(shapes, window=Box(0, 0, 80, 60))
    assert whole.dtype == np.uint8 and np.array_equal(whole, expected)
    for window in (Box(0, 7, 80, 8), Box(13, 0, 14, 60), Box(30, 20, 55, 41), Box(70, 50, 80, 60)):
        part = masks.compose(shapes, window=window, dtype=np.uint16)
        assert part.dtype == np.uint16
        assert np.array_equal(part, expected[window.y0:window.y1, window.x0:window.x1])


def test_compose_refuses_a_value_that_its_type_does_not_hold() -> None:
    with pytest.raises(ValueError, match="expected a value from 0 to 255, got 256"):
        masks.compose([(b"01", Box(0, 0, 1, 1), 256)], window=Box(0, 0, 1, 1))
    assert masks.compose([(b"01", Box(0, 0, 1, 1), 256)], window=Box(0, 0, 1, 1), dtype=np.uint16)[0, 0] == 256


@pytest.mark.parametrize("seed", range(60))
def test_filled_outlines_are_the_very_mask_and_each_polygon_a_4_connected_part(seed: int) -> None:
    mask = random_mask(seed)
    image = np.pad(mask, ((2, 1), (3, 1)))
    polygons = masks.polygons(masks.encode(mask), Box(3, 2, 3 + mask.shape[1], 2 + mask.shape[0]))
    assert np.array_equal(filled(polygons, *image.shape), image)
    n_labels, labels = cv2.connectedComponents(image.astype(np.uint8), connectivity=4)
    assert len(polygons) == n_labels - 1
    for polygon in polygons:
        part = filled((polygon,), *image.shape)
        label, = set(labels[part].tolist())
        assert np.array_equal(part, labels == label)


def test_a_ring_of_px_that_closes_at_a_corner_is_an_outer_ring_and_a_hole() -> None:
    mask = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1]], bool)
    polygon, = masks.polygons(masks.encode(mask), Box(0, 0, 3, 3))
    assert len(polygon.holes) == 1
    assert sorted(polygon.holes[0].tolist()) == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_an_outline_runs_along_px_edges_clockwise_in_px_of_the_full_image() -> None:
    polygon, = masks.polygons(masks.encode(np.ones((2, 3), bool)), Box(10, 20, 13, 22))
    corners = polygon.outer.tolist()
    assert polygon.outer.dtype == np.int32 and polygon.holes == ()
    first = corners.index([10, 20])
    assert corners[first:] + corners[:first] == [[10, 20], [13, 20], [13, 22], [10, 22]]


@pytest.mark.parametrize("max_vertices", [4, 5, 20, 100])
@pytest.mark.parametrize("seed", range(12))
def test_outlines_keep_to_the_most_vertices_and_never_vanish(seed: int, max_vertices: int) -> None:
    mask = random_mask(seed, 70)
    polygons = masks.polygons(masks.encode(mask), Box(0, 0, mask.shape[1], mask.shape[0]), max_vertices=max_vertices)
    assert n_corners(polygons) <= max_vertices
    assert bool(polygons) == bool(mask.any())
    for polygon in polygons:
        assert min(len(ring) for ring in (polygon.outer, *polygon.holes)) >= 3


def test_a_simplified_disc_is_still_nearly_the_disc() -> None:
    y, x = np.mgrid[-60:61, -60:61]
    mask = x * x + y * y <= 58 * 58
    polygon, = masks.polygons(masks.encode(mask), Box(0, 0, 121, 121), max_vertices=40)
    drawn = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(drawn, [polygon.outer], 1)
    assert (drawn.astype(bool) & mask).sum() / (drawn.astype(bool) | mask).sum() > 0.95


def test_the_outlines_of_noise_are_capped_in_reasonable_time() -> None:
    mask = np.random.default_rng(1).random((1024, 1024)) < 0.5
    polygons = masks.polygons(masks.encode(mask), Box(0, 0, 1024, 1024), max_vertices=1000)
    assert 0 < n_corners(polygons) <= 1000


def test_no_px_have_no_outline_and_too_few_vertices_are_refused() -> None:
    assert masks.polygons(masks.encode(np.zeros((3, 3), bool)), Box(0, 0, 3, 3)) == ()
    with pytest.raises(ValueError, match="max_vertices must be at least 4, got 3"):
        masks.polygons(b"01", Box(0, 0, 1, 1), max_vertices=3)
