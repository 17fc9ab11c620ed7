"""Which images a model learns from, and which its figures are of."""

from __future__ import annotations

from dataclasses import dataclass, replace

from segsvc import truth
from segsvc.datasets import Dataset, LabelledImage, Split
from segsvc.errors import ConfigError

_FEWEST_HELD = 30  # units: with fewer in validation, figures are of out-of-fold models
_FOLDS = 4
_HELD_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Fold:
    """Images to learn from, and images that are held out."""

    learnt: tuple[LabelledImage, ...]
    held: tuple[LabelledImage, ...]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Which images are learnt from, and which figures are of.

    With `folds` the model itself learns from all images, and figures are those of other models, each of which saw nothing
    of the images that it is judged on. Without, `whole.held` is validation.
    """

    whole: Fold
    folds: tuple[Fold, ...] = ()


def arrange(dataset: Dataset, *, seed: int) -> Arrangement:
    """How a data set's images are used. Raises ConfigError where there are fewer than two units to learn from."""
    if dataset.splits:
        pool, held = dataset.of(Split.TRAIN), dataset.of(Split.VAL)
        if not pool:
            raise ConfigError(f"{dataset.place}: expected images in the split train, got splits "
                              f"{', '.join(dataset.splits)} without it")
        if held:
            return Arrangement(Fold(pool, held))
    else:
        pool = dataset.images
    units = len({image.ref.group or image.ref.uri for image in pool})
    if units < 2:
        raise ConfigError(f"{dataset.place}: expected at least 2 images (or groups) to learn from, so that one can be held "
                          f"out, got {units}. Cut a large image into several.")
    free = replace(dataset, images=tuple(replace(image, split=None) for image in pool))
    if units * _HELD_SHARE >= _FEWEST_HELD:
        parted = truth.split_by_group(free, seed=seed, val_share=_HELD_SHARE)
        return Arrangement(Fold(parted.of(Split.TRAIN), parted.of(Split.VAL)))
    folds = truth.folds_by_group(free, n=min(_FOLDS, units), seed=seed)
    return Arrangement(Fold(pool, ()), tuple(Fold(learnt, held) for learnt, held in folds))
