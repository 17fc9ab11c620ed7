"""A random sample of whole images for people to label: from a folder, a bucket, a manifest, or a finished run.

What it was drawn from, the frame, is written down as it was listed then. The order of drawing is a hash of seed and unit,
and of nothing else: so whoever has the frame can draw again and see that nobody chose, and drawing goes on where it ended.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from segsvc.card import Task
from segsvc.datasets import Split
from segsvc.documents import RunDocument
from segsvc.errors import ConfigError, ImageError
from segsvc.labels.frame import drawn, write_frame
from segsvc.ledger import label_sets
from segsvc.ledger.errors import Unknown
from segsvc.ledger.label_records import (
    DrawnImage,
    LabelSet,
    LabelTask,
    NewSet,
    ShownCandidate,
    WhereDiffer,
    check_classes,
    check_set_name,
)
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import ImageRecord
from segsvc.models.library import find_model
from segsvc.plan import listing, read_input
from segsvc.readahead import in_order
from segsvc.readers import ReadLimits, opened
from segsvc.results import RunFolder
from segsvc.settings import settings, user_data
from segsvc.stores import Skip, store_of
from segsvc.summary import finished_document
from segsvc.types import Band, Box, ImageRef, ImageStatus
from segsvc.views import OpenRun

_OPENED_AT_ONCE = 8
_LARGEST_SEED = 2**63


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """What is asked for. source: INPUT, or a finished run's OUT. class_names: none to take those of the run or model.

    more: `n` further units for a set that there is; of what is said of the set otherwise only its classes are looked at.
    """

    source: str
    n: int
    name: str
    seed: int = 0
    grouped_by: str | None = None
    class_names: tuple[str, ...] = ()
    task: LabelTask | None = None
    model: str | None = None
    readers: int = 1
    where_differ: WhereDiffer = WhereDiffer.EITHER
    more: bool = False

    def __post_init__(self) -> None:
        check_set_name(self.name)
        if self.n < 1:
            raise ConfigError(f"--n: expected at least 1, got {self.n}")
        if not 0 <= self.seed < _LARGEST_SEED:
            raise ConfigError(f"--seed: expected 0 to {_LARGEST_SEED - 1}, got {self.seed}")


@dataclass(frozen=True, slots=True)
class Sampled:
    """What came of it: the set as it is, how many images were drawn just now, and what was passed over in the listing."""

    record: LabelSet
    new_images: int
    skipped: dict[str, int] = field(default_factory=dict)


def sample(ledger: Ledger, asked: SampleRequest, say: Callable[[str], None] = lambda text: None) -> Sampled:
    """Draws images and puts them into a label set of the ledger. Raises ConfigError, before anything is stored."""
    there = _there(ledger, asked.name)
    if asked.more:
        return _draw_on(ledger, asked, there, say)
    if there is not None:
        raise ConfigError(f"--name: expected a new name, got {asked.name!r}, a label set of {there.drawn} images. --more "
                          f"draws {asked.n} further ones into it.")
    source = _source(asked.source)
    run, folder = source.run, source.folder
    classes, task = _about(asked, run)
    skipped: Counter[str] = Counter()
    rows = _run_rows(folder, skipped) if folder is not None else _listed_rows(asked.source, skipped)
    place = _frame_place(ledger, asked.name)
    with ExitStack() as undo:  # a set that is not made leaves no frame
        undo.callback(place.unlink, missing_ok=True)
        frame = write_frame(place, _some(rows, source, skipped), grouped_by=asked.grouped_by, n=asked.n, say=say)
        new = NewSet(asked.name, task, classes, source.uri, frame, asked.seed,
                     run_id=run.id if run is not None else None, grouped_by=asked.grouped_by, readers=asked.readers,
                     where_differ=asked.where_differ)
        refs = drawn(frame, asked.seed, 0, asked.n)
        images = list(_opened(refs, folder, say))
        record = label_sets.create(ledger, new, images, units=asked.n)
        undo.pop_all()
    return Sampled(record, len(images), dict(skipped))


def _draw_on(ledger: Ledger, asked: SampleRequest, there: LabelSet | None, say: Callable[[str], None]) -> Sampled:
    if there is None:
        raise ConfigError(f"--more: expected a label set that there is, got {asked.name!r}. Without --more it is made.")
    if asked.class_names and asked.class_names != there.class_names:
        raise ConfigError(f"--class: expected none with --more, or the classes of the label set {there.name}, "
                          f"{', '.join(there.class_names)}; got {', '.join(asked.class_names)}")
    source = _source(asked.source)
    if source.uri != there.input:
        raise ConfigError(f"INPUT: expected what the label set {there.name} was drawn from, {there.input}, got {source.uri}."
                          " A set is a random sample of one frame alone: draw another one of it, with another --name.")
    refs = drawn(there.frame, there.seed, there.drawn_units, asked.n)
    images = list(_opened(refs, source.folder, say))
    units = there.drawn_units + asked.n
    return Sampled(label_sets.extend(ledger, there.name, images, units=units, before=there.drawn_units), len(images))


def _there(ledger: Ledger, name: str) -> LabelSet | None:
    try:
        return label_sets.find(ledger, name)
    except Unknown:
        return None


def _about(asked: SampleRequest, run: RunDocument | None) -> tuple[tuple[str, ...], LabelTask]:
    """The classes that are labelled, and whether objects or whole images are."""
    card = None
    if asked.model is not None or (run is not None and not (asked.class_names and asked.task)):
        card = find_model(asked.model if asked.model is not None else run.spec.model if run is not None else "").card
    classes = asked.class_names or (card.class_names if card is not None else ())
    if not classes:
        raise ConfigError("--class: expected the classes that people are to mark, such as --class car --class sign, or "
                          "--model MODEL to take its classes; got none")
    check_classes(classes)
    of_model = LabelTask.CLASSES if card is not None and card.task is Task.CLASSIFICATION else LabelTask.OBJECTS
    return tuple(classes), asked.task or of_model


# -- the frame --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Source:
    """What is drawn from. run, folder: of a finished run; None where it is no run's folder."""

    uri: str
    run: RunDocument | None = None
    folder: RunFolder | None = None


