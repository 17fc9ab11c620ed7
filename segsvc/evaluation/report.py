"""The HTML report of an evaluation: one file that needs no network and no script.

It shows what metrics.json says, and pictures of the worst images where they are given. Texts of users are escaped by the
template engine, pictures are embedded, and the page's own policy forbids it to load anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

from segsvc.evaluation import charts
from segsvc.evaluation.pictures import BadExample
from segsvc.metrics_document import MetricsDocument
from segsvc.quality.bootstrap import span_coverage
from segsvc.quality.figures import Figure, FoundAt, FoundClass, SliceFigures
from segsvc.report import MOST_PICTURE_BYTES, data_uri

MOST_CHARTED = 8  # classes whose curves are drawn
MOST_ROWS = 200
MOST_FAILED = 100
LABELS = {"dice": "Dice", "iou": "IoU", "ap50": "AP50", "ap": "AP50:95", "ar": "AR50:95", "object_recall": "Objects found",
          "object_precision": "Candidates right", "accuracy": "Accuracy", "f1": "F1",
          "average_precision": "Average precision", "roc_area": "Area below ROC"}
MEANINGS = {
    "dice": "at 0.5, mean of classes", "iou": "at 0.5, mean of classes", "ap50": "at IoU 0.50",
    "ap": "mean of IoU 0.50 to 0.95", "ar": "mean of IoU 0.50 to 0.95", "accuracy": "the best score's class is right",
    "f1": "at 0.5, mean of labels",
    "average_precision": "mean of labels", "roc_area": "mean of labels"}
_STYLES = ("report.css", "evaluation.css")


@dataclass(frozen=True, slots=True)
class ClassCharts:
    """The charts of one class."""

    class_name: str
    charts: tuple[charts.Chart, ...]


def render_evaluation(document: MetricsDocument, examples: Sequence[BadExample] = ()) -> str:
    """The report as HTML. The same document and examples give the same bytes."""
    style, digest = page_style()
    confusion = document.classification.confusion if document.classification else None
    course = document.course
    drawn = class_charts(document)
    return _environment().get_template("evaluation.html").render(
        document=document, style=style, style_digest=digest, c=charts, labels=LABELS, sentence=sentence(document),
        tiles=[(LABELS.get(name, name), figure, _meaning(name, document)) for name, figure in document.figures.items()],
        class_charts=drawn, lone_charts=all(len(of_class.charts) == 1 for of_class in drawn),
        n_classes=len(document.classes.names), most_charted=MOST_CHARTED,
        found_rows=[(of_class, row, name) for of_class in (document.found.classes if document.found else ())[:MOST_ROWS]
                    for row, name in found_rows(of_class)],
        slices=by_column(document.slices), examples=_shown(examples), most_rows=MOST_ROWS, confusion=confusion,
        confusion_chart=charts.confusion_chart(confusion) if confusion else None,
        confused=most_confused(document), failed=document.failed[:MOST_FAILED],
        course_charts=charts.course_charts(course.rounds, steps=course.steps, kept_step=course.kept_step) if course else [])


def page_style() -> tuple[str, str]:
    """The page's style sheet, and the sha256 by which its policy allows it."""
    style = "".join(resources.files("segsvc").joinpath("report_templates", name).read_text("utf-8") for name in _STYLES)
    return style, base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def sentence(document: MetricsDocument) -> str:
    """What the figures are of and how sure they are, in one sentence."""
    split = f"of the split {document.data.split}" if document.data.split else "of the whole set"
    folds = f", each judged by one of {document.out_of_fold} models that had not seen it (out of fold)" if (
        document.out_of_fold) else ""
    of = f"These figures are of {document.images:,} {_plural(document.images, 'image')} {split}{folds}"
    sure = document.sureness
    if not sure.resamples:
        return f"{of}; how sure they are is not known: {sure.note}."
    far = "about as far" if span_coverage(sure.units) >= sure.confidence else "farther"
    return (f"{of}; in brackets stands where {100 * sure.confidence:.0f} % of {sure.resamples:,} bootstrap samples of the "
            f"{sure.units:,} {_plural(sure.units, sure.unit)} lie: other {sure.unit}s like these would give figures {far} "
            "apart.")


