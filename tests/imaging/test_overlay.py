from __future__ import annotations

import numpy as np
import pytest

from segsvc.imaging.overlay import BAND_LINES, PALETTE, Line, Mark, class_colour, display_range, draw, resized, to_display
from segsvc.types import Band, Box

GREY = np.full((60, 80, 3), 100, np.uint8)


def square(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.int32)


def changed(picture: np.ndarray) -> np.ndarray:
    return (picture != 100).any(axis=2)


def test_8_bit_pixels_are_shown_as_they_are() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    np.testing.assert_array_equal(to_display(colour), colour)
    grey = to_display(colour[:, :, :1])
    np.testing.assert_array_equal(grey, np.repeat(colour[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deep_pixels_are_stretched_between_robust_percentiles(dtype: type) -> None:
    rng = np.random.default_rng(1)
    deep = (rng.random((100, 100, 1)) * 1000 + 200).astype(dtype)
    deep[0, 0] = 60000  # one hot px
    shown = to_display(deep)
    assert shown.dtype == np.uint8 and shown.shape == (100, 100, 3)
    low, high = np.percentile(deep, (1, 99.8))
    expected = np.clip((deep.astype(float) - low) * 255 / (high - low), 0, 255)
    assert abs(shown[:, :, :1] - expected).max() <= 0.51
    assert shown.max() == 255 and shown.min() == 0


@pytest.mark.parametrize("value", [0, 700])
def test_an_image_of_one_value_is_black(value: int) -> None:
    assert not to_display(np.full((4, 4, 1), value, np.uint16)).any()


def test_a_few_bright_px_on_nothing_are_seen() -> None:
    deep = np.zeros((100, 100, 1), np.uint16)
    deep[50, 50] = 900
    assert display_range(deep) == (0, 900)


def test_pixels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(h, w, 1\) or \(h, w, 3\), got \(4, 4\)"):
        to_display(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="must be"):
        draw(np.zeros((4, 4, 3), np.uint16), [], window=Box(0, 0, 4, 4))  # type: ignore[arg-type]


def test_the_argument_is_not_changed() -> None:
    before = GREY.copy()
    drawn = draw(GREY, [Mark(Box(5, 5, 20, 20), PALETTE[0], Line.SOLID)], window=Box(0, 0, 80, 60))
    np.testing.assert_array_equal(GREY, before)
    assert changed(drawn).any()


def test_an_outline_lies_on_the_edge_of_the_mask_and_a_light_fill_within() -> None:
    drawn = draw(GREY, [Mark(Box(20, 10, 60, 50), (255, 0, 0), Line.SOLID, (square(20, 10, 60, 50),))],
                 window=Box(0, 0, 80, 60))
    assert drawn[30, 20, 0] > 200 and drawn[10, 40, 0] > 200
    assert tuple(drawn[30, 40]) == (128, 82, 82)
    assert not changed(drawn)[:, :15].any() and not changed(drawn)[:5].any()


def test_a_ring_within_a_ring_is_a_hole() -> None:
    rings = (square(10, 10, 70, 50), square(30, 20, 50, 40))
    drawn = draw(GREY, [Mark(Box(10, 10, 70, 50), (255, 0, 0), Line.SOLID, rings)], window=Box(0, 0, 80, 60))
    assert tuple(drawn[30, 40]) == (100, 100, 100)
    assert tuple(drawn[30, 20]) != (100, 100, 100)


def test_marks_are_placed_by_the_window_that_the_picture_shows() -> None:
    mark = Mark(Box(1040, 2020, 1060, 2040), (255, 0, 0), Line.SOLID)
    drawn = draw(GREY, [mark], window=Box(1000, 2000, 1160, 2120))  # half size
    rows, columns = np.nonzero(changed(drawn))
    assert (rows.min(), rows.max()) == (pytest.approx(10, abs=4), pytest.approx(20, abs=4))
    assert (columns.min(), columns.max()) == (pytest.approx(20, abs=4), pytest.approx(30, abs=4))


def test_marks_outside_the_window_leave_the_picture_as_it_is() -> None:
    marks = [Mark(Box(10**6, 10**6, 10**6 + 9, 10**6 + 9), PALETTE[0], Line.DASHED),
             Mark(Box(0, 0, 5, 5), PALETTE[1], Line.DOTTED)]
    np.testing.assert_array_equal(draw(GREY, marks, window=Box(500, 500, 580, 560)), GREY)


def test_lines_tell_the_bands_apart_without_colour() -> None:
    shares = {}
    for band, line in BAND_LINES.items():
        drawn = draw(GREY, [Mark(Box(10, 10, 70, 50), (255, 255, 255), line)], window=Box(0, 0, 80, 60))
        shares[band] = (drawn[10, 12:68, 0] > 200).mean()
    assert shares[Band.ACCEPTED] > 0.95
    assert 0.4 < shares[Band.REVIEW] < 0.85
    assert shares[Band.REJECTED] < shares[Band.REVIEW] - 0.1


def test_a_mark_of_one_px_is_seen() -> None:
    for line in Line:
        drawn = draw(GREY, [Mark(Box(40, 30, 41, 31), PALETTE[3], line)], window=Box(0, 0, 80, 60))
        assert changed(drawn)[28:34, 38:44].any()


def test_colours_of_classes_differ_and_come_again() -> None:
    assert len({class_colour(number) for number in range(7)}) == 7
    assert class_colour(7) == class_colour(0)


@pytest.mark.parametrize(("size", "expected"), [((1000, 500), (400, 200)), ((100, 50), (400, 200)), ((3, 2), (24, 16)),
                                                ((300, 400), (300, 400)), ((5000, 1), (400, 1))])
def test_pictures_are_scaled_to_be_seen(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized(np.zeros((*size, 3), np.uint8), longest_side_px=400).shape == (*expected, 3)
