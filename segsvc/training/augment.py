"""What training changes about an image so that a model learns more than the images it is shown: place, form and light.

Pure functions; every draw comes from the generator that is handed in. Pixels are float32 on the scale 0 to 1 (before mean
and standard deviation), channels last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
import numpy.typing as npt

from segsvc.types import Box

Floats = npt.NDArray[np.float32]
_REACH_PX = 3  # beyond the px that a warp lands on: what interpolation looks at, and rounding


class Domain(StrEnum):
    """What kind of images they are, and so what may be done to them without making them wrong."""

    DOCUMENT = "document"  # nothing is mirrored or turned far: letters, digits, left and right
    PHOTO = "photo"  # mirrored left to right, turned a little: a street is never upside down
    ANY = "any"  # no direction is up: microscopy, aerial pictures, slides


@dataclass(frozen=True, slots=True)
class Variation:
    """How far images are changed. Scales are factors of the image's own resolution; angles are standard deviations."""

    domain: Domain
    scales: tuple[float, float] = (0.7, 1.5)
    angle_deg: float = 6.0
    aspect: float = 0.08  # of the logarithm
    elastic_share: float = 0.4
    elastic: float = 0.025  # of the crop's side, standard deviation of the bend at its knots
    gamma: float = 0.25  # of the logarithm, as the following ones
    gain: float = 0.25
    tint: float = 0.08
    noise: float = 0.02
    blur_share: float = 0.15


@dataclass(frozen=True, slots=True)
class Warp:
    """From px of a crop to px of an image: p -> linear @ p + shift, and a bend of so many crop px before it.

    Coordinates x, y refer to the grid of px edges, so that the middle of the first px is at (0.5, 0.5).
    """

    side_px: int
    linear: npt.NDArray[np.float64]  # (2, 2)
    shift: npt.NDArray[np.float64]  # (2,)
    bend: Floats | None = None  # (side_px, side_px, 2), in px of the crop

    @property
    def scale(self) -> float:
        """How many px of the crop one px of the image becomes, along an axis."""
        return 1 / math.sqrt(abs(float(np.linalg.det(self.linear))))

    def places(self) -> Floats:
        """Where each px of the crop comes from: (side_px, side_px, 2) x, y of the middle of px 0 being 0."""
        line = np.arange(self.side_px, dtype=np.float32) + np.float32(0.5)
        grid = np.stack(np.meshgrid(line, line), axis=2)
        if self.bend is not None:
            grid = grid + self.bend
        return (grid @ self.linear.T.astype(np.float32) + (self.shift - 0.5).astype(np.float32)).astype(np.float32)

    def window(self, width_px: int, height_px: int) -> Box:
        """What must be read of an image of that size; never empty."""
        places = self.places().reshape(-1, 2)
        (x0, y0), (x1, y1) = places.min(axis=0) - _REACH_PX, places.max(axis=0) + _REACH_PX + 1
        left, right = (min(max(int(value), 0), width_px) for value in (math.floor(x0), math.ceil(x1)))
        top, bottom = (min(max(int(value), 0), height_px) for value in (math.floor(y0), math.ceil(y1)))
        left, top = min(left, width_px - 1), min(top, height_px - 1)
        return Box(left, top, max(right, left + 1), max(bottom, top + 1))


def draw_warp(random: np.random.Generator, how: Variation, *, side_px: int, middle: tuple[float, float],
              scale: float | None = None) -> Warp:
    """A warp that brings `middle` (x, y in px of the image) to somewhere in a crop of `side_px`.

    scale: drawn log-uniformly from `how.scales` where it is None.
    """
    low, high = how.scales
    if scale is None:
        scale = math.exp(random.uniform(math.log(low), math.log(high)))
    angle = math.radians(random.normal() * how.angle_deg)
    mirror = 1.0
    if how.domain is Domain.ANY:
        angle = random.uniform(0, 2 * math.pi)
    if how.domain is not Domain.DOCUMENT:
        mirror = float(random.choice([-1.0, 1.0]))
    aspect = math.exp(random.normal() * how.aspect)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn @ np.diag([mirror * aspect / scale, 1 / (aspect * scale)])
    bend = None
    if random.random() < how.elastic_share:
        bend = elastic(random, side_px=side_px, strength_px=how.elastic * side_px)
    return Warp(side_px, linear, np.asarray(middle) - linear @ np.full(2, side_px / 2), bend)


def elastic(random: np.random.Generator, *, side_px: int, strength_px: float, knots: int = 4) -> Floats:
    """(side_px, side_px, 2) smooth displacements in px: normal ones at `knots` x `knots` places, bicubic between them.

    The elastic deformation of Ronneberger, Fischer and Brox, "U-Net" (2015), section 3.1.
    """
    coarse = random.normal(scale=strength_px, size=(knots, knots, 2)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC), np.float32)


def take(pixels: npt.NDArray[np.generic], warp: Warp, window: Box, *, interpolation: int = cv2.INTER_LINEAR,
         outside: float | None = None) -> npt.NDArray[np.generic]:
    """The crop (side_px, side_px[, C]) out of `pixels`, which are those of `window` in the image.

    Pixels beyond the image are mirrored, or `outside` where that is given. Where the crop is coarser than the image and
    interpolation is linear, pixels are smoothed first.
    """
    if interpolation == cv2.INTER_LINEAR and warp.scale < 0.9:
        pixels = cv2.GaussianBlur(pixels, (0, 0), 0.4 * (1 / warp.scale - 1) + 1e-3).reshape(pixels.shape)
    places = warp.places() - np.array([window.x0, window.y0], np.float32)
    border = {"borderMode": cv2.BORDER_REFLECT_101} if outside is None else {
        "borderMode": cv2.BORDER_CONSTANT, "borderValue": (outside,) * 4}
    taken: npt.NDArray[np.generic] = cv2.remap(pixels, places, None, interpolation, **border)
    return taken.reshape(*taken.shape[:2], *pixels.shape[2:])


def shade(random: np.random.Generator, pixels: Floats, how: Variation) -> Floats:
    """The crop (h, w, C) in another light: gamma, gain, tint, blur, noise. Values may leave 0 to 1."""
    if random.random() < 0.5:
        gamma = np.float32(math.exp(random.normal() * how.gamma))
        pixels = np.sign(pixels) * np.abs(pixels) ** gamma
    if random.random() < 0.5:
        pixels = pixels * np.float32(math.exp(random.normal() * how.gain)) + np.float32(random.normal() * how.noise)
    if pixels.shape[2] > 1 and random.random() < 0.5:
        pixels = pixels * np.exp(random.normal(size=pixels.shape[2]) * how.tint).astype(np.float32)
    if random.random() < how.blur_share:
        pixels = cv2.GaussianBlur(pixels, (0, 0), random.uniform(0.3, 1.2)).reshape(pixels.shape)
    if random.random() < 0.4:
        grain = random.normal(size=pixels.shape).astype(np.float32)
        pixels = pixels + grain * np.float32(abs(random.normal()) * how.noise)
    return np.ascontiguousarray(pixels, np.float32)
