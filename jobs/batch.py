"""A run by Ray: what `ray job submit -- python -m jobs.batch SPEC` starts.

SPEC is a path, a URI or the JSON itself of a document with what `segsvc run` takes:
`{"input": ..., "model": ..., "out": ...}`, and, if need be, recall, precision, flag_at, accept_at, limit, shard_size,
workers, threads, runtime, retry_failed. The run's run.json comes out on stdout; exit codes are those of `segsvc run`.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from pydantic import ValidationError

from jobs.place import connected
from segsvc.asking import Asked, request_of
from segsvc.card import describe
from segsvc.documents import RunDocument
from segsvc.errors import ConfigError, ImageError, SegsvcError
from segsvc.runner import Progress, Run
from segsvc.settings import settings
from segsvc.stores import store_of

log = logging.getLogger("jobs.batch")

_USAGE = "expected one argument, SPEC: a path, a URI or the JSON of {input, model, out, ...}"
_SAY_EVERY_S = 30.0
_DONE, _FAILED, _WRONG, _SOME_FAILED, _INTERRUPTED = 0, 1, 2, 3, 130


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


def run(asked: Asked) -> RunDocument:
    """Begins or resumes the run and works until it is done."""
    with connected(log.warning) as place:
        return Run(request_of(asked, place, log.warning), settings(), place.executor).execute(_Told())


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
    signal.signal(signal.SIGTERM, _interrupt)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if len(given) != 1:
            raise ConfigError(f"{_USAGE}; got {len(given)}")
        asked = read_spec(given[0])
        document = run(asked)
    except KeyboardInterrupt:
        log.error("interrupted. What is finished is kept; the same SPEC goes on.")
        return _INTERRUPTED
    except ConfigError as error:
        log.error("%s", error)
        return _WRONG
    except (SegsvcError, OSError) as error:
        log.error("%s", error)
        return _FAILED
    print(document.model_dump_json(indent=2))  # noqa: T201 (what this program is for)
    return _SOME_FAILED if document.images.failed or document.images.quarantined else _DONE


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
