from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segsvc.training.augment import Domain, Variation, Warp, draw_warp, elastic, shade, take
from segsvc.types import Box

PLAIN = Variation(Domain.DOCUMENT, scales=(1.0, 1.0), angle_deg=0.0, aspect=0.0, elastic_share=0.0)


def picture(width: int = 60, height: int = 40) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, 3)).astype(np.float32)


def crop(image: np.ndarray, warp: Warp) -> np.ndarray:
    window = warp.window(image.shape[1], image.shape[0])
    part = np.ascontiguousarray(image[window.y0: window.y1, window.x0: window.x1])
    return take(part, warp, window)


def test_a_crop_that_changes_nothing_is_a_piece_of_the_image() -> None:
    warp = draw_warp(np.random.default_rng(0), PLAIN, side_px=16, middle=(30.0, 20.0))
    assert np.allclose(crop(picture(), warp), picture()[12:28, 22:38], atol=1e-6)


def test_the_window_holds_all_that_the_crop_shows() -> None:
    for seed in range(40):
        random = np.random.default_rng(seed)
        middle = (random.uniform(5, 55), random.uniform(5, 35))
        warp = draw_warp(random, Variation(Domain.ANY), side_px=20, middle=middle)
        whole = take(picture(), warp, Box(0, 0, 60, 40), outside=-1)
        window = warp.window(60, 40)
        part = np.ascontiguousarray(picture()[window.y0: window.y1, window.x0: window.x1])
        assert np.allclose(take(part, warp, window, outside=-1), whole, atol=0.1)  # OpenCV rounds places to 1/32 px


def test_masks_move_with_their_pixels() -> None:
    mask = np.zeros((40, 60), np.float32)
    mask[10:25, 20:45] = 1
    image = np.repeat(mask[:, :, None], 3, axis=2)
    for seed in range(20):
        warp = draw_warp(np.random.default_rng(seed), Variation(Domain.ANY), side_px=32, middle=(30.0, 20.0))
        assert np.allclose(crop(image, warp)[:, :, 0], crop(mask, warp), atol=1e-5)


def test_documents_are_never_mirrored_and_photos_never_upside_down() -> None:
    def drawn(domain: Domain) -> list[Warp]:
        draws = (np.random.default_rng(seed) for seed in range(200))
        return [draw_warp(random, Variation(domain), side_px=8, middle=(4.0, 4.0)) for random in draws]

    assert all(np.linalg.det(warp.linear) > 0 for warp in drawn(Domain.DOCUMENT))
    mirrored = [np.linalg.det(warp.linear) < 0 for warp in drawn(Domain.PHOTO)]
    assert 60 < sum(mirrored) < 140
    assert all(warp.linear[1, 1] > 0 for warp in drawn(Domain.PHOTO))
    assert any(warp.linear[1, 1] < 0 for warp in drawn(Domain.ANY))


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 5.0))
def test_scale_is_what_was_asked_for(seed: int, scale: float) -> None:
    warp = draw_warp(np.random.default_rng(seed), Variation(Domain.ANY), side_px=8, middle=(4.0, 4.0), scale=scale)
    assert math.isclose(warp.scale, scale, rel_tol=1e-6)


def test_elastic_deformation_is_smooth_and_of_its_strength() -> None:
    bends = np.stack([elastic(np.random.default_rng(seed), side_px=64, strength_px=4.0) for seed in range(200)])
    assert bends.shape == (200, 64, 64, 2)
    assert 2.0 < bends.std() < 4.5
    assert np.abs(np.diff(bends, axis=1)).max() < 4.0


@pytest.mark.parametrize("channels", [1, 3])
def test_shading_keeps_shape_and_is_finite_and_the_same_for_the_same_draw(channels: int) -> None:
    pixels = np.random.default_rng(0).normal(0.5, 0.4, (24, 24, channels)).astype(np.float32)
    changed = 0
    for seed in range(60):
        one, other = (shade(np.random.default_rng(seed), pixels.copy(), Variation(Domain.PHOTO)) for _ in range(2))
        assert one.shape == pixels.shape
        assert one.dtype == np.float32
        assert np.isfinite(one).all()
        assert np.array_equal(one, other)
        changed += not np.array_equal(one, pixels)
    assert changed > 40


def test_a_coarser_crop_is_smoothed_first() -> None:
    stripes = np.zeros((64, 64, 1), np.float32)
    stripes[:, ::2] = 1
    warp = draw_warp(np.random.default_rng(0), PLAIN, side_px=12, middle=(32.0, 32.0), scale=0.25)
    assert abs(float(crop(stripes, warp).mean()) - 0.5) < 0.05
    assert float(crop(stripes, warp).std()) < 0.15


def test_an_image_smaller_than_the_crop_is_mirrored_at_its_edges() -> None:
    warp = draw_warp(np.random.default_rng(0), PLAIN, side_px=32, middle=(5.0, 4.0))
    taken = crop(picture(10, 8), warp)
    assert taken.shape == (32, 32, 3)
    assert np.allclose(taken[12:20, 11:21], picture(10, 8), atol=1e-6)
