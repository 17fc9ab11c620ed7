"""What is true of labelled images: a data set opened by its layout, masks and objects, and images parted without leaks."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from segsvc import plugins
from segsvc.card import Extraction
from segsvc.datasets import (
    LABEL_SET,
    ClassTruth,
    Dataset,
    LabelledImage,
    Layout,
    MaskTruth,
    ObjectTruth,
    Split,
    TrueObject,
)
from segsvc.datasets.files import files_of, shown_path
from segsvc.errors import ConfigError, ImageError
from segsvc.imaging import masks
from segsvc.imaging.regions import extract_regions
from segsvc.index_masks import IndexArray, read_index_mask
from segsvc.readahead import in_order
from segsvc.readers import ReadLimits
from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.types import SCORE_ONE, Box, ImageRef

IGNORE = 255  # in an index mask: a px that counts neither for nor against
_LOOKS_LIKE_ANY = "class_folder"  # any folder of folders does: asked last
_CHUNK_BYTES = 8 << 20
_READ_AT_ONCE = 4  # from a disk
_MISSES_CLASS = 1.0  # what it is worth to give a part its first image of a class


def read_dataset(place: str, called: str | None = None) -> Dataset:
    """The data set at a place, as the layout sees it that recognises it; its images are not opened.

    called: how the user named it, where that is another name than its place; it is told so from then on. Raises
    ConfigError where there is nothing, where no layout recognises it, and where the layout cannot go on.
    """
    if place.startswith(LABEL_SET):
        raise ConfigError(f"DATASET: expected a folder or table, got {place!r}: label sets are read by the commands, which "
                          "know the ledger. `segsvc export` writes one out for programs.")
    files = files_of(place)
    names = plugins.names(plugins.PluginKind.DATASET)
    for name in sorted(names, key=lambda name: (name == _LOOKS_LIKE_ANY, name)):
        layout: Layout = plugins.load(plugins.PluginKind.DATASET, name)
        if layout.recognises(files):
            dataset = layout.open(files)
            return dataset if called is None else replace(dataset, place=called)
    came = "a table that is none of these" if files.is_table else f"{len(files.files)} images and none of these"
    raise ConfigError("DATASET: expected annotations.json beside images (COCO), images/ and masks/, a folder per class, or "
                      f"a .csv of uri,labels; {place!r} holds {came}. Known layouts: {', '.join(names)}.")


def index_mask(image: LabelledImage, dataset: Dataset, *, width_px: int, height_px: int) -> npt.NDArray[np.uint8]:
    """(height_px, width_px) uint8: 0 background, i for dataset.classes[i - 1], 255 ignore.

    Of objects that overlap the smallest one holds. Raises ConfigError: a mask that cannot be read, is of another size or
    holds values beyond the classes; an object that has a box alone; labels of whole images.
    """
    what = shown_path(image.ref.uri, dataset.place)
    match image.truth:
        case MaskTruth(mask):
            shown = shown_path(mask.uri, dataset.place)
            try:
                values = read_index_mask(mask, ReadLimits(decode_bytes=settings().decode_limit_bytes))
            except ImageError as error:
                raise ConfigError(f"{shown}: {error}") from error
            if (fault := size_fault(values.shape[1], values.shape[0], width_px, height_px)) is not None:
                raise ConfigError(f"{shown}: {fault}")
            if unknown := unknown_values(values, dataset):
                raise ConfigError(f"{shown}: {unknown_fault(unknown, dataset)}")
            return values.astype(np.uint8, copy=False)
        case ObjectTruth(objects, labelled_width_px, labelled_height_px):
            if (fault := size_fault(labelled_width_px, labelled_height_px, width_px, height_px)) is not None:
                raise ConfigError(f"{what}: {fault}")
            return _painted(objects, dataset, what, Box(0, 0, width_px, height_px))
        case ClassTruth():
            raise ConfigError(f"{what}: expected masks or objects, got labels of whole images")


def size_fault(got_width_px: int, got_height_px: int, width_px: int, height_px: int) -> str | None:
    """What is wrong where labels were made for another size than the image has; None where nothing is."""
    if (got_width_px, got_height_px) == (width_px, height_px):
        return None
    turned = ". Perhaps the image is turned when it is shown (EXIF), and was labelled without" * (
        (got_width_px, got_height_px) == (height_px, width_px))
    return (f"expected labels of the image's size, {width_px} x {height_px} px (width x height), got those of "
            f"{got_width_px} x {got_height_px} px{turned}")


def unknown_values(values: IndexArray, dataset: Dataset) -> list[int]:
    """The values of a mask that are no class of the set, sorted."""
    found = np.flatnonzero(np.bincount(values.ravel())).tolist()
    return [value for value in found if value > len(dataset.classes) and value != IGNORE]


def unknown_fault(unknown: Sequence[int], dataset: Dataset) -> str:
    """What is said of such values."""
    came = ", ".join(map(str, unknown[:8])) + (f" ... ({len(unknown)} in all)" if len(unknown) > 8 else "")
    return (f"expected px from 0 to {len(dataset.classes)} (as classes.txt has lines, the background first) or {IGNORE} for "
            f"'ignore', got {came}")


def _painted(objects: Sequence[TrueObject], dataset: Dataset, what: str, window: Box) -> npt.NDArray[np.uint8]:
    """The index mask of objects, the smaller ones over the larger ones."""
    number_of = {name: number for number, name in enumerate(dataset.classes, start=1)}
    layers = []
    for each in objects:
        if each.mask_rle is None and not each.ignored:
            raise ConfigError(f"{what}: expected objects with masks, got {each.class_name!r} with a box alone "
                              f"(x {each.box.x0} to {each.box.x1}, y {each.box.y0} to {each.box.y1}): such a set teaches "
                              "no px")
        rle = each.mask_rle if each.mask_rle is not None else masks.encode(
            np.ones((each.box.height_px, each.box.width_px), np.bool_))
        area_px = masks.area_px(rle, height_px=each.box.height_px, width_px=each.box.width_px)
        layers.append((area_px, (rle, each.box, IGNORE if each.ignored else number_of[each.class_name])))
    layers.sort(key=lambda layer: -layer[0])
    return np.asarray(masks.compose((layer for _, layer in layers), window=window), np.uint8)


def objects(image: LabelledImage, dataset: Dataset, *, width_px: int, height_px: int) -> tuple[TrueObject, ...]:
    """The objects in an image of that size; those of a mask are the 8-connected regions of each class.

    Px to ignore belong to none. Regions come in the order of their classes and boxes. Raises ConfigError as `index_mask`.
    """
    if isinstance(image.truth, ObjectTruth):
        fault = size_fault(image.truth.width_px, image.truth.height_px, width_px, height_px)
        if fault is not None:
            raise ConfigError(f"{shown_path(image.ref.uri, dataset.place)}: {fault}")
        return image.truth.objects
    return regions(index_mask(image, dataset, width_px=width_px, height_px=height_px), dataset)


def regions(mask: npt.NDArray[np.uint8], dataset: Dataset) -> tuple[TrueObject, ...]:
    """The 8-connected regions of each class in an index mask (h, w), in the order of classes and boxes."""
    found: list[TrueObject] = []
    for value in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist():
        if value in (0, IGNORE):
            continue
        name = dataset.classes[value - 1]
        scores = np.where(mask == value, np.uint16(SCORE_ONE), np.uint16(0))
        candidates, _ = extract_regions(scores, extraction=Extraction(), class_name=name)
        found += [TrueObject(name, each.box, each.mask_rle) for each in candidates]
    return tuple(found)


def has_boxes_alone(image: LabelledImage) -> bool:
    """Whether some object of the image has a box and no mask, so that its px are not known."""
    return isinstance(image.truth, ObjectTruth) and any(
        each.mask_rle is None and not each.ignored for each in image.truth.objects)


def class_names(image: LabelledImage) -> frozenset[str]:
    """The classes that an image shows by its labels or its objects; ignored ones count not.

    Raises ConfigError for an image with an index mask, which must be read to know them.
    """
    match image.truth:
        case ClassTruth(names):
            return names
        case ObjectTruth(marked):
            return frozenset(each.class_name for each in marked if not each.ignored)
        case MaskTruth(mask):
            raise ConfigError(f"{mask.uri}: expected labels or objects, got a mask, whose classes are known once it is read")


def content_digest(ref: ImageRef) -> str:
    """The sha256 of the file's bytes, hexadecimal. Raises ImageError."""
    digest = hashlib.sha256()
    blob = store_of(ref.uri).open(ref)
    try:
        for start in range(0, blob.size_bytes, _CHUNK_BYTES):
            digest.update(blob.read(start, start + _CHUNK_BYTES))
    finally:
        blob.close()
    return digest.hexdigest()


