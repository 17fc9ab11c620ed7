"""What a program asks for over HTTP, made into a run that can be queued: looked up, checked, and named."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.webhooks import Allowed
from segsvc import clock
from segsvc.asking import Asked, Place, Within, request_of
from segsvc.card import describe
from segsvc.errors import ConfigError
from segsvc.ledger.job_records import NewJob
from segsvc.ledger.opening import Ledger
from segsvc.models.library import PACKAGED, Model, find_model, is_place
from segsvc.plan import listing
from segsvc.reach import Reach
from segsvc.results import RunFolder
from segsvc.settings import RuntimeChoice, settings, user_data
from segsvc.stores import store_of
from segsvc.summary import run_id
from segsvc.types import ImageRef

_LONGEST = 4096  # of a path or URI
_Place = Annotated[str, Field(min_length=1, max_length=_LONGEST, pattern=r"^[^\x00-\x1f]+$")]
_Share = Annotated[float, Field(gt=0, lt=1)]
_Score = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=1, le=10**9)]


class RunBody(BaseModel):
    """A run: MODEL over INPUT, with results in OUT, by default a new folder of the server's.

    recall and precision take the bands from the model's own calibration, flag_at and accept_at set them by hand; without any
    of them the model's operating point does. webhook: told of every state that the run comes into.
    """

    example: ClassVar[dict[str, Any]] = {"input": "s3://photos/2026/", "model": "nuclei", "recall": 0.95}
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, json_schema_extra={"examples": [example]})

    input: _Place
    model: _Place
    out: _Place | None = None
    recall: _Share | None = None
    precision: _Share | None = None
    flag_at: _Score | None = None
    accept_at: _Score | None = None
    limit: _Count | None = None
    shard_size: _Count | None = None
    webhook: Annotated[str, Field(max_length=2000)] | None = None


@dataclass(frozen=True, slots=True)
class Desk:
    """Where runs are asked for. reach: what programs may name; None: anything. place: where runs are computed."""

    ledger: Ledger
    reach: Reach | None
    place: Place

    def job_of(self, body: RunBody, asked_by: str) -> NewJob:
        """The run that is meant. Raises ConfigError where something of it is not to be had, or out of reach."""
        out = _absolute(body.out) if body.out is not None else self._own_out()
        asked = self._asked(body, out)
        if body.webhook is not None:
            Allowed.of(settings().serve).check(body.webhook)
        if self.reach is not None:
            self.reach.check(asked.input, "input")
            if body.out is not None:
                self.reach.check(asked.out, "out")
            _check_named(asked.model, self.reach)
        request = request_of(asked, self.place, lambda text: None)
        asked = asked.model_copy(update={"runtime": RuntimeChoice(request.runtime.value)})  # whoever works on it, and when
        if next((entry for entry in listing(request.source) if isinstance(entry.found, ImageRef)), None) is None:
            raise ConfigError(f"input: expected at least one image, found none in {body.input!r}")
        if self.reach is not None:
            _check_found(body.model, request.model, self.reach)
        folder = RunFolder(store_of(request.out_uri).folder(request.out_uri))
        try:
            folder.begin(request.spec)
        except OSError as error:
            raise ConfigError(f"out: expected a folder that can be written, got {folder.uri}: {error.strerror or error}"
                              ) from error
        return NewJob(
            run_id=run_id(folder, request.spec), asked=asked.model_dump_json(), out=request.out_uri,
            input=request.source.uri, model=request.model.name, model_digest=request.model.digest, asked_by=asked_by,
            webhook=body.webhook)

    def _asked(self, body: RunBody, out: str) -> Asked:
        said = body.model_dump(exclude={"webhook"}, exclude_none=True)
        within = Within(roots=self.reach.roots, buckets=self.reach.buckets) if self.reach is not None else None
        model = _absolute(body.model) if is_place(body.model) else body.model
        try:
            return Asked(**{**said, "input": _absolute(body.input), "model": model, "out": out, "within": within})
        except ValidationError as error:
            raise ConfigError(describe(error)) from error

    def _own_out(self) -> str:
        """A new folder for a run that names none: beside the ledger, or among this user's data."""
        folder = (self.ledger.folder or user_data("")) / "runs"
        return str(Path(folder) / f"{clock.utc_now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}")


def model_of(name: str, reach: Reach | None) -> Model:
    """The model of a name, folder or URI. Raises ConfigError where there is none, or none within reach."""
    if not 1 <= len(name) <= _LONGEST or not name.isprintable():
        raise ConfigError(f"model: expected a name of 1 to {_LONGEST} printable characters, got {name[:60]!r}")
    place = _absolute(name) if is_place(name) else name
    if reach is not None:
        _check_named(place, reach)
    model = find_model(place)
    if reach is not None:
        _check_found(name, model, reach)
    return model


def _check_named(name: str, reach: Reach) -> None:
    """Raises ConfigError for a model's folder or URI out of reach; nothing of it is read."""
    if is_place(name):
        reach.check(name, "model")


def _check_found(name: str, model: Model, reach: Reach) -> None:
    """Raises ConfigError where a name has led to a folder that is out of reach."""
    if not is_place(name) and not _is_kept(model.folder):
        reach.check(str(model.folder), "model")


def _is_kept(folder: Path) -> bool:
    """Whether a model's folder is among the user's models or those that came along."""
    return any(Path(os.path.realpath(kept)) in Path(os.path.realpath(folder)).parents
               for kept in (settings().models_dir, PACKAGED))


def _absolute(place: str) -> str:
    return place if "://" in place else os.path.abspath(place)  # noqa: PTH100 - links stay as they are named
