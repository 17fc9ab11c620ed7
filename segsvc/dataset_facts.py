"""What is seen of each image of a data set when its bytes are looked at: size, digest, and what its labels hold."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from segsvc.datasets import ClassTruth, Dataset, LabelledImage, MaskTruth, ObjectTruth, ProblemKind
from segsvc.errors import ImageError, ImageErrorKind
from segsvc.index_masks import read_index_mask
from segsvc.loaded import BytesBlob
from segsvc.readahead import in_order
from segsvc.readers import ReadLimits, open_source
from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.truth import IGNORE, content_digest, read_at_once, regions, size_fault, unknown_fault, unknown_values
from segsvc.types import ImageRef, Source

_WHOLE_BYTES = 64 << 20  # a larger file is not held in memory

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with one image or mask; `uri` says which."""

    kind: ProblemKind
    message: str
    uri: str


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is seen of an image and its labels. Sizes are 0 and the digest "" where it cannot be read.

    `objects`: by class, how many it shows (1 for a label of a whole image, regions for a mask); ignored ones count not.
    `has_background` and `has_ignored` are of masks.
    """

    image: LabelledImage
    width_px: int = 0
    height_px: int = 0
    digest: str = ""
    objects: Mapping[str, int] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    has_background: bool = True
    has_ignored: bool = False


def look(dataset: Dataset, progress: Progress | None = None) -> Iterator[ImageFacts]:
    """The facts of each image, in the set's order: files and masks are read once each, several at a time.

    progress: told how many images are done, and of how many. Raises StoreError where the store as a whole cannot be read.
    """
    limits = ReadLimits(decode_bytes=settings().decode_limit_bytes)
    images = dataset.images
    seen = in_order(lambda image: _facts(image, dataset, limits), images, at_once=read_at_once(images))
    for number, facts in enumerate(seen, start=1):
        if progress is not None:
            progress(number, len(images))
        yield facts


def _facts(image: LabelledImage, dataset: Dataset, limits: ReadLimits) -> ImageFacts:
    faults: list[Fault] = []
    width_px = height_px = 0
    digest = ""
    try:
        width_px, height_px, digest = _seen(image.ref, limits)
    except ImageError as error:
        faults.append(Fault(ProblemKind.UNREADABLE, str(error), image.ref.uri))
    objects: Counter[str] = Counter()
    has_background, has_ignored = True, False
    match image.truth:
        case ClassTruth(names):
            objects.update(names)
        case ObjectTruth(marked, labelled_width_px, labelled_height_px):
            objects.update(each.class_name for each in marked if not each.ignored)
            if digest and (fault := size_fault(labelled_width_px, labelled_height_px, width_px, height_px)) is not None:
                faults.append(Fault(ProblemKind.OTHER_SIZE, fault, image.ref.uri))
        case MaskTruth(mask):
            try:
                values = read_index_mask(mask, limits)
            except ImageError as error:
                faults.append(Fault(ProblemKind.UNREADABLE, str(error), mask.uri))
            else:
                if digest and (fault := size_fault(values.shape[1], values.shape[0], width_px, height_px)) is not None:
                    faults.append(Fault(ProblemKind.OTHER_SIZE, fault, mask.uri))
                if unknown := unknown_values(values, dataset):
                    faults.append(Fault(ProblemKind.UNKNOWN_CLASS, unknown_fault(unknown, dataset), mask.uri))
                    values = np.where(np.isin(values, unknown), 0, values)
                objects.update(each.class_name for each in regions(values.astype(np.uint8, copy=False), dataset))
                has_background, has_ignored = bool((values == 0).any()), bool((values == IGNORE).any())
    return ImageFacts(image, width_px, height_px, digest, objects, tuple(faults), has_background, has_ignored)


def _seen(ref: ImageRef, limits: ReadLimits) -> tuple[int, int, str]:
    """Width, height and digest. Raises ImageError."""
    blob = store_of(ref.uri).open(ref)
    try:
        if blob.size_bytes > _WHOLE_BYTES:
            return *_size_px(open_source(blob, limits)), content_digest(ref)
        data = blob.read_all()
    finally:
        blob.close()
    return *_size_px(open_source(BytesBlob(data), limits)), hashlib.sha256(data).hexdigest()


def _size_px(source: Source) -> tuple[int, int]:
    """Width and height. Raises ImageError where the labels would not say which frame they are of."""
    if source.frames != 1:
        raise ImageError(ImageErrorKind.UNSUPPORTED, f"expected an image of one frame, got {source.frames}: save each as an "
                         "image of its own")
    return source.width_px, source.height_px
