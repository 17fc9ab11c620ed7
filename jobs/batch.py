"""A run by Ray: what `ray job submit -- python -m jobs.batch SPEC` starts.

SPEC is a path, a URI or the JSON itself of a document with what `segsvc run` takes:
`{"input": ..., "model": ..., "out": ...}`, and, if need be, recall, precision, flag_at, accept_at, limit, shard_size,
workers, threads, runtime, retry_failed. The run's run.json comes out on stdout; exit codes are those of `segsvc run`.

A second argument, PART, is what `jobs.submit` gives where a run is several jobs (`Part`).
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.place import connected
from segsvc import interrupts
from segsvc.asking import Asked, request_of
from segsvc.card import describe
from segsvc.documents import RunDocument, RunState
from segsvc.errors import ConfigError, ImageError, SegsvcError
from segsvc.runner import Progress, Run
from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.stretch import Stretch, work_on

log = logging.getLogger("jobs.batch")

_USAGE = "expected one argument, SPEC: a path, a URI or the JSON of {input, model, out, ...}"
_SAY_EVERY_S = 30.0
_DONE, _FAILED, _WRONG, _SOME_FAILED, _INTERRUPTED = 0, 1, 2, 3, 130


class Part(BaseModel):
    """What of a run one job does, as JSON: all of it by default.

    With `beyond` alone it begins the run, plans it whole, and works on the shards up to there; with `first` too it works on
    these shards of a run that was begun. takes_to_end: all the others are done. share: it takes one of so many equal parts
    of the workers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: Annotated[int, Field(ge=0)] = 0
    beyond: Annotated[int, Field(ge=1)] | None = None
    takes_to_end: bool = False
    share: Annotated[int, Field(ge=1)] = 1


def read_spec(spec: str) -> Asked:
    """The document at a path or URI, or in the argument itself. Raises ConfigError where it is none."""
    if spec.lstrip().startswith("{"):
        text: str | bytes = spec
    else:
        store = store_of(spec)
        try:
            blob = store.open(store.find(spec))
            text = blob.read_all()
            blob.close()
        except ImageError as error:
            raise ConfigError(f"SPEC: expected a JSON document at {spec}: {error}") from error
    try:
        return Asked.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"SPEC: {describe(error)}") from error


def _part(text: str) -> Part:
    try:
        return Part.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"PART: {describe(error)}") from error


def run(asked: Asked, part: Part) -> RunDocument | None:
    """Begins or resumes the run, or does its part of it; its run.json where it was this job that began or ended it."""
    with connected(log.warning) as place:
        request = request_of(asked, place, log.warning)
        request = replace(request, workers=max(1, request.workers // part.share))
        if part.first and part.beyond is not None:
            work_on(Stretch(part.first, part.beyond), request, settings(), place.executor, _Told())
            return None
        request = replace(request, upto=part.beyond, takes_to_end=part.takes_to_end)
        return Run(request, settings(), place.executor).execute(_Told())


class _Told:
    """Progress as a line in the log now and then."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._said_at >= _SAY_EVERY_S:
            self._said_at = now
            log.warning("%d of %d images, %d failed", progress.ended, progress.planned, progress.failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; the exit code."""
    interrupts.heed()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if len(given) not in (1, 2):
            raise ConfigError(f"{_USAGE}; got {len(given)}")
        document = run(read_spec(given[0]), _part(given[1]) if len(given) > 1 else Part())
    except KeyboardInterrupt:
        log.error("interrupted. What is finished is kept; the same SPEC goes on.")
        return _INTERRUPTED
    except ConfigError as error:
        log.error("%s", error)
        return _WRONG
    except (SegsvcError, OSError) as error:
        log.error("%s", error)
        return _FAILED
    if document is None:
        return _DONE
    print(document.model_dump_json(indent=2))  # noqa: T201 (what this program is for)
    is_over = document.state is RunState.SUCCEEDED  # else the rest is other jobs' to do, and what failed is told by the last
    return _SOME_FAILED if is_over and document.images.failed + document.images.quarantined else _DONE


if __name__ == "__main__":
    sys.exit(main())
