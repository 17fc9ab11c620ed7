"""What images look like to a model, as far as their stored candidates tell: a few whole numbers an image, its traits.

The profile of a calibration is the traits of a sample of its images, small enough to be kept beside its thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segsvc.types import SCORE_ONE, Candidate

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Names = npt.NDArray[np.str_]

MOST_IMAGES = 1000  # of a profile, and of a run that is compared with it
MOST_CLASSES = 10  # that have traits of their own
UNDEFINED = -1  # the score or area of an image without candidates


@dataclass(frozen=True, slots=True)
class Trait:
    """What one of the numbers says of an image; `scale` is the number that stands for 1."""

    words: str
    scale: int = 1


def traits_of(classes: Sequence[str]) -> tuple[Trait, ...]:
    """The traits, in the order of their columns, where these classes have their own."""
    of_all = (Trait("candidates an image"), Trait("highest score", SCORE_ONE), Trait("mean of the scores", SCORE_ONE),
              Trait("mean score within candidates", SCORE_ONE), Trait("median area in px"))
    return of_all + tuple(trait for name in classes for trait in (
        Trait(f"candidates of {name} an image"), Trait(f"highest score of {name}", SCORE_ONE)))


@dataclass(frozen=True, slots=True)
class Stored:
    """The stored candidates of some images, in the order of the images; those of all frames belong to their image.

    n_candidates (images,): how many each image has. class_name, score, mean_score and area_px (candidates,).
    """

    n_candidates: Ints
    class_name: Names
    score: Floats
    mean_score: Floats
    area_px: Ints

    def __post_init__(self) -> None:
        n = int(self.n_candidates.sum())
        if {len(self.class_name), len(self.score), len(self.mean_score), len(self.area_px)} != {n}:
            raise ValueError(f"expected {n} candidates, as many as the images have, got {len(self.class_name)} classes, "
                             f"{len(self.score)} scores, {len(self.mean_score)} mean scores and {len(self.area_px)} areas")

    @classmethod
    def of(cls, images: Sequence[Sequence[Candidate]]) -> Stored:
        """Those of images whose candidates are at hand one by one."""
        every = [each for candidates in images for each in candidates]
        return cls(n_candidates=np.array([len(candidates) for candidates in images], np.int64),
                   class_name=np.array([each.class_name for each in every], np.str_),
                   score=np.array([each.score for each in every], np.float64),
                   mean_score=np.array([each.mean_score for each in every], np.float64),
                   area_px=np.array([each.area_px for each in every], np.int64))

    def traits(self, classes: Sequence[str]) -> Ints:
        """(images, traits) the traits of each image, UNDEFINED where they need a candidate and there is none."""
        image = np.repeat(np.arange(len(self.n_candidates)), self.n_candidates)
        score, within = (np.rint(each * SCORE_ONE).astype(np.int64) for each in (self.score, self.mean_score))
        columns = [self.n_candidates, self._highest(image, score), self._mean(score), self._mean(within),
                   self._median_area(image)]
        for name in classes:
            own = self.class_name == name
            columns += [np.bincount(image[own], minlength=len(self.n_candidates)), self._highest(image[own], score[own])]
        return np.stack(columns, axis=1).astype(np.int64)

    def _highest(self, image: Ints, score: Ints) -> Ints:
        highest = np.zeros(len(self.n_candidates), np.int64)
        np.maximum.at(highest, image, score)
        return highest

    def _mean(self, values: Ints) -> Ints:
        """The mean of each image's values, which are in the order of the images, rounded down."""
        total = np.concatenate([[0], np.cumsum(values)])
        last = np.cumsum(self.n_candidates)
        sums = total[last] - total[last - self.n_candidates]
        return np.where(self.n_candidates > 0, sums // np.maximum(1, self.n_candidates), UNDEFINED)

    def _median_area(self, image: Ints) -> Ints:
        """The lower one of two in the middle."""
        area = self.area_px[np.lexsort((self.area_px, image))]
        first = np.cumsum(self.n_candidates) - self.n_candidates
        middle = np.minimum(first + (self.n_candidates - 1) // 2, max(0, len(area) - 1))
        return np.where(self.n_candidates > 0, area[middle] if len(area) else 0, UNDEFINED)


@dataclass(frozen=True, slots=True)
class Profile:
    """A calibration's images: how many, of how many units, and the traits of a sample of them.

    Of the units, and of each unit's images, some are drawn by chance: of a unit at most `most_a_unit`, as few of many units
    tell more than many of few. Numbers are joined by blanks: `unit` has one an image of the sample, and so has each of the
    `traits`, which are those of `traits_of(classes)`.
    """

    images: int
    units: int
    most_a_unit: int
    classes: tuple[str, ...]
    unit: str
    traits: tuple[str, ...]

    def __post_init__(self) -> None:
        wanted = len(traits_of(self.classes))
        if len(self.classes) > MOST_CLASSES or len(self.traits) != wanted:
            raise ValueError(f"expected at most {MOST_CLASSES} classes and, for {len(self.classes)}, {wanted} traits, got "
                             f"{len(self.traits)}")
        n = len(_numbers(self.unit))
        if not 1 <= n <= MOST_IMAGES or {len(_numbers(each)) for each in self.traits} != {n}:
            raise ValueError(f"expected a sample of 1 to {MOST_IMAGES} images and a number for each in each of the traits, "
                             f"got {n}")
        if not 1 <= self.units <= self.images or self.most_a_unit < 1:
            raise ValueError(f"expected images, units (at most as many) and most_a_unit to be 1 or more, got {self.images}, "
                             f"{self.units} and {self.most_a_unit}")

    @property
    def by_image(self) -> bool:
        """Whether each image is a unit of its own."""
        return self.units == self.images

    @property
    def images_a_unit(self) -> int:
        """About how many images a unit has."""
        return max(1, round(self.images / self.units))

    def sample_units(self) -> Ints:
        """(n,) the unit of each image of the sample."""
        return _numbers(self.unit)

    def sample_traits(self) -> Ints:
        """(n, traits) the traits of each image of the sample."""
        return np.stack([_numbers(each) for each in self.traits], axis=1)


def profile_of(unit: Ints, stored: Stored, *, classes: Sequence[str], seed: int) -> Profile:
    """The profile of a calibration: of its images, with the unit (images,) of each, and their stored candidates.

    classes: those of the model, in an order that the images did not choose. The first ten have traits of their own, if there
    are several. Raises ValueError where there is no image.
    """
    if not len(unit):
        raise ValueError("expected at least one image, got none")
    own = tuple(classes[:MOST_CLASSES]) if len(classes) > 1 else ()
    random = np.random.default_rng((seed, 2))
    names, of_image, counts = np.unique(unit, return_inverse=True, return_counts=True)
    chosen = random.permutation(len(names))[:MOST_IMAGES]
    most = min(int(counts.max()), max(1, MOST_IMAGES // len(chosen)))
    order = random.permutation(len(unit))
    order = order[np.argsort(of_image[order], kind="stable")]  # by unit, and within by chance
    place = np.arange(len(unit)) - np.searchsorted(of_image[order], of_image[order])
    sample = np.sort(order[(place < most) & np.isin(of_image[order], chosen)])
    return Profile(images=len(unit), units=len(names), most_a_unit=most, classes=own, unit=_text(of_image[sample]),
                   traits=tuple(_text(column) for column in stored.traits(own)[sample].T))


def _text(numbers: Ints) -> str:
    return " ".join(map(str, numbers.tolist()))


def _numbers(text: str) -> Ints:
    """Raises ValueError for what is no text of whole numbers."""
    try:
        return np.array([int(each) for each in text.split()], np.int64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"expected whole numbers of at most 64 bits, joined by blanks, got {text[:40]!r} ...") from error