def _source(place: str) -> _Source:
    """What lies there. Raises ConfigError where there is nothing, and for a run that is not finished."""
    try:
        folder = RunFolder(store_of(place).folder(place))
        is_run = folder.read_json("spec.json") is not None
    except (OSError, ConfigError):  # what is no folder may be another INPUT
        is_run = False
    if not is_run:
        return _Source(read_input(place).uri)
    return _Source(folder.uri, finished_document(folder, place), folder)


def _listed_rows(source: str, skipped: Counter[str]) -> Iterator[ImageRef]:
    for entry in listing(read_input(source)):
        if isinstance(entry.found, Skip):
            skipped[entry.found.value] += 1
        else:
            yield entry.found


def _some(rows: Iterator[ImageRef], source: _Source, skipped: Counter[str]) -> Iterator[ImageRef]:
    """The same rows. Raises ConfigError where there are none."""
    first = next(rows, None)
    if first is None:
        over = ", ".join(f"{count} {why}" for why, count in sorted(skipped.items()))
        raise ConfigError(f"INPUT: expected at least one image, found none in {source.uri}"
                          + (f" (passed over: {over})" if over else ""))
    yield first
    yield from rows


def _run_rows(folder: RunFolder, skipped: Counter[str]) -> Iterator[ImageRef]:
    """The images that the run has read; of others it promises nothing."""
    for images in OpenRun(folder).image_parts():
        for row in images.select(["image_uri", "image_version", "status", "group", "meta"]).to_pylist():
            if row["status"] in (ImageStatus.DONE.value, ImageStatus.EMPTY.value):
                yield ImageRef(row["image_uri"], row["image_version"], 0, row["group"], dict(row["meta"]))
            else:
                skipped[row["status"]] += 1


def _frame_place(ledger: Ledger, name: str) -> Path:
    folder = ledger.folder / "frames" if ledger.folder is not None else (
        user_data("frames") / hashlib.sha256(ledger.shown.encode()).hexdigest()[:12])
    return folder / f"{name}.parquet"


# -- what is kept of an image that was drawn --------------------------------------------------------------------------------


def _opened(refs: Sequence[tuple[ImageRef, str]], folder: RunFolder | None, say: Callable[[str], None]
            ) -> Iterator[DrawnImage]:
    """Each with its size, read from the image itself; one that cannot be opened is drawn all the same, and said."""
    shown = _flagged(folder, {ref.image_id for ref, _ in refs}) if folder is not None else None
    limits = ReadLimits(decode_bytes=settings().decode_limit_bytes)

    def one(each: tuple[ImageRef, str]) -> DrawnImage:
        ref, unit = each
        split = ref.meta.get("split", "").strip().lower()
        meta = {**ref.meta, **({"group": ref.group} if ref.group is not None else {})}
        known = split if split in [one.value for one in Split] else None
        try:
            with opened(store_of(ref.uri).open(ref), limits) as source:
                image = ImageRecord(ref.image_id, ref.uri, ref.version, source.width_px, source.height_px, source.frames)
        except ImageError as error:
            return DrawnImage(ref.uri, unit, None, str(error), known, meta)
        return DrawnImage(ref.uri, unit, image, None, known, meta,
                          tuple(shown.get(ref.image_id, ())) if shown is not None else None)

    for image in in_order(one, refs, at_once=_OPENED_AT_ONCE):
        if image.fault is not None:
            say(f"cannot be opened, and will not be labelled: {image.uri}: {image.fault}")
        yield image


def _flagged(folder: RunFolder, image_ids: set[str]) -> dict[str, list[ShownCandidate]]:
    """The candidates of these images that no rule rejects."""
    found: dict[str, list[ShownCandidate]] = {}
    wanted = pa.array(sorted(image_ids))
    for images, candidates in OpenRun(folder).parts():
        if not image_ids.intersection(images["image_id"].to_pylist()):
            continue
        for row in candidates.filter(pc.is_in(candidates["image_id"], wanted)).to_pylist():
            if row["band"] != Band.REJECTED.value:
                found.setdefault(row["image_id"], []).append(ShownCandidate(
                    row["candidate_id"], row["class_name"], Box(row["x0"], row["y0"], row["x1"], row["y1"]),
                    row["mask_rle"], row["score"]))
    return found