def class_charts(document: MetricsDocument) -> list[ClassCharts]:
    """The charts of each class, of the first ones where there are many."""
    drawn: dict[str, list[charts.Chart]] = {name: [] for name in document.classes.names[:MOST_CHARTED]}
    labelled = document.classification.labels if document.classification else document.semantic.classes if (
        document.semantic) else ()
    for of_class in labelled:
        if of_class.class_name in drawn and of_class.curve.threshold:
            drawn[of_class.class_name] += [charts.recall_precision_chart(of_class.curve), charts.roc_chart(of_class.curve),
                                           charts.reliability_chart(of_class.reliability)]
    for found in document.found.classes if document.found else ():
        if found.class_name in drawn and found.by_threshold and found.stored.objects:
            flag_at = found.at_flag.threshold if found.at_flag is not None else None
            drawn[found.class_name].insert(0, charts.found_chart(found.by_threshold, flag_at))
            drawn[found.class_name].append(charts.reliability_chart(found.reliability, title="As many right as scores say?"))
    return [ClassCharts(name, tuple(of_class)) for name, of_class in drawn.items() if of_class]


def found_rows(of_class: FoundClass) -> list[tuple[FoundAt, str]]:
    """The rows of the table of objects found: all stored candidates, the operating point, and some thresholds."""
    rows = [(of_class.stored, "all stored")]
    if of_class.at_flag is not None:
        rows.append((of_class.at_flag, f"flag at {of_class.at_flag.threshold:.3f}"))
    return rows + [(row, f"{row.threshold:.2f}") for row in of_class.by_threshold
                   if round(row.threshold * 100) in (50, 70, 90) and row.candidates not in (0, of_class.stored.candidates)]


def by_column(slices: Sequence[SliceFigures]) -> dict[str, list[SliceFigures]]:
    """The slices, by the column that they are of."""
    columns: dict[str, list[SliceFigures]] = {}
    for each in slices:
        columns.setdefault(each.column, []).append(each)
    return columns


def most_confused(document: MetricsDocument, most: int = 12) -> list[tuple[str, str, int]]:
    """Which classes were taken for which, the most frequent first: (true, said, images)."""
    confusion = document.classification.confusion if document.classification else None
    if confusion is None:
        return []
    names = [*confusion.class_names, "another class"]
    wrong = [(count, row, column) for row, counts in enumerate(confusion.counts) for column, count in enumerate(counts)
             if count and row != column]
    wrong.sort(key=lambda one: (-one[0], one[1:]))
    return [(names[row], names[column], count) for count, row, column in wrong[:most]]


def _meaning(name: str, document: MetricsDocument) -> str:
    if name in ("object_recall", "object_precision"):
        return "at the operating point" if document.found and document.found.mean_recall_at_flag.value is not None else (
            "with all stored candidates")
    if name in ("ap50", "ap", "ar") and document.instance is not None:
        return f"{MEANINGS[name]}, by {'masks' if document.instance.masks is not None else 'boxes'}"
    return MEANINGS.get(name, "")


def _shown(examples: Sequence[BadExample]) -> list[tuple[BadExample, str]]:
    """The examples with their pictures as URIs, as many as the report holds."""
    shown, left = [], MOST_PICTURE_BYTES
    for example in examples:
        if len(example.picture) <= left:
            shown.append((example, data_uri(example.picture)))
            left -= len(example.picture)
    return shown


def _plural(n: int, what: str) -> str:
    return what if n == 1 else f"{what}s"


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(figure: Figure) -> str:
    return "" if figure.low is None or figure.high is None else f"({figure.low:.3f} to {figure.high:.3f})"


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _file_name(uri: str) -> str:
    return uri.rstrip("/").rsplit("/", 1)[-1] or uri


@cache
def _environment() -> Environment:
    environment = Environment(loader=PackageLoader("segsvc", "report_templates"), autoescape=True, trim_blocks=True,
                              lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters.update(value=_value, interval=_interval, number=_number, file_name=_file_name, plural=_plural)
    return environment
