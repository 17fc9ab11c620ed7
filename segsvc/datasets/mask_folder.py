"""`images/` and `masks/` with files of the same stems, at the root or in each split's folder.

A mask is an image of one channel whose px say the class: value i is line i of `classes.txt` from 0, line 0 the background,
255 "ignore". Without `classes.txt` there is one class, `foreground`.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from pathlib import Path

from segsvc.card import Task
from segsvc.datasets import Dataset, DatasetFiles, LabelledImage, MaskTruth, Problem, ProblemKind, doubtful, wrong
from segsvc.datasets.files import (
    CLASSES,
    EXAMPLE_HEIGHT_PX,
    EXAMPLE_WIDTH_PX,
    IMAGES,
    MASKS,
    annotated_folders,
    masked_folders,
    shown_path,
    split_of,
    text_of,
    write_example_image,
)
from segsvc.errors import ConfigError
from segsvc.types import ImageRef

ONLY_CLASS = "foreground"
_MOST_CLASSES = 254  # values from 1 to 254


class MaskFolderLayout:
    """Index masks beside their images."""

    name = "mask_folder"
    task = Task.SEMANTIC

    def recognises(self, files: DatasetFiles) -> bool:
        """Whether there is a folder `masks` at the root or in a split's folder, and no annotations.json.

        A folder `images` and classes.txt will do: the masks are missing then.
        """
        return not files.is_table and bool(masked_folders(files)) and not annotated_folders(files)

    def open(self, files: DatasetFiles) -> Dataset:
        """The set; masks are not opened. Raises ConfigError where classes.txt cannot be read as names of classes."""
        problems: list[Problem] = []
        images: list[LabelledImage] = []
        folders = masked_folders(files)
        for folder in folders:
            images += _folder_images(files, folder, problems)
        taken = {posixpath.join(folder, kind) for folder in folders for kind in (IMAGES, MASKS)}
        problems += [wrong(ProblemKind.NO_LABELS, "expected an image in images/ beside masks/, got it elsewhere",
                           shown_path(ref.uri, files.place))
                     for path, ref in files.files.items() if not any(path.startswith(each + "/") for each in taken)]
        images.sort(key=lambda image: image.ref.uri.encode("utf-8", "surrogateescape"))
        return Dataset(place=files.place, layout=self.name, task=self.task, classes=_classes(files, folders, problems),
                       images=tuple(images), problems=tuple(problems), skipped=files.skipped)

    def example(self, folder: Path) -> None:
        """Two images each in train/ and val/, with two classes and px to ignore."""
        import cv2
        import numpy as np

        for split in ("train", "val"):
            for number in range(2):
                write_example_image(folder / split / IMAGES / f"{split} {number}.png", seed=len(split) + number)
                mask = np.zeros((EXAMPLE_HEIGHT_PX, EXAMPLE_WIDTH_PX), np.uint8)
                mask[4:9, 3 + number: 12] = 1
                mask[12:20, 14:20] = 2
                mask[:, -1] = 255
                (folder / split / MASKS).mkdir(exist_ok=True)
                (folder / split / MASKS / f"{split} {number}.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
        (folder / CLASSES).write_text("background\ndisc\nbar\n", encoding="utf-8")


def _folder_images(files: DatasetFiles, folder: str, problems: list[Problem]) -> list[LabelledImage]:
    """The images of one pair of folders that have a mask."""
    images, masks = (_by_stem(files, posixpath.join(folder, kind)) for kind in (IMAGES, MASKS))
    for kind, by_stem in (("image", images), ("mask", masks)):
        problems += [wrong(ProblemKind.DUPLICATE, f"expected one {kind} called {stem!r}, got another of another ending",
                           shown_path(ref.uri, files.place)) for stem, refs in by_stem.items() for ref in refs[1:]]
    problems += [wrong(ProblemKind.NO_LABELS, f"expected its mask as {posixpath.join(folder, MASKS, stem)}.png or of "
                       "another ending, there is none", shown_path(refs[0].uri, files.place))
                 for stem, refs in images.items() if stem not in masks]
    problems += [wrong(ProblemKind.NO_IMAGE, f"expected its image as {posixpath.join(folder, IMAGES, stem)} of any ending, "
                       "there is none", shown_path(refs[0].uri, files.place))
                 for stem, refs in masks.items() if stem not in images]
    return [LabelledImage(refs[0], MaskTruth(masks[stem][0]), split_of(folder))
            for stem, refs in images.items() if stem in masks]


def _by_stem(files: DatasetFiles, folder: str) -> dict[str, list[ImageRef]]:
    """Files below a folder by their path in it without its ending."""
    found = defaultdict(list)
    for path, ref in files.files.items():
        if path.startswith(folder + "/"):
            found[posixpath.splitext(path.removeprefix(folder + "/"))[0]].append(ref)
    return found


def _classes(files: DatasetFiles, folders: list[str], problems: list[Problem]) -> tuple[str, ...]:
    """The classes without the background. Raises ConfigError."""
    places = [path for path in dict.fromkeys([CLASSES, *(posixpath.join(folder, CLASSES) for folder in folders)])
              if files.table(path) is not None]
    said = {path: _lines(files.table(path) or b"", path) for path in places}
    for path in places[1:]:
        if said[path] != said[places[0]]:
            raise ConfigError(f"{path}: expected the classes of {places[0]}, {', '.join(said[places[0]])}; got "
                              f"{', '.join(said[path])}. Keep one {CLASSES}, at the root.")
    if places:
        return said[places[0]]
    problems.append(doubtful(ProblemKind.UNKNOWN_CLASS, f"there is no {CLASSES}: px of 1 are taken as one class, "
                             f"{ONLY_CLASS!r}. Write a line for each value, the background first."))
    return (ONLY_CLASS,)


def _lines(data: bytes, name: str) -> tuple[str, ...]:
    """The names after that of the background. Raises ConfigError."""
    names = [line.strip() for line in text_of(data, name).rstrip().splitlines()]
    classes = tuple(names[1:])
    if not classes or len(classes) > _MOST_CLASSES or not all(names):
        raise ConfigError(f"{name}: expected the background and then 1 to {_MOST_CLASSES} classes, a name a line; got "
                          f"{len(names)} lines" + (f", line {names.index('') + 1} being empty" if "" in names else ""))
    if twice := sorted({each for each in names if names.count(each) > 1}):
        raise ConfigError(f"{name}: expected names that differ from each other, got {twice[0]!r} twice")
    return classes


PLUGIN = MaskFolderLayout()
