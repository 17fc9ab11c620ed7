"""A CSV with the columns `uri,labels[,group,split,...]`: labels joined by `|`, none of the classes where it is empty.

A relative uri is looked for beside the table; further columns are carried along. Rows that come from a review say so by
`review_run` (`segsvc.datasets.origin`).
"""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

from segsvc.card import Task
from segsvc.datasets import ClassTruth, Dataset, DatasetFiles, LabelledImage, Problem, ProblemKind, Split, wrong
from segsvc.datasets.files import shown_path, split_of, text_of, write_example_image
from segsvc.datasets.origin import Origin, joined, of_columns
from segsvc.errors import ConfigError

_NEEDED = ("uri", "labels")
_JOINED_BY = "|"


class LabelTableLayout:
    """Images with one class, several, or none."""

    name = "label_table"
    task = Task.CLASSIFICATION

    def recognises(self, files: DatasetFiles) -> bool:
        """Whether the place is a .csv."""
        return files.is_table and files.place.lower().endswith(".csv")

    def open(self, files: DatasetFiles) -> Dataset:
        """The set. Raises ConfigError for a file that is no such table, or a store that is not known."""
        what = shown_path(files.place, files.place)
        problems: list[Problem] = []
        rows = _rows(text_of(files.table("") or b"", what), what, problems)
        images: dict[str, LabelledImage] = {}
        origins: list[Origin | None] = []
        for (line, row), (ref, is_there) in zip(rows, files.refer([row["uri"] for _, row in rows]), strict=True):
            where, place = shown_path(ref.uri, files.place), f"{what}, line {line}"
            if not is_there:
                problems.append(wrong(ProblemKind.NO_IMAGE, f"{place}: expected an image there, there is none", where))
            elif ref.uri in images:
                problems.append(wrong(ProblemKind.DUPLICATE, f"{place}: expected one row an image, got another: join its "
                                      f"labels by {_JOINED_BY!r}", where))
            else:
                names = frozenset(name.strip() for name in row.pop("labels").split(_JOINED_BY) if name.strip())
                split = _split(row.pop("split", ""), place, where, problems)
                del row["uri"]
                origins.append(of_columns(row))
                images[ref.uri] = LabelledImage(replace(ref, group=row.pop("group", "") or None, meta=row),
                                                ClassTruth(names), split)
        ordered = tuple(images[uri] for uri in sorted(images, key=lambda uri: uri.encode("utf-8", "surrogateescape")))
        shown = [image.truth.names for image in ordered if isinstance(image.truth, ClassTruth)]
        classes = tuple(sorted(frozenset[str]().union(*shown)))
        exclusive = len(classes) > 1 and all(len(names) == 1 for names in shown)
        return Dataset(place=files.place, layout=self.name, task=self.task, classes=classes, images=ordered,
                       exclusive=exclusive, problems=tuple(problems), origin=joined(origins))

    def example(self, folder: Path) -> None:
        """`labels.csv` and six images with two classes, one class or none, in two splits."""
        shown = {"train a": "bar|disc", "train b": "", "train c": "disc", "val a": "bar", "val b": "disc|bar", "val c": ""}
        lines = ["uri,labels,group,split,site"]
        for seed, (name, labels) in enumerate(shown.items()):
            write_example_image(folder / "pictures" / f"{name}.png", seed=seed)
            lines.append(f"pictures/{name}.png,{labels},{name[:-2]}-{seed // 2},{name.split()[0]},north")
        (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows(text: str, what: str, problems: list[Problem]) -> list[tuple[int, dict[str, str]]]:
    """The rows with the line on which each ends; those that are none are said. Raises ConfigError."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise ConfigError(f"{what}: expected a .csv with the columns uri,labels[,group,split]; got: {error}") from error
    if not set(_NEEDED) <= set(columns) or len(set(columns)) != len(columns):
        came = ",".join(columns)
        hint = " Columns are parted by commas." if ";" in came or "\t" in came else ""
        raise ConfigError(f"{what}: expected the columns uri,labels[,group,split], each once; got "
                          f"{came[:200] or 'none'}.{hint}")
    rows = []
    try:
        for row in reader:
            line = f"{what}, line {reader.line_num}"
            fields = dict(zip(columns, row + [""] * (len(columns) - len(row)), strict=False))
            if len(row) > len(columns) or (row and len(row) < len(_NEEDED)):
                problems.append(wrong(ProblemKind.UNREADABLE, f"{line}: expected {len(columns)} fields, got {len(row)}",
                                      what))
            elif row and not fields["uri"].strip():
                problems.append(wrong(ProblemKind.NO_IMAGE, f"{line}: expected a uri, got none", what))
            elif row:
                rows.append((reader.line_num, {**fields, "uri": fields["uri"].strip()}))
    except csv.Error as error:  # what follows a quote that is never closed cannot be told apart
        problems.append(wrong(ProblemKind.UNREADABLE, f"{what}, line {reader.line_num}: expected a .csv table, got: {error}."
                              " The lines after it are not read", what))
    return rows


def _split(said: str, line: str, where: str, problems: list[Problem]) -> Split | None:
    if not said.strip():
        return None
    if (split := split_of(said.strip().lower())) is None:
        problems.append(wrong(ProblemKind.UNKNOWN_SPLIT, f"{line}: expected a split of {', '.join(Split)} or nothing, got "
                              f"{said[:40]!r}", where))
    return split


PLUGIN = LabelTableLayout()
