"""`segsvc datasets`."""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence

import click

from segsvc.card import Task
from segsvc.cli.dataset_argument import resolve
from segsvc.cli.from_review import from_review
from segsvc.cli.ledger_flag import labels_flag
from segsvc.cli.main import CommandGroup, Exit
from segsvc.dataset_check import problems_of
from segsvc.dataset_facts import ImageFacts, look
from segsvc.datasets import Dataset, Problem, Severity
from segsvc.documents import DatasetCheckDocument, DatasetClass, DatasetDocument, DatasetProblem, SidePx
from segsvc.truth import read_dataset

_NO_SPLIT = "none"
_PLACES_SHOWN = 5  # of a kind of problem
_SAY_EVERY_S = 10.0
_SHOW_EVERY_S = 0.2


@click.group("datasets", cls=CommandGroup)
def command() -> None:
    """Check labelled images, all that is wrong at once; show what is in them.

    A DATASET is COCO (annotations.json beside the images), images/ and masks/, a folder per class, or a .csv of uri,labels;
    on disk or s3://bucket/prefix; with splits as folders train/ val/ calibration/ test/ or a column. Or it is label:SET,
    images that were drawn by `segsvc sample` and labelled here.
    """


command.add_command(from_review)


@command.command("check")
@click.argument("dataset")
@labels_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check_dataset(dataset: str, ledger: str, as_json: bool) -> int:
    """Read every image and label of DATASET and list what is wrong. Ends with 1 where there are errors."""
    opened = read_dataset(resolve(dataset, ledger))
    problems = problems_of(opened, _looked_at(opened))
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    document = DatasetCheckDocument(
        place=opened.place, layout=opened.layout, task=opened.task.value, images=len(opened.images), ok=errors == 0,
        errors=errors, warnings=len(problems) - errors, skipped=dict(opened.skipped),
        problems=[DatasetProblem(severity=problem.severity.value, kind=problem.kind.value, message=problem.message,
                                 where=problem.where) for problem in problems])
    click.echo(document.model_dump_json(indent=2) if as_json else "\n".join(_check_lines(document, problems)))
    return Exit.FAILED if errors else Exit.DONE


@command.command("show")
@click.argument("dataset")
@labels_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show_dataset(dataset: str, ledger: str, as_json: bool) -> int:
    """Show the classes of DATASET with images and objects by split, its groups and sizes."""
    opened = read_dataset(resolve(dataset, ledger))
    facts = _looked_at(opened)
    document = _shown(opened, facts, problems_of(opened, facts))
    click.echo(document.model_dump_json(indent=2) if as_json else "\n".join(_show_lines(document)))
    return Exit.DONE


def _looked_at(dataset: Dataset) -> tuple[ImageFacts, ...]:
    """The facts of all images; says on stderr how far it is where that takes a while."""
    terminal = sys.stderr.isatty()
    every = _SHOW_EVERY_S if terminal else _SAY_EVERY_S
    said_at = time.monotonic()
    has_said = False

    def say(done: int, of: int) -> None:
        nonlocal said_at, has_said
        if (now := time.monotonic()) - said_at >= every:
            said_at, has_said = now, True
            click.echo(f"\r{done} of {of} images\x1b[K" if terminal else f"{done} of {of} images", nl=not terminal, err=True)

    try:
        return tuple(look(dataset, say))
    finally:
        if terminal and has_said:
            click.echo("\r\x1b[K", nl=False, err=True)


