"""The HTML report of a run: one file that needs no network and no script, and can be sent to somebody.

The caller counts; here is how it looks. Texts that come from users are escaped by the template engine, pictures are
embedded, and the page's own policy forbids it to load anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from segsvc import report_charts as charts
from segsvc.ledger.records import DecidedBy
from segsvc.operating_point import ClassThresholds, OperatingPoint
from segsvc.quality.cost import Cost, says, time_of
from segsvc.quality.missed import Missed, MissedImages
from segsvc.types import Band, Box, ExtractionCounts
from segsvc.writers.paths import replacing

HISTOGRAM_BINS = 40
MOST_EXAMPLES = 24
MOST_PICTURE_BYTES = 3_300_000  # of all pictures; base64 makes a third more of them, the whole stays below 5 MB
MOST_CHARTS = 12
MOST_CLASS_ROWS = 200
MOST_FAILURES = 200
MOST_CANDIDATES_AN_EXAMPLE = 5
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Which model ran, and what is known of it."""

    name: str
    version: str
    digest: str
    task: str
    runtime: str
    licence: str
    description: str = ""
    trained_on: str = ""
    not_for: str = ""


@dataclass(frozen=True, slots=True)
class ImageCounts:
    """The images of a run by how they ended; listed is the sum of the others."""

    listed: int
    done: int
    empty: int
    failed: int
    quarantined: int

    def __post_init__(self) -> None:
        ended = self.done + self.empty + self.failed + self.quarantined
        if ended > self.listed:
            raise ValueError(f"at most {self.listed} images can have ended, got {ended}")


@dataclass(frozen=True, slots=True)
class ClassReport:
    """A class's stored candidates: by band, and by score in `histogram`, bins of equal width from 0 to 1."""

    class_name: str
    accepted: int
    review: int
    rejected: int
    histogram: tuple[int, ...]
    thresholds: ClassThresholds | None = None

    @property
    def total(self) -> int:
        return self.accepted + self.review + self.rejected


@dataclass(frozen=True, slots=True)
class StageTime:
    """Seconds that all workers together spent in a stage."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be worked on, and why."""

    image_uri: str
    kind: str
    error: str


@dataclass(frozen=True, slots=True)
class ExampleCandidate:
    """A candidate of an example; `probability` is None where the model has no calibration."""

    class_name: str
    score: float
    probability: float | None
    band: Band


@dataclass(frozen=True, slots=True)
class Example:
    """An image to look at: a JPEG or PNG of `window` (px of the image) with what was found outlined on it.

    `candidates` begin with the most uncertain; `n_candidates` counts all of the image. `whole_image` is true where they
    are classes of the image and not places in it.
    """

    picture: bytes
    image_uri: str
    frame: int
    window: Box
    width_px: int
    height_px: int
    uncertainty: float
    candidates: tuple[ExampleCandidate, ...]
    n_candidates: int
    whole_image: bool = False


@dataclass(frozen=True, slots=True)
class RunReport:
    """What the report of a run shows. Times are aware datetimes; `wall_s` is the time from start to end in s.

    `wording` says what may be said of the thresholds (`OperatingPoint.wording`), `note` where they come from, `drift`
    whether the images are like the calibration's, and `in_doubt` that they are not.
    `decided` tells who decided what, where a ledger holds the run, and `missed` and `missed_images` what its audit and whole
    images that were labelled say of what rules rejected.
    `cost` is what each recall of the calibration would cost, of which may be said `cost_wording`; `in_force` is the recall
    that the bands are of.
    `skipped` counts files of the input that are no images by reason; `filtered` the regions that were not stored.
    """

    title: str
    run_id: str
    state: str
    input: str
    model: ModelFacts
    images: ImageCounts
    classes: tuple[ClassReport, ...]
    wall_s: float
    wording: str = ""
    note: str = ""
    drift: str = ""
    in_doubt: bool = False
    filtered: ExtractionCounts = field(default_factory=ExtractionCounts)
    skipped: Mapping[str, int] = field(default_factory=dict)
    stages: tuple[StageTime, ...] = ()
    examples: tuple[Example, ...] = ()
    failures: tuple[Failure, ...] = ()
    started_at: datetime | None = None
    finished_at: datetime | None = None
    machine: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    decided: tuple[DecidedBy, ...] = ()
    missed: Missed | None = None
    missed_images: tuple[MissedImages, ...] = ()
    cost: Cost | None = None
    cost_wording: str = ""
    in_force: float | None = None

    def count(self, band: Band) -> int:
        """How many stored candidates of all classes are in that band."""
        return sum(int(getattr(one, band.value)) for one in self.classes)


def uncertainty(score: float, thresholds: ClassThresholds | None) -> float:
    """How near a score is to a decision, in [0, 1]: 1 on a threshold, less by the distance to the nearest one.

    Without thresholds the scale's middle takes their place.
    """
    if thresholds is None:
        return 1.0 - abs(score - 0.5)
    cuts = [thresholds.flag_at] if thresholds.accept_at is None else [thresholds.flag_at, thresholds.accept_at]
    return 1.0 - min(abs(score - cut) for cut in cuts)


