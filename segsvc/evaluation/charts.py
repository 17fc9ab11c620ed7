"""The geometry of an evaluation's charts, in px of their own frame; the template draws them as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from segsvc.metrics_document import Round
from segsvc.operating_point import Proof
from segsvc.quality.figures import Confusion, Curve, FoundAt, ReliabilityBin

WIDTH, HEIGHT = 340, 236
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 10, 38
PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
MOST_CONFUSED = 20  # classes; more are listed, not drawn
CELL_PX, LABEL_PX, HEAD_PX = 34, 116, 96
_LABEL_CHARACTERS = 16
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Tick:
    place: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line through a chart: an SVG path, how it is called, and which of the template's styles it has."""

    path: str
    name: str
    style: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A point of a chart with what a pointer shows over it."""

    x: float
    y: float
    radius: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines, bands behind them and dots over shares from 0 to 1 on both axes."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    bands: tuple[Line, ...] = ()
    dots: tuple[Dot, ...] = ()
    cut: float | None = None
    x_ticks: tuple[Tick, ...] = ()
    y_ticks: tuple[Tick, ...] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a confusion matrix; `opacity` is the share of its row."""

    x: float
    y: float
    opacity: float
    count: int
    text: str
    on_dark: bool


@dataclass(frozen=True, slots=True)
class ConfusionChart:
    """A confusion matrix as a picture: cells, and the names of rows and columns where they stand."""

    width: float
    height: float
    cells: tuple[Cell, ...]
    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]


def recall_precision_chart(curve: Curve) -> Chart:
    """Precision over recall."""
    return _chart("Precision and recall", "recall", "precision", [_line(curve.recall, curve.precision, "", "first")])


def roc_chart(curve: Curve) -> Chart:
    """Recall over the share of false alarms; the dashed line is what chance would give."""
    chance = _line((0.0, 1.0), (0.0, 1.0), "chance", "reference")
    return _chart("ROC", "false alarms, share of all others", "recall",
                  [chance, _line(curve.false_alarms, curve.recall, "", "first")])


def reliability_chart(bins: Sequence[ReliabilityBin], *, title: str = "Are scores probabilities?") -> Chart:
    """The share that is true over the mean score, a dot a bin; the dashed line is where scores are probabilities."""
    most = max((each.n for each in bins), default=1)
    dots = tuple(Dot(_x(each.mean_score), _y(each.true_share), round(2.2 + 3.3 * (each.n / most) ** 0.25, 2),
                     f"score {each.mean_score:.3f}, true {each.true_share:.3f}, of {each.n:,}") for each in bins)
    means, shares = [each.mean_score for each in bins], [each.true_share for each in bins]
    lines = [_line((0.0, 1.0), (0.0, 1.0), "a probability", "reference"), _line(means, shares, "", "first")]
    return _chart(title, "mean score of a bin", "share that is true", lines, dots=dots)


def found_chart(by_threshold: Sequence[FoundAt], flag_at: float | None) -> Chart:
    """Objects found and candidates right by threshold, with their intervals as bands."""
    at = [each.threshold for each in by_threshold]
    recall, precision = [each.recall for each in by_threshold], [each.precision for each in by_threshold]
    lines = [_line(at, [each.value for each in recall], "objects found", "first"),
             _line(at, [each.value for each in precision], "candidates right", "second")]
    bands = [_band(at, [each.low for each in figures], [each.high for each in figures], style)
             for figures, style in ((recall, "first"), (precision, "second"))]
    return _chart("By threshold", "threshold", "share", lines, bands=[band for band in bands if band.path],
                  cut=None if flag_at is None else _x(flag_at))


def promise_charts(proof: Proof, flag_at: float) -> list[Chart]:
    """What a calibration shows of a class: the recall by where flagging begins, and what each recall costs in candidates."""
    rows = sorted(proof.recalls, key=lambda row: (row.flag_at, -row.recall))
    low = min(row.flag_at for row in rows)
    across = (max(row.flag_at for row in rows) - low) or 1.0  # thresholds may lie close together
    at = [(row.flag_at - low) / across for row in rows]
    bound = _chart("Recall by threshold", "flag at", "recall", [
        _line(at, [row.recall_measured for row in rows], "counted", "second"),
        _line(at, [row.recall for row in rows], "promised", "first")], cut=_x(max(0.0, flag_at - low) / across))
    bound = replace(bound, x_ticks=tuple(Tick(_x(value), f"{low + value * across:.3g}") for value in (0.0, 0.45, 0.9)))
    rows = sorted(proof.recalls, key=lambda row: row.recall)
    top = max((row.flagged_per_1000_images for row in rows), default=0) or 1.0
    dots = tuple(Dot(_x(row.recall), _y(row.flagged_per_1000_images / top), 3.0,
                     f"recall {row.recall:g}: {row.flagged_per_1000_images:,.0f} candidates a thousand images")
                 for row in rows)
    line = _line([row.recall for row in rows], [row.flagged_per_1000_images / top for row in rows], "", "first")
    load = _chart("What a recall costs", "recall promised", "flagged per 1,000 images", [line], dots=dots)
    return [bound, replace(load, y_ticks=tuple(Tick(_y(value), _amount(value * top)) for value in _TICKS))]


