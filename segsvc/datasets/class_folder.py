"""A folder per class: `class/image`, or `split/class/image`; folders within a class are gone into."""

from __future__ import annotations

from pathlib import Path

from segsvc.card import Task
from segsvc.datasets import ClassTruth, Dataset, DatasetFiles, LabelledImage, Problem, ProblemKind, Split, wrong
from segsvc.datasets.files import (
    SPLITS,
    annotated_folders,
    masked_folders,
    printable,
    shown_path,
    split_of,
    write_example_image,
)

_IN_A_CLASS = 2  # steps of class/image


class ClassFolderLayout:
    """Every image has exactly one class: the name of its folder."""

    name = "class_folder"
    task = Task.CLASSIFICATION

    def recognises(self, files: DatasetFiles) -> bool:
        """Whether there are images in folders, and neither annotations.json nor a folder `masks`."""
        if files.is_table or masked_folders(files) or annotated_folders(files):
            return False
        return any("/" in path for path in files.files)

    def open(self, files: DatasetFiles) -> Dataset:
        """The set."""
        problems: list[Problem] = []
        images: list[LabelledImage] = []
        by_split = _is_by_split(list(files.files))
        for path, ref in files.files.items():
            steps = path.split("/")
            split = split_of(steps[0]) if by_split else None
            inner = steps[1:] if split is not None else steps
            if by_split and split is None:
                message = f"expected an image in a split's folder ({', '.join(Split)}), got it in {steps[0]!r}: rename that"
                kind = ProblemKind.UNKNOWN_SPLIT
            elif len(inner) < _IN_A_CLASS:
                message = "expected an image in a folder that is called as its class, got it beside these folders"
                kind = ProblemKind.NO_LABELS
            else:
                images.append(LabelledImage(ref, ClassTruth(frozenset({printable(inner[0])})), split))
                continue
            problems.append(wrong(kind, message, shown_path(ref.uri, files.place)))
        problems += [wrong(ProblemKind.EMPTY_CLASS, "expected images in the folder of a class, got none: add some, or "
                           "remove it", printable(folder)) for folder in files.empty_folders
                     if _is_for_a_class(folder, by_split=by_split)]
        images.sort(key=lambda image: image.ref.uri.encode("utf-8", "surrogateescape"))
        classes = {name for image in images if isinstance(image.truth, ClassTruth) for name in image.truth.names}
        return Dataset(place=files.place, layout=self.name, task=self.task, classes=tuple(sorted(classes)),
                       images=tuple(images), exclusive=True, problems=tuple(problems), skipped=files.skipped)

    def example(self, folder: Path) -> None:
        """Two classes in train/ and val/, two images each, one of them in a folder within its class."""
        for seed, (split, name) in enumerate((split, name) for split in ("train", "val") for name in ("bar", "disc")):
            write_example_image(folder / split / name / f"{split} {name}.png", seed=2 * seed)
            write_example_image(folder / split / name / "more" / f"{split}+{name}.JPG", seed=2 * seed + 1)


def _is_for_a_class(folder: str, *, by_split: bool) -> bool:
    """Whether a folder lies where those of classes do."""
    steps = folder.split("/")
    return len(steps) == (2 if by_split and split_of(steps[0]) is not None else 1)


def _is_by_split(paths: list[str]) -> bool:
    """Whether the folders at the root are splits.

    A class may be called as a split is ("train"): the folders at the root are splits if two of them are called so, or if
    one is and its images lie mostly in folders of their own.
    """
    called_so = {path.split("/")[0] for path in paths if "/" in path} & SPLITS
    if len(called_so) != 1:
        return len(called_so) > 1
    depths = [path.count("/") for path in paths if path.split("/")[0] in called_so and "/" in path]
    return 2 * sum(depth >= _IN_A_CLASS for depth in depths) > len(depths)


PLUGIN = ClassFolderLayout()
