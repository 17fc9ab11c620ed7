"""What a user asks of a run, by flags, by JSON or by HTTP, and what is made of it on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, WithJsonSchema

from segsvc import clock
from segsvc.card import describe
from segsvc.converting import ready_runtime
from segsvc.errors import ConfigError
from segsvc.loaded import available_cores
from segsvc.models.library import Model, find_model
from segsvc.operating_point import Basis, ClassThresholds, OperatingPoint, latest_calibration
from segsvc.plan import Input, InputKind, listing, read_input
from segsvc.reach import Reach
from segsvc.runner import DEFAULT_SHARD_SIZE, RunRequest
from segsvc.settings import RuntimeChoice, settings
from segsvc.stores import store_of
from segsvc.types import Runtime

_CORES_PER_WORKER = 8  # beyond, one process's threads wait for each other


def _name(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("expected a text that is not empty")
    return value


Share = Annotated[float, Field(gt=0, lt=1)]
Score = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
# A name of a file may hold bytes that are no UTF-8, which pydantic's own str refuses.
Name = Annotated[str, PlainValidator(_name), WithJsonSchema({"type": "string", "minLength": 1})]
Say = Callable[[str], None]  # tells the user something on the way


class Within(BaseModel):
    """What INPUT may name (`segsvc.reach`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    roots: tuple[str, ...]
    buckets: tuple[str, ...]


class Asked(BaseModel):
    """A run as it is asked for: what `segsvc run` takes, as one document."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    input: Name
    model: Name
    out: Name
    recall: Share | None = None
    precision: Share | None = None
    flag_at: Score | None = None
    accept_at: Score | None = None
    limit: Count | None = None
    shard_size: Count = DEFAULT_SHARD_SIZE
    workers: Count | None = None
    threads: Count | None = None
    runtime: RuntimeChoice | None = None
    retry_failed: bool = False
    within: Within | None = None

    @property
    def bands(self) -> BandsAsked:
        return BandsAsked(self.recall, self.precision, self.flag_at, self.accept_at)


@dataclass(frozen=True, slots=True)
class BandsAsked:
    """What was asked of the bands."""

    recall: float | None
    precision: float | None
    flag_at: float | None
    accept_at: float | None

    @property
    def is_empty(self) -> bool:
        return (self.recall, self.precision, self.flag_at, self.accept_at) == (None, None, None, None)


@dataclass(frozen=True, slots=True)
class Looked:
    """What was asked for, looked up: nothing was begun or converted."""

    model: Model
    source: Input
    point: OperatingPoint | None
    choice: RuntimeChoice


class Place:
    """Where a run is to be computed: this machine. Others say how many workers they have, and on which runtime."""

    def spread(self, workers: int | None, threads: int | None, runtime: Runtime) -> tuple[int, int]:
        """Workers and threads of each: what was asked for, and for the rest all cores."""
        cores = available_cores()
        if workers is None:
            workers = max(1, -(-cores // (threads or _CORES_PER_WORKER))) if threads is None or threads < cores else 1
        return workers, threads if threads is not None else max(1, cores // workers)

    def runtime(self, model: Model, choice: RuntimeChoice, say: Say) -> Runtime:
        """The runtime that will compute the model, which is converted for it if need be."""
        return ready_runtime(model, choice, say)


def look_up(asked: Asked, say: Say) -> Looked:
    """The model, INPUT and bands that are meant. Raises ConfigError where one of them is not to be had."""
    model = find_model(asked.model)
    point = operating_point(asked.bands, model, say)
    source = read_input(asked.input)
    if source.kind is InputKind.LISTING and not source.uri.startswith("file://"):
        next(listing(source), None)  # a bucket that cannot be used says so before a model is converted
    model.check_weights()
    return Looked(model, source, point, asked.runtime or settings().runtime)


def request_of(asked: Asked, place: Place, say: Say) -> RunRequest:
    """The run that is meant. Raises ConfigError where something of it is not to be had."""
    looked = look_up(asked, say)
    out = store_of(asked.out).folder(asked.out)
    if not out.uri.startswith("file://"):
        out.tag("spec.json")
    runtime = place.runtime(looked.model, looked.choice, say)
    workers, threads = place.spread(asked.workers, asked.threads, runtime)
    return RunRequest(
        source=looked.source, model=looked.model, runtime=runtime, out_uri=out.uri,
        point=looked.point, point_was_asked=not asked.bands.is_empty, limit=asked.limit, shard_size=asked.shard_size,
        workers=workers, threads=threads, retry_failed=asked.retry_failed,
        reach=Reach(asked.within.roots, asked.within.buckets) if asked.within is not None else None)


def operating_point(bands: BandsAsked, model: Model | None, say: Say,
                    on_record: Sequence[OperatingPoint] = ()) -> OperatingPoint | None:
    """The operating point that was asked for; without flags the model's own, None where it has none.

    model: None where the model of a run is not here any more; bands by hand need none. on_record: the points of that run,
    whose last calibration serves where the model's is gone.

    Raises ConfigError where the flags contradict each other or ask for a calibration that there is not.
    """
    own = model.operating_point if model is not None else None
    calibration = latest_calibration((*on_record, own))
    if bands.recall is not None or bands.precision is not None:
        if bands.flag_at is not None or bands.accept_at is not None:
            raise ConfigError("bands: expected --recall/--precision or --flag-at/--accept-at, got both")
        return _calibrated(bands, calibration, model)
    if bands.flag_at is None:
        if bands.accept_at is not None:
            raise ConfigError("--accept-at: expected --flag-at with it, got --accept-at alone")
        return own
    if model is not None and bands.flag_at < (floor := model.card.extraction.floor):
        say(f"note: {model.name} stores candidates from score {floor:g} on; nothing below is there to be flagged")
    return by_hand(bands.flag_at, bands.accept_at, now=clock.utc_now(), calibration=calibration)


def _calibrated(bands: BandsAsked, calibration: OperatingPoint | None, model: Model | None) -> OperatingPoint:
    if calibration is None:
        if model is None:
            raise ConfigError("--recall: expected the run's model with its calibration, it is not here or was changed. "
                              "Set the bands by hand: --flag-at S [--accept-at S].")
        came = "an operating point that was measured, not guaranteed" if model.operating_point is not None else "none"
        raise ConfigError(f"--recall: expected a model with its own calibration, {model.name} has {came}. `segsvc "
                          "calibrate` makes one; --flag-at S [--accept-at S] sets the bands by hand.")
    try:
        return calibration.asked(bands.recall, bands.precision).model_copy(update={"set_at": None})
    except ValueError as error:
        flag = "--precision" if bands.recall is None else "--recall/--precision"
        raise ConfigError(f"{flag}: {error}. Ask for less, or calibrate on more images.") from error


def by_hand(flag_at: float, accept_at: float | None, *, now: datetime,
            calibration: OperatingPoint | None = None) -> OperatingPoint:
    """An operating point that a person set, for every class; a calibration's probabilities stay what they are.

    Raises ConfigError where the two are out of order.
    """
    if accept_at is not None and accept_at < flag_at:
        raise ConfigError(f"--accept-at: expected at least --flag-at ({flag_at:g}), got {accept_at:g}")
    try:
        thresholds = ClassThresholds(flag_at=flag_at, accept_at=accept_at)
    except ValidationError as error:
        raise ConfigError(f"--flag-at/--accept-at: {describe(error)}") from error
    point = OperatingPoint(basis=Basis.BY_HAND, classes={"*": thresholds}, set_at=now)
    if calibration is None:
        return point
    return point.model_copy(update={"probabilities": calibration.probabilities, "model_digest": calibration.model_digest,
                                    "runtime": calibration.runtime})
