"""What intervals do not say: those without width, those that are missing, and those of few units.

A percentile bootstrap (`segsvc.quality.bootstrap`) stays within what the units span that were seen. Where these agree it has
no width, and where they are few it is too narrow. Neither is certainty, so both are said beside the figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass

from segsvc.evaluation import Summary
from segsvc.evaluation.report import LABELS
from segsvc.quality.bootstrap import has_no_width, span_coverage
from segsvc.quality.figures import ClassAverages, DenseClass, Figure, FoundClass, LabelFigures, Sureness

_MOST_NAMED = 8


def interval_notes(summary: Summary) -> list[str]:
    """Sentences on the intervals of a summary that must not be taken for more than they are."""
    sure = summary.sureness
    if not sure.resamples:
        return [f"{sure.note[:1].upper()}{sure.note[1:]}."] if sure.note else []
    return [*_few(sure), *_without_width(summary.figures, sure), *_elsewhere(summary), *_few_in_slices(summary)]


def _few(sure: Sureness) -> list[str]:
    covered = span_coverage(sure.units)
    return [] if covered >= sure.confidence else [
        f"Intervals by {sure.units} {sure.unit}s are too narrow: they lie within what these span, and so few span the "
        f"middle of others like them in {100 * covered:.3g} % of cases at best, not in {100 * sure.confidence:.3g} %."]


def _without_width(named: Mapping[str, Figure], sure: Sureness) -> list[str]:
    """On the figures that stand first."""
    flat = {LABELS.get(name, name): each.value for name, each in named.items() if has_no_width(each)}
    most = 100 * (1 - ((1 - sure.confidence) / 2) ** (1 / sure.units))  # Clopper and Pearson (1934), of none in so many
    notes = [f"An interval from {end} to {end} only says that nothing went {how} in {sure.units:,} {sure.unit}s: in others "
             f"like these up to {most:.2g} % could." for end, how in ((1, "wrong"), (0, "right")) if end in flat.values()]
    alike = [name for name, value in flat.items() if value not in (0, 1)]
    if alike:
        notes.append(f"{_listed(alike)}: the interval has no width, as every resample gave the same. That is so where one "
                     f"{sure.unit} alone holds what is counted; how far off others would be is not known.")
    missing = [LABELS.get(name, name) for name, each in named.items() if each.value is not None and each.low is None]
    if missing:
        notes.append(f"{_listed(missing)}: there is no interval, as in most resamples there is nothing to count. Too few "
                     f"{sure.unit}s show what it is of.")
    return notes


def _elsewhere(summary: Summary) -> list[str]:
    """On the figures by class and slice."""
    found = [f"{each.column} {each.value or '(none)'}" for each in summary.slices
             if any(map(has_no_width, each.figures.values()))]
    if len(summary.class_names) > 1:
        flat = {of_class.class_name for of_class in _by_class(summary) if any(map(has_no_width, _figures(of_class)))}
        found = [name for name in summary.class_names if name in flat] + found
    return [f"Intervals without width, as for {_listed(found)}, say that every resample gave the same, not that a figure is "
            "sure."] if found else []


def _few_in_slices(summary: Summary) -> list[str]:
    sure = summary.sureness
    if span_coverage(sure.units) < sure.confidence:
        return []  # said of all
    few = [f"{each.column} {each.value or '(none)'} ({each.units})" for each in summary.slices
           if span_coverage(each.units) < sure.confidence]
    return [f"Slices of so few {sure.unit}s have intervals that are too narrow, or none: {_listed(few)}."] if few else []


def _by_class(summary: Summary) -> Iterator[DenseClass | FoundClass | LabelFigures | ClassAverages]:
    if summary.semantic is not None:
        yield from summary.semantic.classes
    if summary.found is not None:
        yield from summary.found.classes
    if summary.classification is not None:
        yield from summary.classification.labels
    if summary.instance is not None:
        yield from (summary.instance.masks or summary.instance.boxes).classes


def _figures(part: object) -> Iterator[Figure]:
    """The figures of a class, but not those by threshold (a tuple): at both of their ends they have no width anyway."""
    if isinstance(part, Figure):
        yield part
    elif is_dataclass(part) and not isinstance(part, type):
        for field in fields(part):
            yield from _figures(getattr(part, field.name))


def _listed(names: Sequence[str]) -> str:
    left = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {left} more" if left > 0 else "")