def _number(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


# -- check -------------------------------------------------------------------------------------------------------------


def _check_lines(document: DatasetCheckDocument, problems: Sequence[Problem]) -> list[str]:
    """Problems by severity and kind, the first few of each."""
    lines = [f"{document.place}: {document.layout}, {document.task}, {_number(document.images, 'image')}"]
    if document.skipped:
        lines.append("skipped: " + ", ".join(f"{count} {name}" for name, count in sorted(document.skipped.items())))
    of_kind: defaultdict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        of_kind[problem.severity.value, problem.kind.value].append(problem)
    for (severity, kind), several in of_kind.items():
        lines.append(f"{severity} {kind} ({len(several)})")
        lines += [f"  {problem.where}: {problem.message}" if problem.where else f"  {problem.message}"
                  for problem in several[:_PLACES_SHOWN]]
        if len(several) > _PLACES_SHOWN:
            lines.append(f"  ... and {len(several) - _PLACES_SHOWN} more (--json lists all)")
    verdict = "nothing is wrong" if not problems else (f"{_number(document.errors, 'error')}, "
                                                       f"{_number(document.warnings, 'warning')}")
    return [*map(_one_line, lines), verdict]


def _one_line(line: str) -> str:
    """The line without what would break it or steer a terminal: names of files may hold anything."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in line)


# -- show --------------------------------------------------------------------------------------------------------------


def _shown(dataset: Dataset, facts: Sequence[ImageFacts], problems: Sequence[Problem]) -> DatasetDocument:
    images: Counter[str] = Counter()
    groups: defaultdict[str, set[str]] = defaultdict(set)
    class_images: defaultdict[str, Counter[str]] = defaultdict(Counter)
    class_objects: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for seen in facts:
        split = seen.image.split.value if seen.image.split is not None else _NO_SPLIT
        images[split] += 1
        if seen.image.ref.group is not None:
            groups[split].add(seen.image.ref.group)
        for name, count in seen.objects.items():
            class_images[name][split] += 1
            class_objects[name][split] += count
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    return DatasetDocument(
        place=dataset.place, layout=dataset.layout, task=dataset.task.value, exclusive=dataset.exclusive,
        images=dict(images), groups={split: len(named) for split, named in groups.items()},
        classes=[DatasetClass(name=name, images=dict(class_images[name]), objects=dict(class_objects[name]))
                 for name in dataset.classes],
        width_px=_side([seen.width_px for seen in facts if seen.digest]),
        height_px=_side([seen.height_px for seen in facts if seen.digest]),
        unreadable_images=sum(not seen.digest for seen in facts), errors=errors, warnings=len(problems) - errors,
        skipped=dict(dataset.skipped))


def _side(lengths_px: Sequence[int]) -> SidePx | None:
    if not lengths_px:
        return None
    return SidePx(least=min(lengths_px), median=statistics.median_low(lengths_px), largest=max(lengths_px))


def _show_lines(document: DatasetDocument) -> list[str]:
    splits = list(document.images)
    one = " (exactly one an image)" if document.exclusive else ""
    facts = [("place", document.place), ("layout", document.layout), ("task", f"{document.task}{one}"),
             ("images", ", ".join(f"{count} {split}" if split != _NO_SPLIT else f"{count} without a split"
                                  for split, count in document.images.items()) or "none"),
             ("groups", ", ".join(f"{count} {split}" if split != _NO_SPLIT else str(count)
                                  for split, count in document.groups.items()) or "none given"),
             ("width", _px(document.width_px)), ("height", _px(document.height_px)),
             ("unreadable", str(document.unreadable_images) if document.unreadable_images else ""),
             ("skipped", ", ".join(f"{count} {name}" for name, count in sorted(document.skipped.items())))]
    lines = [f"{name:12}  {value}" for name, value in facts if value]
    whats = ("images",) if document.task == Task.CLASSIFICATION else ("images", "objects")
    if document.classes:
        rows = [["CLASS", *(f"{split} {what}".removeprefix(f"{_NO_SPLIT} ").upper() for split in splits
                            for what in whats)]]
        rows += [[each.name, *(str(getattr(each, what).get(split, 0)) for split in splits for what in whats)]
                 for each in document.classes]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += ["", *("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width)
                                  in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows)]
    if document.errors or document.warnings:
        lines += ["", f"{_number(document.errors, 'error')}, {_number(document.warnings, 'warning')}: "
                      "`segsvc datasets check` lists them"]
    return [_one_line(line) for line in lines]


def _px(side: SidePx | None) -> str:
    if side is None:
        return ""
    return f"{side.least} px" if side.least == side.largest else f"{side.least} to {side.largest} px, median {side.median}"
