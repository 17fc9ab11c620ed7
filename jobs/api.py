"""The HTTP job API: submit a run, poll it, follow it, cancel and resume it.

`review_ui/app.py` includes these routes and gives them who is asking; what the ledger refuses is answered there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Annotated, Any

from anyio import CapacityLimiter, sleep, to_thread
from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from starlette.responses import StreamingResponse

from jobs.answers import JobAnswer, JobsAnswer, ResumeBody
from jobs.asking import Desk, RunBody
from segsvc.errors import ConfigError
from segsvc.ledger import jobs
from segsvc.ledger.errors import Refused
from segsvc.ledger.job_records import Job
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import Reader

POLL_AFTER_S = 1
_LOOK_S = 0.5  # how often a stream looks whether a run has changed
_COMMENT_S = 15.0  # how often it says that it is there
_RunId = Annotated[str, Path(max_length=200)]


@dataclass(frozen=True, slots=True)
class Jobs:
    """What the routes work with. wake: tells who sees to the runs that one was queued or is to end; ending: the server is
    about to end. looking_up: how many runs are looked up at once, following: how many streams ask the ledger at once."""

    ledger: Ledger
    desk: Callable[[], Desk]
    wake: Callable[[], None] = lambda: None
    ending: Event = field(default_factory=Event)
    looking_up: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(4))
    following: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(4))


@dataclass(frozen=True, slots=True)
class Access:
    """Who is asking: anybody who may come in, or an admin. Each raises what is answered where it is somebody else."""

    anybody: Callable[[Request], Reader]
    admin: Callable[[Request], Reader]


async def _jobs(request: Request) -> Jobs:
    found: Jobs = request.app.state.jobs
    return found


def _anybody(request: Request) -> Reader:
    access: Access = request.app.state.access
    return access.anybody(request)


def _admin(request: Request) -> Reader:
    access: Access = request.app.state.access
    return access.admin(request)


Parts = Annotated[Jobs, Depends(_jobs)]
Anybody = Annotated[Reader, Depends(_anybody)]
Admin = Annotated[Reader, Depends(_admin)]


def routes(problems: Callable[..., dict[int | str, dict[str, Any]]]) -> APIRouter:
    """The routes of runs. problems: how those of some statuses stand in the description.

    The application has `state.jobs`, a Jobs, and `state.access`, an Access.
    """
    router = APIRouter(prefix="/v1", tags=["runs"], responses=problems(401))

    @router.post("/runs", status_code=202, responses=problems(403, 409, 422, 503, 507))
    async def submit(parts: Parts, reader: Admin, body: Annotated[RunBody, Body()], response: Response,
                     idempotency_key: Annotated[str | None, Header()] = None) -> JobAnswer:
        """Queues a run; without `out` into a new folder. The same `Idempotency-Key` and body give the same run."""
        job = await to_thread.run_sync(_submit, parts, reader, body, idempotency_key, limiter=parts.looking_up)
        parts.wake()
        response.headers.update({"Location": f"/v1/runs/{job.run_id}", **_headers(job)})
        return JobAnswer.of(job)

    @router.get("/runs", responses=problems(422))
    def list_runs(parts: Parts, _: Anybody, cursor: Annotated[str | None, Query(max_length=40)] = None,
                  limit: Annotated[int, Query(ge=1, le=jobs.MOST_A_PAGE)] = 50) -> JobsAnswer:
        """Runs, the newest first; those that a command has made too, once they were taken into the ledger."""
        return JobsAnswer.of(jobs.page(parts.ledger, cursor=cursor, limit=limit))

    @router.get("/runs/{run_id}", responses={**problems(404), 304: {"description": "Nothing moved"}},
                response_model=JobAnswer)
    def show_run(parts: Parts, _: Anybody, run_id: _RunId, response: Response,
                 if_none_match: Annotated[str | None, Header()] = None) -> Response | JobAnswer:
        """A run and how far it is. With `If-None-Match` 304 where nothing moved since."""
        job = jobs.find(parts.ledger, run_id)
        headers = _headers(job)
        if if_none_match is not None and headers["ETag"] in {tag.strip() for tag in if_none_match.split(",")}:
            return Response(status_code=304, headers=headers)
        response.headers.update(headers)
        return JobAnswer.of(job)

    @router.post("/runs/{run_id}/cancel", status_code=202, responses=problems(403, 404, 409))
    def cancel(parts: Parts, reader: Admin, run_id: _RunId, response: Response) -> JobAnswer:
        """Ends a run; what is published is kept, and it can be resumed. One that was cancelled stays as it is."""
        job = jobs.cancel(parts.ledger, run_id, reader.name)
        parts.wake()
        response.headers.update(_headers(job))
        return JobAnswer.of(job)

    @router.post("/runs/{run_id}/resume", status_code=202, responses=problems(403, 404, 409, 422))
    def resume(parts: Parts, _: Admin, run_id: _RunId, response: Response,
               body: Annotated[ResumeBody | None, Body()] = None) -> JobAnswer:
        """A new attempt at a run that failed or was cancelled; it goes on where that ended."""
        job = jobs.resume(parts.ledger, run_id, retry_failed=body.retry_failed if body is not None else False)
        parts.wake()
        response.headers.update(_headers(job))
        return JobAnswer.of(job)

    @router.get("/runs/{run_id}/events", response_class=StreamingResponse, responses={
        **problems(404, 422), 200: {"content": {"text/event-stream": {"schema": {"type": "string"}}},
                                    "description": "An event `run` with its document for every change, until it ends"}})
    async def follow(parts: Parts, _: Anybody, run_id: _RunId,
                     last_event_id: Annotated[str | None, Header(max_length=40)] = None) -> StreamingResponse:
        """The run whenever it changes, as server-sent events; with `Last-Event-ID` from there on."""
        after = _event_number(last_event_id)
        first = await to_thread.run_sync(jobs.find, parts.ledger, run_id, limiter=parts.following)
        return StreamingResponse(_events(parts, first, after), media_type="text/event-stream",
                                 headers={"X-Accel-Buffering": "no"})

    return router


def _submit(parts: Jobs, reader: Reader, body: RunBody, key: str | None) -> Job:
    if key is not None and (there := jobs.known(parts.ledger, reader.user_id, key, body.model_dump_json().encode())):
        return there
    try:
        try:
            new = parts.desk().job_of(body, reader.name)
        except ConfigError as error:  # a bucket that cannot be used too: which one is meant is in the body
            raise Refused(str(error)) from error
        return jobs.submit(parts.ledger, new, user_id=reader.user_id, key=key)
    except BaseException:
        if key is not None:
            jobs.forget(parts.ledger, reader.user_id, key)
        raise


def _headers(job: Job) -> Mapping[str, str]:
    headers = {"ETag": f'"{job.changed}-{job.run_id[:8]}"'}
    return {**headers, "Retry-After": str(POLL_AFTER_S)} if job.is_open else headers


def _event_number(text: str | None) -> int:
    if text is None or text == "":
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Refused(f"Last-Event-ID: expected the id of an event of this run, got {text!r}")
    return int(text)


async def _events(parts: Jobs, job: Job, after: int) -> AsyncIterator[str]:
    """The run for every change, until it is over or the server ends; a comment now and then where there is none."""
    silent_s = 0.0
    while True:
        if job.changed != after:
            after, silent_s = job.changed, 0.0
            yield f"id: {job.changed}\nevent: run\ndata: {JobAnswer.of(job).model_dump_json()}\n\n"
        if not job.is_open or parts.ending.is_set():
            return
        await sleep(_LOOK_S)
        silent_s += _LOOK_S
        if silent_s >= _COMMENT_S:
            silent_s = 0.0
            yield ": still here\n\n"
        job = await to_thread.run_sync(jobs.find, parts.ledger, job.run_id, limiter=parts.following)
