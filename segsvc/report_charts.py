"""The geometry of the report's charts, in px of their own frame; the template draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from segsvc.operating_point import ClassThresholds
from segsvc.quality.cost import Beyond, Cost, CostAt, time_of
from segsvc.types import Band

WIDTH, HEIGHT = 400, 178
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 40, 28
PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
LABEL_WIDTH = 62  # what the name of a band takes
BAR_WIDTH, BAR_HEIGHT = 1000, 14
COST_WIDTH, COST_HEIGHT = 460, 210
COST_LEFT, COST_RIGHT, COST_TOP, COST_BOTTOM = 48, 26, 22, 40
_COST_ACROSS, _COST_DOWN = COST_WIDTH - COST_LEFT - COST_RIGHT, COST_HEIGHT - COST_TOP - COST_BOTTOM
_LABEL_GAP_PX = 46  # between labels of the curve of costs
_ORDER = (Band.REJECTED, Band.REVIEW, Band.ACCEPTED)


@dataclass(frozen=True, slots=True)
class Column:
    """One bin of a histogram; `first` and `last` are its borders in score."""

    x: float
    y: float
    width: float
    height: float
    band: Band
    count: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Zone:
    """The stretch of an axis that belongs to a band; `named` where its name fits."""

    x: float
    width: float
    band: Band
    named: bool


@dataclass(frozen=True, slots=True)
class Cut:
    """A threshold on the axis, with its label and where that is anchored ("start", "middle" or "end")."""

    x: float
    y: float
    label: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Tick:
    place: float
    label: str


@dataclass(frozen=True, slots=True)
class ScoreChart:
    """A histogram of scores with its bands and thresholds."""

    columns: tuple[Column, ...]
    zones: tuple[Zone, ...]
    cuts: tuple[Cut, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def band_of(score: float, thresholds: ClassThresholds | None) -> Band:
    """The band of a score; without thresholds everything is to be reviewed."""
    if thresholds is None:
        return Band.REVIEW
    if score < thresholds.flag_at:
        return Band.REJECTED
    return Band.REVIEW if thresholds.accept_at is None or score < thresholds.accept_at else Band.ACCEPTED


def score_chart(histogram: tuple[int, ...], thresholds: ClassThresholds | None) -> ScoreChart:
    """The chart of a histogram whose bins are of equal width from 0 to 1; a bin has the band of its middle."""
    top = _round_up(max(histogram, default=0))
    bins = max(1, len(histogram))
    columns = []
    for number, count in enumerate(histogram):
        if count:
            height = max(1.0, PLOT_HEIGHT * count / top)
            columns.append(Column(x=_px(number / bins) + 0.5, y=round(TOP + PLOT_HEIGHT - height, 2),
                                  width=round(PLOT_WIDTH / bins - 1, 2), height=round(height, 2), count=count,
                                  band=band_of((number + 0.5) / bins, thresholds), first=number / bins,
                                  last=(number + 1) / bins))
    return ScoreChart(columns=tuple(columns), zones=_zones(thresholds), cuts=_cuts(thresholds),
                      x_ticks=tuple(Tick(_px(value / 4), f"{value / 4:g}") for value in range(5)),
                      y_ticks=tuple(Tick(round(TOP + PLOT_HEIGHT * (1 - share), 2), _short(top * share))
                                    for share in (0.0, 0.5, 1.0)))


def _zones(thresholds: ClassThresholds | None) -> tuple[Zone, ...]:
    if thresholds is None:
        return (Zone(LEFT, PLOT_WIDTH, Band.REVIEW, True),)
    accept_at = 1.0 if thresholds.accept_at is None else thresholds.accept_at
    edges = (0.0, thresholds.flag_at, accept_at, 1.0)
    zones = []
    for band, low, high in zip(_ORDER, edges, edges[1:], strict=False):
        width = round(_px(high) - _px(low), 2)
        if width > 0:
            zones.append(Zone(_px(low), width, band, width >= LABEL_WIDTH))
    return tuple(zones)


def _cuts(thresholds: ClassThresholds | None) -> tuple[Cut, ...]:
    if thresholds is None:
        return ()
    found = [("flag", thresholds.flag_at)]
    if thresholds.accept_at is not None:
        found.append(("accept", thresholds.accept_at))
    return tuple(Cut(x=_px(value), y=float(11 + 12 * row), label=f"{name} {value:.3f}", anchor=_anchor(value))
                 for row, (name, value) in enumerate(found))


def _anchor(value: float) -> str:
    return "start" if value < 0.12 else "end" if value > 0.88 else "middle"


def _px(score: float) -> float:
    return round(LEFT + PLOT_WIDTH * score, 2)


def _round_up(count: int) -> int:
    """The next of 2, 4, 6, 10 times a power of ten, so that half of it is a whole number."""
    unit = 1
    while True:
        for step in (2, 4, 6, 10):
            if count <= step * unit:
                return step * unit
        unit *= 10


def _short(value: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 10 * unit or (value >= unit and value % (unit / 10) == 0):
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def band_bar(counts: Mapping[Band, int]) -> tuple[Zone, ...]:
    """All candidates as one bar of `BAR_WIDTH` px, cut by band; a band with any candidate is at least 3 px wide."""
    total = sum(counts.values())
    if not total:
        return ()
    shares = {band: max(3.0, BAR_WIDTH * counts[band] / total) for band in _ORDER if counts[band]}
    scale = BAR_WIDTH / sum(shares.values())
    zones, x = [], 0.0
    for band, share in shares.items():
        zones.append(Zone(round(x, 2), round(share * scale, 2), band, False))
        x += share * scale
    return tuple(zones)


@dataclass(frozen=True, slots=True)
class Dot:
    """A point of the curve of costs, with what a pointer shows over it; `label` where it fits, else empty."""

    x: float
    y: float
    text: str
    label: str


@dataclass(frozen=True, slots=True)
class CostChart:
    """Candidates to review over the recall that is promised; recalls that are not shown lie to the right, in a zone.

    The axis of recalls is by the logarithm of what may be missed, so that 0.9 and 0.99 are as far apart as 0.99 and 0.999.
    """

    path: str
    dots: tuple[Dot, ...]
    beyond: tuple[Dot, ...]
    beyond_from: float
    cut: float | None  # the recall in force
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def cost_chart(cost: Cost, in_force: float | None) -> CostChart:
    """The curve, which has a row at least."""
    lowest = cost.rows[0].recall
    recalls = [*(row.recall for row in cost.rows), *(each.recall for each in cost.beyond)]
    highest = max(recalls)
    span = math.log((1 - lowest) / (1 - highest)) or 1.0
    top = _round_up(math.ceil(max(row.load.review for row in cost.rows)))

    def x(recall: float) -> float:
        return round(COST_LEFT + _COST_ACROSS * math.log((1 - lowest) / (1 - recall)) / span, 2)

    def y(candidates: float) -> float:
        return round(COST_TOP + _COST_DOWN * (1 - candidates / top), 2)

    dots = tuple(Dot(x(row.recall), y(row.load.review), _cost_words(row), "") for row in cost.rows)
    end = dots[-1].x
    beyond = [Dot(x(each.recall), y(0), _beyond_words(each, cost), _beyond_label(each)) for each in cost.beyond]
    ticks = [Tick(x(recall), f"{recall:g}") for recall in recalls]
    places = _spread([(tick.place, True) for tick in ticks])
    labelled = _spread([(dot.x, bool(dot.label)) for dot in beyond])
    return CostChart(
        path="M" + "L".join(f"{dot.x} {dot.y}" for dot in dots), dots=dots,
        beyond=tuple(dot if place in labelled else Dot(dot.x, dot.y, dot.text, "") for place, dot in enumerate(beyond)),
        beyond_from=end, cut=x(in_force) if in_force is not None and lowest <= in_force <= highest else None,
        x_ticks=tuple(tick for place, tick in enumerate(ticks) if place in places),
        y_ticks=tuple(Tick(y(top * share), _short(top * share)) for share in (0.0, 0.5, 1.0)))


def _cost_words(row: CostAt) -> str:
    return (f"recall {row.recall:g}: {row.load.review:,.0f} candidates to review, {time_of(row.hours)}; "
            f"{row.recall_measured:.3f} counted in the calibration")


def _beyond_words(each: Beyond, cost: Cost) -> str:
    if each.more_units is None:
        return f"recall {each.recall:g}: no number of {cost.promise.unit}s like these would show it"
    return f"recall {each.recall:g}: about {each.more_units:,} more labelled {cost.promise.unit}s would show it"


def _beyond_label(each: Beyond) -> str:
    return "never" if each.more_units is None else f"+{each.more_units:,}"


def _spread(places: list[tuple[float, bool]]) -> set[int]:
    """Which of the places along an axis keep apart; from the last on, which says most."""
    kept: set[int] = set()
    last = math.inf
    for number in range(len(places) - 1, -1, -1):
        place, wanted = places[number]
        if wanted and last - place >= _LABEL_GAP_PX:
            kept.add(number)
            last = place
    return kept