def course_charts(rounds: Sequence[Round], *, steps: int, kept_step: int) -> list[Chart]:
    """The loss over the steps of a training, and validation's shares; the upright line is where the weights were kept."""
    if not rounds:
        return []
    at, cut = [each.step / steps for each in rounds], _x(kept_step / steps)
    x_ticks = tuple(Tick(_x(value), f"{value * steps:.0f}") for value in (0.0, 0.5, 1.0))
    top = max(each.loss for each in rounds) or 1.0
    losses = _chart("Loss", "step", "mean loss", [_line(at, [each.loss / top for each in rounds], "", "first")], cut=cut)
    charts = [replace(losses, x_ticks=x_ticks, y_ticks=tuple(Tick(_y(value), f"{value * top:.2g}") for value in _TICKS))]
    names = [name for name in rounds[0].figures
             if name != "score" and all(0 <= each.figures.get(name, -1) <= 1 for each in rounds)]
    for name in names:
        line = _line(at, [each.figures[name] for each in rounds], "", "first")
        charts.append(replace(_chart(f"Validation: {name}", "step", name, [line], cut=cut), x_ticks=x_ticks))
    return charts


def confusion_chart(confusion: Confusion) -> ConfusionChart | None:
    """The matrix as a picture; None where it has too many classes. A last column that is empty is left out."""
    n = len(confusion.class_names)
    if n > MOST_CONFUSED:
        return None
    has_others = any(row[-1] for row in confusion.counts)
    names = [*confusion.class_names, *(["other"] if has_others else [])]
    cells = []
    for number, row in enumerate(confusion.counts):
        total = sum(row)
        for column, count in enumerate(row[: len(names)]):
            share = count / total if total else 0.0
            said = f"{confusion.class_names[number]} taken for {names[column]}: {count:,} of {total:,}"
            cells.append(Cell(LABEL_PX + column * CELL_PX, HEAD_PX + number * CELL_PX, round(share, 3), count, said,
                              share > 0.5))
    rows = tuple(Tick(HEAD_PX + (number + 0.5) * CELL_PX, _cut(name)) for number, name in enumerate(confusion.class_names))
    columns = tuple(Tick(LABEL_PX + (number + 0.5) * CELL_PX, _cut(name)) for number, name in enumerate(names))
    return ConfusionChart(LABEL_PX + len(names) * CELL_PX + 2, HEAD_PX + n * CELL_PX + 2, tuple(cells), rows, columns)


def _chart(title: str, x_label: str, y_label: str, lines: Sequence[Line], *, bands: Sequence[Line] = (),
           dots: tuple[Dot, ...] = (), cut: float | None = None) -> Chart:
    return Chart(title, x_label, y_label, tuple(lines), tuple(bands), dots, cut,
                 tuple(Tick(_x(value), f"{value:g}") for value in _TICKS),
                 tuple(Tick(_y(value), f"{value:g}") for value in _TICKS))


def _line(x: Sequence[float | None], y: Sequence[float | None], name: str, style: str) -> Line:
    """A path through the points that are defined; it begins anew after one that is not."""
    steps: list[str] = []
    is_open = False
    last = ""
    for at, value in zip(x, y, strict=True):
        if at is None or value is None:
            is_open = False
            continue
        place = f"{_x(at)} {_y(value)}"
        if place != last:
            steps.append(f"{'L' if is_open else 'M'}{place}")
        is_open, last = True, place
    return Line("".join(steps), name, style)


def _band(x: Sequence[float], low: Sequence[float | None], high: Sequence[float | None], style: str) -> Line:
    """The area between two lines, over the points where both are defined."""
    there = [(at, below, above) for at, below, above in zip(x, low, high, strict=True)
             if below is not None and above is not None]
    if len(there) < 2:
        return Line("", "", style)
    upper = [f"{_x(at)} {_y(above)}" for at, _, above in there]
    lower = [f"{_x(at)} {_y(below)}" for at, below, _ in reversed(there)]
    return Line("M" + "L".join([*upper, *lower]) + "Z", "", style)


def _amount(value: float) -> str:
    return f"{value / 1000:.2g}k" if value >= 1000 else f"{value:.3g}" if value < 10 else f"{value:.0f}"


def _x(share: float) -> float:
    return round(LEFT + PLOT_WIDTH * share, 2)


def _y(share: float) -> float:
    return round(TOP + PLOT_HEIGHT * (1 - share), 2)


def _cut(name: str) -> str:
    return name if len(name) <= _LABEL_CHARACTERS else name[: _LABEL_CHARACTERS - 1] + "…"
