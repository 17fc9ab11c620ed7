"""Which images of a growing set a model learns from, is calibrated on and is compared on: for each the same part for ever.

An image's part is a hash of the seed and of what it belongs to (its group, else its bytes), so that a set which grows only
adds to each part. Images of the test set that was frozen stay in it, and what a model learnt from never comes into it.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from segsvc import truth
from segsvc.datasets import Dataset, LabelledImage, Split
from segsvc.errors import ConfigError, ImageError
from segsvc.readahead import in_order

SHARES = {Split.TEST: 0.25, Split.CALIBRATION: 0.35, Split.TRAIN: 0.4}
FEWEST = {Split.TEST: 10, Split.CALIBRATION: 10, Split.TRAIN: 4}  # units: with fewer nothing could be shown
_WORDS = {Split.TEST: "to compare on", Split.CALIBRATION: "to calibrate on", Split.TRAIN: "to learn from"}
_HASHED = 2**64


@dataclass(frozen=True, slots=True)
class Parts:
    """A set's images, each with its part as its split, and the sha256 of their bytes, image by image.

    passed_over: images that are in no part, since the model learnt from them while others of their group are compared on.
    """

    images: tuple[LabelledImage, ...]
    digests: tuple[str, ...]
    passed_over: int

    def of(self, split: Split) -> tuple[LabelledImage, ...]:
        return tuple(image for image in self.images if image.split is split)

    def digests_of(self, split: Split) -> frozenset[str]:
        return frozenset(digest for image, digest in zip(self.images, self.digests, strict=True) if image.split is split)


def parted(dataset: Dataset, *, seed: int, frozen: Collection[str], learnt: Collection[str]) -> Parts:
    """The parts of a set. frozen, learnt: sha256 of images that were compared on before, and that the model learnt from.

    A set that names the splits train, calibration and test keeps them. Raises ConfigError for a set that names others, for
    images that cannot be read, and for too few units.
    """
    if dataset.splits and not {Split.TRAIN, Split.CALIBRATION, Split.TEST} <= set(dataset.splits):
        raise ConfigError(f"{dataset.place}: expected a set that names no split, or train, calibration and test; got "
                          f"{', '.join(dataset.splits)}")
    digests = digests_of(dataset.images)
    images: list[LabelledImage] = []
    kept: list[str] = []
    passed_over = 0
    for unit in _units(dataset.images, digests):
        part = _part(dataset, unit, digests, seed, frozen, learnt)
        for index in unit.members:
            if part is not Split.TRAIN and digests[index] in learnt:
                passed_over += 1
            elif part is not None:
                images.append(replace(dataset.images[index], split=part))
                kept.append(digests[index])
    parts = Parts(tuple(images), tuple(kept), passed_over)
    _check_enough(dataset, parts)
    return parts


def digests_of(images: Sequence[LabelledImage]) -> tuple[str, ...]:
    """The sha256 of each image's bytes. Raises ConfigError where one cannot be read."""
    try:
        return tuple(in_order(lambda image: truth.content_digest(image.ref), images, at_once=truth.read_at_once(images)))
    except ImageError as error:
        raise ConfigError(f"expected images that can be read, got: {error}") from error


def unit_name(image: LabelledImage, digest: str) -> str:
    """What is drawn together with an image: its group, or its bytes alone."""
    return f"group {image.ref.group}" if image.ref.group is not None else f"bytes {digest}"


@dataclass(frozen=True, slots=True)
class _Unit:
    name: str
    members: tuple[int, ...]


def _units(images: Sequence[LabelledImage], digests: Sequence[str]) -> list[_Unit]:
    """Images that must stay together, of one group or of the same bytes, in the order of their first ones."""
    leader: dict[str, str] = {}

    def lead(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = name = leader[leader[name]]
        return name

    for image, digest in zip(images, digests, strict=True):
        one, other = sorted((lead(unit_name(image, digest)), lead(f"bytes {digest}")), key=lambda name: (
            not name.startswith("group "), name))  # what a group is called outlasts which images it has
        leader[other] = one
    members = defaultdict(list)
    for index, digest in enumerate(digests):
        members[lead(f"bytes {digest}")].append(index)
    return [_Unit(name, tuple(own)) for name, own in members.items()]


def _part(dataset: Dataset, unit: _Unit, digests: Sequence[str], seed: int, frozen: Collection[str],
          learnt: Collection[str]) -> Split | None:
    own = [digests[index] for index in unit.members]
    if any(digest in frozen for digest in own):
        return Split.TEST
    if dataset.splits:
        named = {dataset.images[index].split for index in unit.members}
        named = {Split.TRAIN if split is Split.VAL else split for split in named}
        return named.pop() if len(named) == 1 else None
    if any(digest in learnt for digest in own):
        return Split.TRAIN
    place = int.from_bytes(hashlib.sha256(f"{seed} {unit.name}".encode("utf-8", "surrogatepass")).digest()[:8]) / _HASHED
    for split, share in SHARES.items():
        place -= share
        if place < 0:
            return split
    return Split.TRAIN


def _check_enough(dataset: Dataset, parts: Parts) -> None:
    missing = {}
    for split, fewest in FEWEST.items():
        units = len({image.ref.group or image.ref.uri for image in parts.of(split)})
        if units < fewest:
            missing[split] = (units, fewest, math.ceil((fewest - units) / SHARES[split]))
    if missing:
        has_groups = any(image.ref.group is not None for image in dataset.images)
        what = "groups" if has_groups else "images"
        told = ", ".join(f"{units} {_WORDS[split]} of {fewest} at the least"
                         for split, (units, fewest, _) in missing.items())
        more = max(more for _, _, more in missing.values())
        raise ConfigError(f"{dataset.place}: expected enough labelled {what} for three parts, got {told}. Label about "
                          f"{more} more.")
