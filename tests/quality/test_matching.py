"""Px that shapes share, and the rule of found."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segsvc.imaging import masks
from segsvc.quality.matching import Shape, areas_px, finds, measured, overlaps, shared_px
from segsvc.types import Box

SIDE = 24


def drawn(random: np.random.Generator, count: int) -> list[tuple[Shape, npt.NDArray[np.bool_]]]:
    """Shapes with their full masks: boxes, ragged masks and masks without a px."""
    found = []
    for number in range(count):
        x0, y0 = random.integers(0, SIDE, 2)
        box = Box(int(x0), int(y0), int(random.integers(x0, SIDE + 1)), int(random.integers(y0, SIDE + 1)))
        own = random.random((box.height_px, box.width_px)) < (0.0, 0.3, 0.8, 1.0)[number % 4]
        full = np.zeros((SIDE, SIDE), np.bool_)
        full[box.y0: box.y1, box.x0: box.x1] = own
        found.append((Shape(box, None if own.all() and number % 8 == 3 else masks.encode(own)), full))
    return found


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None)  # the first call compiles
def test_shared_px_are_those_of_the_full_masks(seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = drawn(random, int(random.integers(0, 9))), drawn(random, int(random.integers(0, 9)))
    expected = np.array([[int((a & b).sum()) for _, b in other] for _, a in one], np.int64).reshape(len(one), len(other))
    assert shared_px([shape for shape, _ in one], [shape for shape, _ in other]).tolist() == expected.tolist()
    shared, areas, object_areas = measured([shape for shape, _ in one], [shape for shape, _ in other])
    assert shared.tolist() == expected.tolist()
    assert [*areas, *object_areas] == [int(full.sum()) for _, full in (*one, *other)]
    assert areas_px([shape for shape, _ in one]).tolist() == [int(full.sum()) for _, full in one]


def test_an_object_is_found_from_the_half_of_it_on() -> None:
    thing = Shape(Box(0, 0, 10, 2))
    half, less = Shape(Box(5, 0, 10, 2)), Shape(Box(0, 0, 3, 3))
    shared = shared_px([half, less], [thing])
    assert shared.tolist() == [[10], [6]]
    assert finds(shared, areas_px([half, less]), areas_px([thing])).tolist() == [[True], [False]]


def test_one_vast_region_finds_nothing() -> None:
    things = [Shape(Box(10 * n, 0, 10 * n + 9, 9)) for n in range(10)]
    vast = Shape(Box(0, 0, 100, 82))
    enough = Shape(Box(0, 0, 90, 9))  # 810 px: the tenth of it lies in each of the first nine
    found = finds(shared_px([vast, enough], things), areas_px([vast, enough]), areas_px(things))
    assert not found[0].any()
    assert found[1].tolist() == [True] * 9 + [False]


def test_an_object_without_px_is_never_found() -> None:
    nothing = Shape(Box(3, 3, 3, 3))
    empty = Shape(Box(0, 0, 2, 2), masks.encode(np.zeros((2, 2), np.bool_)))
    everything = Shape(Box(0, 0, 9, 9))
    shared = shared_px([everything], [nothing, empty])
    assert not finds(shared, areas_px([everything]), areas_px([nothing, empty])).any()


def test_overlap_with_an_ignored_object_is_the_candidates_share_of_it() -> None:
    candidate, crowd = Shape(Box(0, 0, 2, 2)), Shape(Box(0, 0, 100, 100))
    shared, areas = shared_px([candidate], [crowd, crowd]), areas_px([crowd, crowd])
    found = overlaps(shared, areas_px([candidate]), areas, np.array([True, False]))
    assert found.tolist() == [[1.0, 4 / 10_000]]


def test_without_candidates_or_objects_nothing_is_shared() -> None:
    assert shared_px([], [Shape(Box(0, 0, 2, 2))]).shape == (0, 1)
    assert shared_px([Shape(Box(0, 0, 2, 2))], []).shape == (1, 0)


@pytest.mark.parametrize("rle", [b"", b"\xff", b"99"])
def test_bytes_that_are_no_mask_of_the_box_are_refused(rle: bytes) -> None:
    with pytest.raises(ValueError, match="expected the run lengths of a mask within Box"):
        shared_px([Shape(Box(0, 0, 3, 3), rle)], [Shape(Box(0, 0, 3, 3))])
