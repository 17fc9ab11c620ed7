"""A whole image brought to a classifier's input: as Pillow would, and in bounded memory."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from segsvc.card import Fit, Resize
from segsvc.imaging.intensity import full_scale
from segsvc.imaging.resizing import model_view
from segsvc.types import Box, Level, PixelArray


@dataclass
class Picture:
    """Levels of pixels as an opened image, which notes how much of it was read at once."""

    pixels: list[PixelArray]
    read_px: list[int] = field(default_factory=list)
    frames: int = 1
    pixel_size_um: float | None = None

    @property
    def width_px(self) -> int:
        return int(self.pixels[0].shape[1])

    @property
    def height_px(self) -> int:
        return int(self.pixels[0].shape[0])

    @property
    def levels(self) -> tuple[Level, ...]:
        return tuple(Level(each.shape[1], each.shape[0], self.width_px / each.shape[1]) for each in self.pixels)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self.pixels[0].dtype

    @property
    def channels(self) -> int:
        return int(self.pixels[0].shape[2])

    def read(self, box: Box, *, level: int = 0, frame: int = 0) -> PixelArray:
        height, width = self.pixels[level].shape[:2]
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height:
            raise ValueError(f"{box} is outside of {width} x {height}")
        self.read_px.append(box.area_px)
        return self.pixels[level][box.y0: box.y1, box.x0: box.x1]

    def close(self) -> None:
        """Nothing to close."""


def smooth(width_px: int, height_px: int, channels: int, dtype: type[np.generic] = np.uint8) -> PixelArray:
    y, x = np.arange(height_px, dtype=np.float32)[:, None], np.arange(width_px, dtype=np.float32)
    white = full_scale(np.dtype(dtype))
    planes = [(0.5 + 0.4 * np.sin(x / (17 + 3 * channel)) * np.cos(y / 23)) * white for channel in range(channels)]
    return np.stack([plane.astype(dtype) for plane in planes], axis=2)


def whole_then_crop(pixels: PixelArray, resize: Resize) -> PixelArray:
    """What torchvision and timm do: the whole image resized, then the centre cut out."""
    height, width = pixels.shape[:2]
    scale = resize.shorter_side_px / min(height, width)
    size = max(resize.crop_px, round(width * scale)), max(resize.crop_px, round(height * scale))
    how = Image.Resampling.BICUBIC if resize.interpolation == "bicubic" else Image.Resampling.BILINEAR
    made = np.asarray(Image.fromarray(pixels).resize(size, how))
    top, left = (size[1] - resize.crop_px) // 2, (size[0] - resize.crop_px) // 2
    return made[top: top + resize.crop_px, left: left + resize.crop_px]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("width_px", "height_px"), [(640, 480), (480, 641), (200, 150), (64, 300), (256, 256), (31, 17),
                                                     (3, 3), (1, 1), (1, 50), (224, 224)])
def test_the_view_is_that_of_the_whole_image_resized_and_cropped(width_px: int, height_px: int,
                                                                 interpolation: str) -> None:
    resize = Resize.model_validate({"shorter_side_px": 256, "crop_px": 224, "interpolation": interpolation})
    pixels = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3)).astype(np.uint8)
    view = model_view(Picture([pixels]), resize)
    assert view.shape == (224, 224, 3)
    assert view.dtype == np.uint8
    assert np.abs(view.astype(int) - whole_then_crop(pixels, resize).astype(int)).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_pixels_keep_their_type_and_their_range(dtype: type[np.generic], channels: int) -> None:
    pixels = smooth(400, 300, channels, dtype)
    view = model_view(Picture([pixels]), Resize())
    assert view.dtype == dtype
    assert view.shape == (224, 224, channels)
    eight = model_view(Picture([smooth(400, 300, channels)]), Resize())
    assert np.abs(view.astype(float) / full_scale(view.dtype) - eight.astype(float) / 255).max() < 0.01


def test_steps_finer_than_8_bits_survive() -> None:
    pixels = np.repeat(np.arange(40_000, 40_100, dtype=np.uint16)[None, :, None], 100, axis=0)
    assert len(np.unique(model_view(Picture([pixels]), Resize(shorter_side_px=100, crop_px=100)))) == 100


def test_a_large_image_is_reduced_in_bands_to_nearly_the_same_view() -> None:
    pixels = smooth(5000, 4900, 1)
    picture = Picture([pixels])
    view = model_view(picture, Resize())
    assert max(picture.read_px) <= 16_000_000
    assert len(picture.read_px) > 1
    wanted = whole_then_crop(pixels[:, :, 0], Resize()).astype(int)
    assert np.abs(view[:, :, 0].astype(int) - wanted).max() <= 4


def test_a_pyramid_is_read_at_the_smallest_level_that_is_still_large_enough() -> None:
    pixels = smooth(4096, 4096, 1)
    picture = Picture([pixels, pixels[::4, ::4], pixels[::16, ::16]])
    view = model_view(picture, Resize())
    assert sum(picture.read_px) <= 1024 * 1024
    wanted = whole_then_crop(pixels[:, :, 0], Resize()).astype(int)
    assert np.abs(view[:, :, 0].astype(int) - wanted).max() <= 12


@pytest.mark.parametrize(("width_px", "height_px"), [(1, 200_000), (200_000, 1), (2, 100_000)])
def test_an_image_as_thin_as_a_line_costs_no_more_than_its_crop(width_px: int, height_px: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3)).astype(np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    picture = Picture([pixels])
    assert model_view(picture, Resize()).shape == (224, 224, 3)
    assert sum(picture.read_px) < 100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_only_the_middle_of_a_long_image_is_read() -> None:
    picture = Picture([np.zeros((600, 60_000, 1), np.uint8)])
    model_view(picture, Resize())
    assert sum(picture.read_px) < 600 * 600


@pytest.mark.parametrize(("width_px", "height_px"), [(300, 100), (90, 260), (64, 64), (5000, 700), (30, 10)])
def test_with_padding_all_of_an_image_is_seen_and_nothing_but_black_beside_it(width_px: int, height_px: int) -> None:
    pixels = np.full((height_px, width_px, 3), 200, np.uint8)
    pixels[:, : max(1, width_px // 10)] = 90  # the left and the right end are in the view
    pixels[:, -max(1, width_px // 10):] = 30
    view = model_view(Picture([pixels]), Resize(shorter_side_px=64, crop_px=64, fit=Fit.PAD))
    assert view.shape == (64, 64, 3)
    scale = 64 / max(width_px, height_px)
    seen_width, seen_height = round(width_px * scale), round(height_px * scale)
    left, top = (64 - seen_width) // 2, (64 - seen_height) // 2
    middle = view[32, left: left + seen_width, 0]
    assert abs(int(middle[0]) - 90) < 40
    assert abs(int(middle[-1]) - 30) < 40
    assert abs(int(np.median(middle)) - 200) < 10
    beside = np.ones((64, 64), np.bool_)
    beside[top: top + seen_height, left: left + seen_width] = False
    assert (view[beside] == 0).all()
