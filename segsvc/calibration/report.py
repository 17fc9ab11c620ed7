"""What a calibration shows, as a section of a model's report.html: the promise, its curves, and what each target costs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from segsvc import report_charts
from segsvc.errors import ConfigError
from segsvc.evaluation import charts
from segsvc.evaluation.report import page_style
from segsvc.models.library import Model
from segsvc.operating_point import ClassThresholds, OperatingPoint, Promise, Proof, RecallAt
from segsvc.quality.cost import ASSUMED, Pace, Reading, cost, expected, says, time_of
from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.types import Bound

REPORT = "report.html"
_HOW = {Bound.BINOMIAL: "exactly, by the binomial distribution,", Bound.BETTING: "by bets on the mean a unit"}
_MOST_NAMED = 10
_IMAGES = 1000  # that costs are told of
_SECTION = re.compile(r'<section id="promise".*?<!-- /promise -->\n?', re.DOTALL)
_LINK = '<li><a href="#promise">Promise</a></li>\n'
_FIRST_SECTION, _FIRST_LINK = '<section id="summary"', '<li><a href="#summary">'


@dataclass(frozen=True, slots=True)
class ClassShown:
    """What is shown of a class: rows are its recalls with the candidates per thousand images that people then review."""

    name: str
    thresholds: ClassThresholds
    proof: Proof
    how: str
    charts: tuple[charts.Chart, ...]
    rows: tuple[tuple[RecallAt, float], ...]


def write_report(model: Model, pace: Pace = ASSUMED) -> str:
    """Writes the section of a calibrated model into its report.html, which is made where there is none; where that is.

    pace: of the people who will review. Raises ConfigError where the report cannot be written, ValueError where the model
    has no calibration.
    """
    folder, report = store_of(model.place).folder(model.place), f"{model.place}/{REPORT}"
    try:
        page = (folder.read(REPORT) or b"").decode("utf-8", "replace")
        folder.put(REPORT, with_promise(page, model, pace).encode("utf-8", "replace"))
    except OSError as error:
        raise ConfigError(f"model {model.name}: expected a place that can be written for its report, got {report}: "
                          f"{error.strerror or error}") from error
    return report


def with_promise(page: str, model: Model, pace: Pace) -> str:
    """A page of figures with the model's promise before them, in place of the one that it had; without a page, one of it."""
    point = model.operating_point
    if point is None or point.promise is None:
        raise ValueError(f"expected a calibrated model, got {model.name}, which has no promise")
    section = render_promise(point, point.promise, model.card.class_names, pace)
    if _FIRST_SECTION not in page:
        style, digest = page_style()
        return _environment().get_template("calibration.html").render(name=model.name, section=section, style=style,
                                                                      style_digest=digest)
    page = _SECTION.sub("", page).replace(_LINK, "")
    page = page.replace(_FIRST_LINK, _LINK + _FIRST_LINK, 1)
    return page.replace(_FIRST_SECTION, section + "\n" + _FIRST_SECTION, 1)


def render_promise(point: OperatingPoint, promise: Promise, classes: Sequence[str], pace: Pace) -> str:
    """The section as HTML. classes: those of the model."""
    review = settings().review
    costs = cost(point, expected(_IMAGES), images=_IMAGES, pace=pace, reading=Reading(review.readers, review.audit_share))
    told = says(costs, promise.recall)
    return _environment().get_template("promise.html").render(
        point=point, promise=promise, sentence=sentence(point, promise, classes), c=charts, notes=(), cost=costs,
        cost_says=f"{told[:1].upper()}{told[1:]}.", chart=report_charts.cost_chart(costs, promise.recall), k=report_charts,
        time_of=time_of,
        classes=[_shown(name, proof, point, promise) for name, proof in point.proofs.items()])


def sentence(point: OperatingPoint, promise: Promise, classes: Sequence[str]) -> str:
    """The promise in words. classes: those of the model; where some have none, the others are named."""
    accepted = (f", and of the candidates that are accepted by rule at least {100 * promise.precision:g} % are right"
                if promise.precision is not None else ", and none is accepted by rule")
    named = "" if set(classes) <= set(point.classes) else f" of {few(tuple(point.proofs))}"
    together = ", for all classes together" if not named and len(point.proofs) > 1 else ", together" if len(
        point.proofs) > 1 else ""
    return (f"Of the objects{named} in fresh images like these at least {100 * promise.recall:g} % are flagged{accepted}: "
            f"with {100 * promise.confidence:g} % confidence over the draw of the calibration {promise.unit}s{together}.")


def few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _shown(name: str, proof: Proof, point: OperatingPoint, promise: Promise) -> ClassShown:
    thresholds = point.classes[name]
    accepted = next((row.accepted_per_1000_images for row in proof.precisions if row.precision == promise.precision), 0.0)
    drawn = charts.promise_charts(proof, thresholds.flag_at)
    if proof.reliability is not None:
        for title, bins, error in (
                ("Scores as they are", proof.reliability.of_scores, proof.reliability.error_of_scores),
                ("Probabilities", proof.reliability.of_probabilities, proof.reliability.error_of_probabilities)):
            drawn.append(charts.reliability_chart(bins, title=f"{title}: off by {error:.3f}"))
    rows = tuple((row, max(0.0, row.flagged_per_1000_images - accepted)) for row in proof.recalls)
    return ClassShown(name, thresholds, proof, _HOW[proof.bound], tuple(drawn), rows)


@cache
def _environment() -> Environment:
    environment = Environment(loader=PackageLoader("segsvc", "report_templates"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=lambda n: f"{n:,}", score=lambda value: f"{value:.4g}",
                               share=lambda value: f"{value:.3f}", amount=lambda value: f"{value:,.0f}")
    return environment