def data_digest(images: Sequence[LabelledImage]) -> str:
    """sha256 of what images and their labels hold, with group and split, whatever they are called. Raises ImageError."""
    lines = []
    for image in images:
        said = image.truth
        labels = (content_digest(said.mask) if isinstance(said, MaskTruth) else
                  " ".join(sorted(said.names)) if isinstance(said, ClassTruth) else repr(said.objects))
        lines.append(f"{content_digest(image.ref)} {image.ref.group or ''} {image.split or ''} {labels}")
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def read_at_once(images: Sequence[LabelledImage]) -> int:
    """How many images of a set are worth being read at once."""
    store = store_of(images[0].ref.uri if images else "file://")
    return store.in_flight if store.in_flight > 1 else _READ_AT_ONCE


# -- images in parts ---------------------------------------------------------------------------------------------------


def split_by_group(dataset: Dataset, *, seed: int, val_share: float = 0.2) -> Dataset:
    """The set with its images in train and val, about `val_share` of them in val: the same split for the same seed.

    Images of a group stay together, and so do those of the same bytes; classes are spread as evenly as that allows, and a
    class that two groups show is in both. Raises ConfigError where the set names splits, or has fewer than two groups.
    """
    if dataset.splits:
        raise ConfigError(f"{dataset.place}: expected a set that names no split, got {', '.join(dataset.splits)}")
    if not 0 < val_share < 1:
        raise ValueError(f"val_share must be above 0 and below 1, got {val_share}")
    parts = _parted(dataset, shares=(1 - val_share, val_share), seed=seed)
    split_at = {index: split for part, split in zip(parts, (Split.TRAIN, Split.VAL), strict=True) for index in part}
    return replace(dataset, images=tuple(replace(image, split=split_at[index])
                                         for index, image in enumerate(dataset.images)))


