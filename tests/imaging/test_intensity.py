"""Stored values become model input without losing what is in them."""

from __future__ import annotations

import numpy as np
import pytest

from segsvc.card import IntensityScale, Normalisation
from segsvc.imaging.intensity import affine, full_scale, percentiles, to_channels, to_input

GREY = Normalisation(mean=(0.5,), std=(0.25,))
STRETCHED = Normalisation(scale=IntensityScale.PERCENTILE, low_percentile=0, high_percentile=100, mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_black_and_white_of_every_type_become_the_same_input(dtype: type[np.generic], white: int) -> None:
    tile = np.array([[[0], [white]]], dtype)
    made = to_input(tile, affine(GREY, dtype=tile.dtype, sample=None))
    assert made.dtype == np.float32
    assert made.flags.c_contiguous
    assert np.allclose(made, [[[[-2.0, 2.0]]]], atol=1e-6)


def test_each_channel_has_its_own_mean_and_std() -> None:
    normalisation = Normalisation()
    tile = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    made = to_input(tile, affine(normalisation, dtype=tile.dtype, sample=None))
    wanted = (tile / 255.0 - np.array(normalisation.mean)) / np.array(normalisation.std)
    assert made.shape == (1, 3, 5, 7)
    assert np.allclose(made[0], np.moveaxis(wanted, 2, 0), atol=1e-5)


def test_the_low_bits_of_16_bit_grey_reach_the_model() -> None:
    low_bits = np.random.default_rng(1).integers(0, 16, (32, 32, 1)).astype(np.uint16)
    pixels = (low_bits + 40_000).astype(np.uint16)
    as_float = (pixels / 65535.0).astype(np.float32)
    of_integers = to_input(pixels, affine(GREY, dtype=pixels.dtype, sample=None))
    of_floats = to_input(as_float, affine(GREY, dtype=as_float.dtype, sample=None))
    assert len(np.unique(of_integers)) == 16
    assert np.abs(of_integers - of_floats).max() < 1e-6
    stretched = to_input(pixels, affine(STRETCHED, dtype=pixels.dtype, sample=pixels))
    assert np.abs(stretched[0, 0] - low_bits[:, :, 0] / 15.0).max() < 2e-3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("size", [1, 2, 3, 100, 4097])
def test_percentiles_are_those_of_numpy(dtype: type[np.generic], size: int) -> None:
    random = np.random.default_rng(size)
    top = 256 if dtype == np.uint8 else 65536
    sample = random.integers(0, top, (size, 1, 1)).astype(dtype)
    for wanted in ((0.0, 100.0), (1.0, 99.8), (33.3, 50.0)):
        assert percentiles(sample, wanted) == pytest.approx(tuple(np.percentile(sample.astype(np.float64), wanted)))


def test_the_percentile_scale_takes_the_two_percentiles_to_0_and_1_and_clips_nothing() -> None:
    normalisation = Normalisation(scale=IntensityScale.PERCENTILE, low_percentile=10, high_percentile=90, mean=(0.0,),
                                  std=(1.0,))
    sample = np.arange(1001, dtype=np.uint16).reshape(-1, 1, 1)
    made = to_input(sample, affine(normalisation, dtype=sample.dtype, sample=sample))[0, 0, :, 0]
    assert made[100] == pytest.approx(0.0, abs=1e-6)
    assert made[900] == pytest.approx(1.0, abs=1e-6)
    assert made[0] == pytest.approx(-0.125, abs=1e-6)
    assert made[1000] == pytest.approx(1.125, abs=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("value", [0, 1])
def test_a_constant_image_becomes_a_finite_constant(dtype: type[np.generic], value: int) -> None:
    sample = np.full((4, 4, 1), value, dtype)
    made = to_input(sample, affine(STRETCHED, dtype=sample.dtype, sample=sample))
    assert (made == 0).all()


def test_a_percentile_scale_without_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a sample of the image, got None"):
        affine(STRETCHED, dtype=np.dtype(np.uint8), sample=None)


@pytest.mark.parametrize("normalisation", [GREY, STRETCHED])
def test_values_that_are_no_numbers_become_black_and_leave_the_others_alone(normalisation: Normalisation) -> None:
    tile = np.array([[[0.0], [0.25], [1.0]], [[np.nan], [np.inf], [-np.inf]]], np.float32)
    made = to_input(tile, affine(normalisation, dtype=tile.dtype, sample=tile))[0, 0]
    clean = to_input(tile[:1], affine(normalisation, dtype=tile.dtype, sample=tile[:1]))[0, 0]
    assert np.array_equal(made[0], clean[0])
    assert np.array_equal(made[1], np.full(3, clean[0, 0]))


def test_an_image_of_nothing_but_nan_becomes_black() -> None:
    tile = np.full((3, 3, 1), np.nan, np.float32)
    assert (to_input(tile, affine(STRETCHED, dtype=tile.dtype, sample=tile)) == 0).all()


def test_the_largest_floats_do_not_become_infinite_input() -> None:
    tile = np.full((2, 2, 1), np.finfo(np.float32).max, np.float32)
    assert np.isfinite(to_input(-tile, affine(GREY, dtype=tile.dtype, sample=None))).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_grey_is_repeated_and_rgb_becomes_luma_in_its_own_type(dtype: type[np.generic]) -> None:
    grey = np.arange(12).reshape(3, 4, 1).astype(dtype)
    assert np.array_equal(to_channels(grey, 3), np.repeat(grey, 3, axis=2))
    assert to_channels(grey, 1) is grey
    white = full_scale(np.dtype(dtype))
    colour = (np.array([[[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]]) * white).astype(dtype)
    luma = to_channels(colour, 1)
    assert luma.dtype == dtype
    assert luma.shape == (1, 5, 1)
    assert luma[0, :, 0].astype(float) / white == pytest.approx([0, 1, 0.299, 0.587, 0.114], abs=0.003)


def test_the_pixels_given_stay_as_they_are() -> None:
    tile = np.array([[[1.0], [np.nan]]], np.float32)
    before = tile.copy()
    to_input(tile, affine(GREY, dtype=tile.dtype, sample=tile))
    assert np.array_equal(tile, before, equal_nan=True)