def image_uncertainty(scores: Iterable[tuple[str, float]], point: OperatingPoint | None) -> float:
    """That of an image's most uncertain candidate, given as (class name, score); 0 for an image without candidates."""
    return max((uncertainty(score, point.thresholds(name) if point else None) for name, score in scores), default=0.0)


def histogram(scores: Iterable[float], *, bins: int = HISTOGRAM_BINS) -> tuple[int, ...]:
    """How many scores in [0, 1] fall into each of so many bins of equal width; 1.0 is in the last one."""
    counts = [0] * bins
    for score in scores:
        counts[min(int(score * bins), bins - 1)] += 1
    return tuple(counts)


def write_report(view: RunReport, to: Path) -> None:
    """Writes the report as one HTML file that takes the place of `to`. The same view gives the same bytes.

    Raises ConfigError for a place that cannot be written, ValueError for a picture that is neither JPEG nor PNG.
    """
    page = render(view)
    with replacing(to) as file:
        file.write(page.encode("utf-8", "replace"))


def render(view: RunReport) -> str:
    """The report as HTML."""
    style = resources.files("segsvc").joinpath("report_templates", "report.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    by_need = sorted(view.classes, key=lambda one: (-one.review, -one.total, one.class_name))
    examples = shown_examples(view.examples)
    worked_s = sum(stage.seconds for stage in view.stages)
    read = view.images.done + view.images.empty
    return _environment().get_template("report.html").render(
        view=view, style=style, style_digest=digest, Band=Band, read=read, c=charts,
        total={band: view.count(band) for band in Band},
        band_bar=charts.band_bar({band: view.count(band) for band in Band}),
        classes=by_need[:MOST_CLASS_ROWS], more_classes=max(0, len(by_need) - MOST_CLASS_ROWS),
        charts=[(one, charts.score_chart(one.histogram, one.thresholds)) for one in by_need[:MOST_CHARTS] if one.total],
        more_charts=max(0, sum(1 for one in by_need if one.total) - MOST_CHARTS),
        examples=[(example, data_uri(example.picture)) for example in examples],
        more_examples=len(view.examples) - len(examples), most_listed=MOST_CANDIDATES_AN_EXAMPLE,
        stages=[(stage, stage.seconds / read if read else 0.0, stage.seconds / worked_s if worked_s else 0.0)
                for stage in view.stages], worked_s=worked_s,
        throughput=read / view.wall_s if view.wall_s > 0 else 0.0,
        failures=view.failures[:MOST_FAILURES], n_failed=view.images.failed + view.images.quarantined,
        explanation=_EXPLANATIONS.get(view.wording, ""), time_of=time_of, **_costs(view))


def _costs(view: RunReport) -> dict[str, object]:
    """What the template wants of the costs."""
    cost = view.cost if view.cost is not None and view.cost.rows else None
    if cost is None:
        return {"cost": None, "cost_chart": None, "cost_says": ""}
    chosen = cost.at(view.in_force) if view.in_force is not None else None
    told = says(cost, (chosen or cost.rows[-1]).recall)
    return {"cost": cost, "cost_chart": charts.cost_chart(cost, view.in_force), "cost_says": told}


def shown_examples(examples: Sequence[Example]) -> list[Example]:
    """The most uncertain first, as many as the report holds by number and bytes."""
    shown: list[Example] = []
    left = MOST_PICTURE_BYTES
    for example in sorted(examples, key=lambda one: (-one.uncertainty, one.image_uri, one.frame)):
        if len(shown) < MOST_EXAMPLES and len(example.picture) <= left:
            shown.append(example)
            left -= len(example.picture)
    return shown


def data_uri(picture: bytes) -> str:
    """A JPEG or PNG as a data URI. Raises ValueError for anything else."""
    if picture.startswith(_JPEG):
        kind = "jpeg"
    elif picture.startswith(_PNG):
        kind = "png"
    else:
        raise ValueError(f"a picture must be a JPEG or a PNG, got bytes that begin with {picture[:8]!r}")
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


_EXPLANATIONS = {
    "": "No thresholds are in force: every stored candidate waits for a person.",
    "measured, not guaranteed": "The thresholds were measured on held-out data. How much they miss on these images is "
                                "not known until the model is calibrated on images like them.",
    "set by hand, not guaranteed": "A person chose the thresholds. Nothing is known of what they miss.",
    "guaranteed as calibrated": "The thresholds were proven on calibration data, for this model and this runtime.",
}


def _plain_number(value: float) -> str:
    return f"{value:,.0f}"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _duration(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _utc(moment: datetime | None) -> str:
    return "–" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _rate(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _file_name(uri: str) -> str:
    return uri.rstrip("/").rsplit("/", 1)[-1] or uri


@cache
def _environment() -> Environment:
    environment = Environment(loader=PackageLoader("segsvc", "report_templates"), autoescape=True, trim_blocks=True,
                              lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters.update(number=_plain_number, score=_score, share=_share, duration=_duration, utc=_utc,
                               rate=_rate, file_name=_file_name, sentence=_sentence)
    return environment