def folds_by_group(
    dataset: Dataset, *, n: int, seed: int
) -> list[tuple[tuple[LabelledImage, ...], tuple[LabelledImage, ...]]]:
    """Pairs of images to learn from and images held out, so that each image is held out once, by whole groups.

    There are `n` pairs, or as many as there are groups if those are fewer. Groups, classes and errors: `split_by_group`;
    splits that the set names are passed over.
    """
    if n < 2:
        raise ValueError(f"n must be at least 2, got {n}")
    parts = _parted(dataset, shares=(1 / n,) * n, seed=seed)
    images = dataset.images
    return [(tuple(image for index, image in enumerate(images) if index not in held),
             tuple(image for index, image in enumerate(images) if index in held)) for held in parts if held]


def _parted(dataset: Dataset, *, shares: Sequence[float], seed: int) -> list[set[int]]:
    """Indices of images in as many parts as there are shares; no more parts have any than there are units.

    Unit by unit, those with the rarest classes and the largest first, into the part that then lies nearest to its share of
    every class: after Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data" (2011), for groups.
    """
    units = _units(dataset.images)
    if len(units) < 2:
        raise ConfigError(f"{dataset.place}: expected at least two images or groups to part, got {len(units)}")
    shown = _shown(dataset)
    weights = np.array([shown[unit].sum(axis=0) for unit in units])  # (units, classes and, last, images)
    totals = weights.sum(axis=0)
    wanted = np.outer(shares, np.maximum(totals, 1.0))
    rarest = np.where(weights > 0, (weights > 0).sum(axis=0), len(units) + 1).min(axis=1)
    order = np.lexsort((np.random.default_rng(seed).permutation(len(units)), -weights[:, -1], rarest))
    filled = np.zeros_like(wanted)
    parts: list[set[int]] = [set() for _ in shares]
    for place, number in enumerate(order.tolist()):
        added = weights[number]
        before = ((filled / wanted - 1) ** 2).sum(axis=1)
        after = (((filled + added) / wanted - 1) ** 2).sum(axis=1)
        first = ((filled == 0) & (added > 0)).sum(axis=1) * _MISSES_CLASS
        gain = np.asarray(shares) * (before - after) + first
        still_empty = np.array([not part for part in parts])
        if still_empty.sum() >= len(units) - place:  # each unit that is left is needed for a part of its own
            gain[~still_empty] = -np.inf
        chosen = int(gain.argmax())
        parts[chosen].update(units[number])
        filled[chosen] += added
    return parts


def _units(images: Sequence[LabelledImage]) -> list[list[int]]:
    """Indices of images that must stay together: of one group, or of the same bytes. Raises ConfigError."""
    by_size = defaultdict(list)
    for index, image in enumerate(images):
        by_size[image.ref.size_bytes].append(index)
    alike = [index for indices in by_size.values() if len(indices) > 1 for index in indices]
    names: dict[int, list[str]] = {index: [f"group {image.ref.group}" if image.ref.group else f"image {image.ref.uri}"]
                                   for index, image in enumerate(images)}
    try:
        digests = in_order(lambda index: content_digest(images[index].ref), alike, at_once=read_at_once(images))
        for index, digest in zip(alike, digests, strict=True):
            names[index].append(f"bytes {digest}")
    except ImageError as error:
        raise ConfigError(f"expected images that can be read, got: {error}") from error
    leader: dict[str, str] = {}

    def lead(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = name = leader[leader[name]]
        return name

    for index in names:
        for other in names[index][1:]:
            leader[lead(other)] = lead(names[index][0])
    units = defaultdict(list)
    for index in names:
        units[lead(names[index][0])].append(index)
    return list(units.values())


def _shown(dataset: Dataset) -> npt.NDArray[np.float64]:
    """(images, classes + 1): 1 where an image shows a class, and always in the last column."""
    known = {name: number for number, name in enumerate(dataset.classes)}

    def numbers(image: LabelledImage) -> list[int]:
        if not isinstance(image.truth, MaskTruth):
            return [known[name] for name in class_names(image)]
        try:
            values = read_index_mask(image.truth.mask, ReadLimits(decode_bytes=settings().decode_limit_bytes))
        except ImageError as error:
            raise ConfigError(f"{shown_path(image.truth.mask.uri, dataset.place)}: {error}") from error
        found = np.flatnonzero(np.bincount(values.ravel())).tolist()
        return [value - 1 for value in found if 0 < value <= len(dataset.classes)]

    shown = np.zeros((len(dataset.images), len(known) + 1))
    shown[:, -1] = 1
    for row, found in zip(shown, in_order(numbers, dataset.images, at_once=read_at_once(dataset.images)), strict=True):
        row[found] = 1
    return shown
