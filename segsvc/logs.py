"""Logs of what serves: a line per event on stderr, JSON for programs and text for people; ids, and never a name.

What says something is a constant text, and what it says it of are ids: `log.info("run taken", extra={"run_id": ...})`.
Whatever else comes is left out: other fields, what is put into a text but numbers, and what exceptions say, as all of
these may hold names of patients, paths, keys and tokens. Of an exception its type is shown, and where it was raised.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from segsvc.settings import LogFormat, settings

OURS = ("segsvc", "jobs", "review_ui")
_IDS = ("run_id", "attempt", "shard", "image_id")
_FACTS = ("job", "kind", "images", "failed", "candidates", "port")
FIELDS = frozenset((*_IDS, *_FACTS))  # numbers, ids, and words out of closed sets
_MOST_FRAMES = 12
_NOT_PLAIN = re.compile(r"[^\w .,;:()%…-]")

_PROCESS: dict[str, object] = {}
_BOUND: ContextVar[Mapping[str, object] | None] = ContextVar("bound", default=None)


@contextmanager
def bound(**ids: object) -> Iterator[None]:
    """What is logged by this thread within the block bears these ids."""
    token = _BOUND.set({**(_BOUND.get() or {}), **ids})
    try:
        yield
    finally:
        _BOUND.reset(token)


def of_process(ids: Mapping[str, object]) -> None:
    """What is logged by this process from here on bears these ids, whichever thread of it says it."""
    _PROCESS.clear()
    _PROCESS.update(ids)


def ids() -> dict[str, object]:
    """The ids that would be borne now: to be handed to another process."""
    return {**_PROCESS, **(_BOUND.get() or {})}


def for_people() -> bool:
    """Whether stderr is for people to read: as the settings say, by default where it is a terminal."""
    chosen = settings().log.format
    return sys.stderr.isatty() if chosen is LogFormat.AUTO else chosen is LogFormat.TEXT


def begin() -> None:
    """Sends what this process logs to stderr, and what ends its threads; of other libraries only warnings."""
    import structlog  # by what serves alone: a run at a terminal speaks plainly

    renderer: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False) if for_people() else (
        structlog.processors.JSONRenderer(ensure_ascii=False))
    formatter = structlog.stdlib.ProcessorFormatter(
        use_get_message=False, pass_foreign_args=True,  # what is put into a text may be a name
        foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level,
                           structlog.processors.TimeStamper(fmt="iso", utc=True), structlog.stdlib.ExtraAdder(FIELDS)],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_names, renderer])
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _without_names(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The event with the ids in force, and nothing that may be a name."""
    text = _NOT_PLAIN.split(_filled(event["event"], event["positional_args"]))[0].strip()
    kept = {"timestamp": event["timestamp"], "level": event["level"], "event": text, "logger": event["logger"]}
    found = {**ids(), **{name: event[name] for name in FIELDS & event.keys()}}
    kept |= {name: found[name] for name in (*_IDS, *_FACTS) if name in found}
    if event.get("exc_info"):
        kept |= _raised(event["exc_info"][1])
    return kept


def _filled(text: str, values: object) -> str:
    """The text with numbers and types of errors put in, and dots for all else."""
    if not isinstance(values, tuple) or not values:
        return text
    shown = tuple(value if isinstance(value, int | float) else type(value).__name__ if isinstance(value, BaseException)
                  else "…" for value in values)
    try:
        return text % shown
    except (TypeError, ValueError):  # a format that wants more than a text
        return text


def _raised(error: BaseException | None) -> dict[str, Any]:
    """The type of an exception and of those that it came of, and the places that it went through, the innermost last."""
    types, places = [], []
    while error is not None:
        types.append(type(error).__name__)
        trace = error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            places.append(f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno} {code.co_name}")
            trace = trace.tb_next
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return {"raised": " from ".join(types), "where": places[-_MOST_FRAMES:]}


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    info = (kind, error if error is not None else kind(), trace)
    logging.getLogger("segsvc.logs").critical("ended by an error", exc_info=info)
