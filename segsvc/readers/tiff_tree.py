"""Which pages of a TIFF are its frames and which are smaller copies of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from segsvc.errors import ImageError, ImageErrorKind
from segsvc.readers.limits import corrupt, unsupported
from segsvc.readers.ranges import Ranges
from segsvc.readers.tiff_directory import Directory, Layout, read_directory
from segsvc.readers.tiff_page import MASK, MAX_SUB_DIRECTORIES, REDUCED, Page, Tag, read_page
from segsvc.readers.tiff_scale import is_aperio

MAX_PAGES = 65_536
ASPECT_TOLERANCE = 0.05  # how far the reductions of width and height may be apart, by rounding and padding


class LevelKind(Enum):
    """Where a frame's smaller copies are."""

    SUB_DIRECTORY = "sub"  # directories below that of the frame
    CHAIN = "chain"  # pages after that of the frame


@dataclass(frozen=True, slots=True)
class PageNote:
    """What is remembered of a page: where it is and what it takes to see what it is."""

    at: int
    width_px: int
    height_px: int
    channels: int
    out_dtype: np.dtype[np.generic]
    is_reduced: bool
    is_tiled: bool

    def is_like(self, other: PageNote) -> bool:
        return (self.width_px, self.height_px) == (other.width_px, other.height_px) and self.has_type_of(other)

    def has_type_of(self, other: PageNote) -> bool:
        return (self.channels, self.out_dtype) == (other.channels, other.out_dtype)

    def is_copy_of(self, whole: PageNote) -> bool:
        """Whether this is `whole`, made smaller."""
        across, down = whole.width_px / self.width_px, whole.height_px / self.height_px
        close = abs(across - down) <= ASPECT_TOLERANCE * across or max(self.width_px, self.height_px) <= 16
        return self.has_type_of(whole) and across > 1 and down > 1 and close


@dataclass(frozen=True, slots=True)
class TreeLevel:
    """A smaller copy of every frame: its size, and the how-manieth of its kind it is."""

    width_px: int
    height_px: int
    kind: LevelKind
    index: int


@dataclass(frozen=True, slots=True)
class Tree:
    """Where each frame's page is, the pages that follow it as smaller copies, and the levels below 0."""

    frames: tuple[int, ...]
    copies: tuple[tuple[int, ...], ...]
    levels: tuple[TreeLevel, ...]


def read_chain(ranges: Ranges, layout: Layout, first_at: int) -> list[PageNote]:
    """What all pages of the main chain are, masks left out; quick even where a hostile file has millions.

    Raises ImageError: CORRUPT for a chain that bites its tail or leaves the file, UNSUPPORTED for pages that cannot
    be read or are too many.
    """
    notes: list[PageNote] = []
    seen: set[int] = set()
    at = first_at
    while at:
        if at in seen:
            raise corrupt(f"the TIFF is damaged: its pages go in a circle at byte {at}")
        if len(seen) == MAX_PAGES:
            raise unsupported(f"the TIFF has more than {MAX_PAGES} pages; split it")
        seen.add(at)
        directory = read_directory(ranges, layout, at)
        if not directory.integer(Tag.SUBFILE_TYPE, 0) & MASK:
            try:
                notes.append(note_of(read_page(directory)))
            except ImageError as error:
                if len(notes) == 0 or error.kind is not ImageErrorKind.UNSUPPORTED or not _is_extra(directory):
                    raise ImageError(error.kind, f"page {len(seen)}: {error}" if len(seen) > 1 else str(error)) from None
        at = directory.next_at
    if not notes:
        raise corrupt("the TIFF has no page with a picture")
    return notes


def _is_extra(directory: Directory) -> bool:
    return bool(directory.integer(Tag.SUBFILE_TYPE, 0) & REDUCED)


def note_of(page: Page) -> PageNote:
    """What is remembered of a page."""
    return PageNote(page.directory.at, page.width_px, page.height_px, page.channels, page.out_dtype,
                    _is_extra(page.directory), page.is_tiled)


def build_tree(notes: Sequence[PageNote], first: Page, description: str) -> Tree:
    """Frames and levels of a TIFF with these pages, the first of which is `first`.

    Pages marked as reduced belong to the page before them; those that are no copy of it (thumbnails) are left out. In
    an Aperio slide the first page and its tiled copies count. Pages that only get smaller are a pyramid, marked or not.
    Raises ImageError(UNSUPPORTED) for pages of different sizes that are none of these.
    """
    head = notes[0]
    if is_aperio(description):
        copies = tuple(note for note in notes[1:] if note.is_tiled and note.is_copy_of(head))
        return _tree([head], [copies], [])
    if len(notes) > 1 and not any(note.is_reduced for note in notes) and _gets_smaller(notes):
        return _tree([head], [tuple(notes[1:])], [])
    frames: list[PageNote] = []
    groups: list[tuple[PageNote, ...]] = []
    for number, note in enumerate(notes, 1):
        if frames and note.is_reduced:
            if note.is_copy_of(head):
                groups[-1] = (*groups[-1], note)
            continue
        if not note.is_like(head):
            raise unsupported(
                f"page {number} of the TIFF is {note.width_px} x {note.height_px} px, {note.channels} channels of "
                f"{note.out_dtype}, page 1 is {first.describe()}: pages have to be alike to be frames; "
                "save them as files of their own")
        frames.append(note)
        groups.append(())
    return _tree(frames, groups, _sub_notes(first, head) if len(frames) > 0 else [])


def _gets_smaller(notes: Sequence[PageNote]) -> bool:
    return all(later.is_copy_of(notes[0]) and later.width_px < earlier.width_px
               for earlier, later in itertools.pairwise(notes))


def sub_directories(page: Page) -> tuple[int, ...]:
    """Where the directories below that of a page are."""
    return tuple(int(at) for at in page.directory.integers(Tag.SUB_DIRECTORIES, MAX_SUB_DIRECTORIES))


def _sub_notes(first: Page, head: PageNote) -> list[tuple[int, PageNote]]:
    """The smaller copies among the directories below the first page, each with its place among them."""
    notes = []
    for index, at in enumerate(sub_directories(first)):
        try:
            note = note_of(read_page(read_directory(first.directory.ranges, first.directory.layout, at)))
        except ImageError as error:
            if error.kind is not ImageErrorKind.UNSUPPORTED:
                raise
            continue
        if note.is_copy_of(head):
            notes.append((index, note))
    return notes


def _tree(frames: Sequence[PageNote], groups: Sequence[tuple[PageNote, ...]],
          below: Sequence[tuple[int, PageNote]]) -> Tree:
    """A tree whose levels are those that every frame has, the largest first, one of each size."""
    shared = min(len(group) for group in groups)
    found = [TreeLevel(note.width_px, note.height_px, LevelKind.SUB_DIRECTORY, index) for index, note in below]
    found += [TreeLevel(note.width_px, note.height_px, LevelKind.CHAIN, index)
              for index, note in enumerate(groups[0][:shared])]
    by_size = {(level.width_px, level.height_px): level for level in reversed(found)}
    levels = tuple(by_size[size] for size in sorted(by_size, reverse=True))
    return Tree(tuple(note.at for note in frames), tuple(tuple(note.at for note in group) for group in groups), levels)
