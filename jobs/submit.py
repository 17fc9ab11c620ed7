"""Attempts as jobs of a Ray cluster: submitted, polled and stopped over its job API; `jobs.batch` is what runs there.

The ledger says where a run stands, and published parts what is done of it: whatever becomes of a job or of the cluster's
head, the run is submitted again and goes on from its shards. A process of the server holds Ray's client, and ends with it.
"""

from __future__ import annotations

import logging
import math
import os
import shlex
import signal
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from jobs.batch import Part
from jobs.cluster import first_line
from jobs.embedded import Cancel, Cancelled, Died, Failed, Said, Succeeded, Told, Work, tell
from jobs.place import travelling
from jobs.published import PublishedParts
from segsvc.asking import Asked
from segsvc.documents import ImageCounts, RunState
from segsvc.errors import SegsvcError
from segsvc.processes import die_with
from segsvc.results import RunFolder
from segsvc.settings import RuntimeChoice, settings
from segsvc.stores import store_of
from segsvc.summary import left_document

log = logging.getLogger("jobs.submit")

_POLL_S = 1.0
_OUT = "segsvc_out"  # in a job's metadata
_SAID_WHY = frozenset({1, 2})  # exit codes of `jobs.batch` that come with a reason: trying again helps nobody
_OF_RUNS = ("runtime", "decode_limit_bytes", "image_timeout_s", "lanes_extra", "gpu_lanes", "ray")  # a run's own settings
_MOST_STARTS = 3  # of one stretch
_NOT_TAKEN = (RuntimeError, OSError, ValueError)  # what Ray's client raises


def work_by_ray(connection: Connection, parent: int) -> None:
    """Has runs done by jobs of the cluster at RAY_ADDRESS, until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides what Ctrl-C means
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with(parent)
    while True:
        try:
            said = connection.recv()
        except (EOFError, OSError):
            return
        if isinstance(said, Work):
            tell(connection, _Attempt(Asked.model_validate_json(said.asked), connection).work())


@dataclass(frozen=True, slots=True)
class _Job:
    """A job of the cluster: its part of the run, and how often that was submitted."""

    id: str
    part: Part
    starts: int = 1


class _Attempt:
    """An attempt's jobs, from the first one's submission to the last one's end.

    The first begins the run and plans it. A run of more shards than one job takes goes on in stretches, as many at the same
    time as the settings say; once all are published, a last job takes it to its end.
    """

    def __init__(self, asked: Asked, connection: Connection) -> None:
        self._asked = asked
        self._connection = connection
        self._folder = RunFolder(store_of(asked.out).folder(asked.out))
        before = left_document(self._folder)
        self._before = before.attempt if before is not None else 0
        self._parts = PublishedParts(self._folder, shard_size=asked.shard_size)
        self._shards = math.ceil(settings().ray.images_per_job / asked.shard_size)  # of one job
        is_split = not asked.retry_failed and self._folder.read_json("retry.json") is None  # failed images are few
        self._first = Part(beyond=self._shards) if is_split else Part()
        self._next = self._shards  # the first shard of the next stretch
        self._again: list[_Job] = []  # stretches whose jobs died
        self._live: list[_Job] = []
        self._heard_at = 0.0
        self._cancelling = self._is_begun = False

    def work(self) -> Said:
        """How it ended."""
        client = self._client()
        if client is None:
            return Cancelled() if self._cancelling else Failed(
                "RAY_ADDRESS: expected a Ray cluster that takes jobs, got none within "
                f"{settings().ray.start_timeout_s:g} s. Resume the run once it is there.")
        try:
            self._stop_former(client)
            self._submit(client, self._first)
        except _NOT_TAKEN as error:
            return Died(f"Ray did not take the job: {first_line(error)}")
        said = self._follow(client)
        self._stop(client)
        return said

    def _client(self) -> Any:
        """Ray's client, as soon as the cluster answers; None where it does not in time, or the run is to end."""
        from ray.job_submission import JobSubmissionClient

        give_up = time.monotonic() + settings().ray.start_timeout_s
        while time.monotonic() < give_up and not self._is_to_end():
            try:
                return JobSubmissionClient()  # at RAY_ADDRESS, with the token that RAY_AUTH_MODE asks for
            except _NOT_TAKEN as error:
                log.warning("Ray cannot be reached: %s", first_line(error))
            self._connection.poll(_POLL_S)
        return None

    def _stop_former(self, client: Any) -> None:
        """Ends jobs of this run that a server before this one has left."""
        for each in client.list_jobs():
            if (each.metadata or {}).get(_OUT) == self._asked.out and not each.status.is_terminal():
                client.stop_job(each.submission_id)

    def _submit(self, client: Any, part: Part, starts: int = 1) -> None:
        wanted = settings().ray.runtime_env
        env = {**travelling(settings(), *_OF_RUNS), **wanted.get("env_vars", {})}
        words = [self._asked.model_dump_json(exclude_defaults=True), part.model_dump_json(exclude_defaults=True)]
        job: str = client.submit_job(
            entrypoint=shlex.join(["python", "-m", "jobs.batch", *words]), runtime_env={**wanted, "env_vars": env},
            metadata={_OUT: self._asked.out, "segsvc_part": words[1]})
        self._live.append(_Job(job, part, starts))
        self._heard_at = time.monotonic()
        log.info("submitted to Ray", extra={"job": job, "part": words[1]})

    def _follow(self, client: Any) -> Said:
        while True:
            if self._is_to_end():
                self._stop(client)
            try:
                for job in list(self._live):
                    if (said := self._look_at(client, job)) is not None:
                        return said
                if self._parts.look():
                    self._tell_progress()
                if not self._cancelling:
                    self._go_on(client)
                elif not self._live:
                    return Cancelled()
            except (RuntimeError, OSError, SegsvcError) as error:
                log.warning("%s", first_line(error))
                if time.monotonic() - self._heard_at > settings().ray.away_s:
                    return Died(f"Ray has lost the job: {first_line(error)}")
            self._connection.poll(_POLL_S)

    def _look_at(self, client: Any, job: _Job) -> Said | None:
        """How the attempt ended, where this job says so. Raises RuntimeError or OSError where the cluster is away."""
        try:
            info = client.get_job_info(job.id)
        except RuntimeError as error:
            if "404" not in str(error):
                raise
            said = self._died(job, f"Ray has lost the job: {first_line(error)}")
        else:
            self._heard_at = time.monotonic()
            if not info.status.is_terminal():
                return None
            said = self._ended(job, info)
        self._live.remove(job)
        return said

    def _ended(self, job: _Job, info: Any) -> Said | None:
        document = left_document(self._folder) if not job.part.first else None
        state = document.state if document is not None and document.attempt > self._before else None
        if document is not None and state is RunState.SUCCEEDED:
            return Succeeded(document.model_dump_json())
        if self._cancelling:
            return None
        if info.driver_exit_code == 0 and (job.part.first or (state is RunState.RUNNING and job.part.beyond is not None)):
            self._is_begun |= not job.part.first
            return None
        if info.driver_exit_code in _SAID_WHY:
            return Failed((document.error if document is not None and state is not None else None)
                          or _last_line(info.message))
        return self._died(job, f"its job ended: {first_line(info.message or info.status.value)}")

    def _died(self, job: _Job, how: str) -> Said | None:
        """A stretch is submitted again; a run whose own job died is, as a whole, the next attempt."""
        if not job.part.first or job.starts >= _MOST_STARTS:
            return Died(how)
        log.warning("%s", how, extra={"job": job.id})
        self._again.append(job)
        return None

    def _go_on(self, client: Any) -> None:
        """Submits what may begin: stretches that are planned, as the first job's own is published, and then the end."""
        if self._first.beyond is None or not (self._is_begun or self._parts.has_all(0, self._shards)):
            return
        at_once = self._spread()
        while sum(1 for job in self._live if job.part.first) < at_once and (job := self._next_stretch(at_once)) is not None:
            try:
                self._submit(client, job.part, job.starts)
            except _NOT_TAKEN:
                self._again.append(job)
                raise
        all_begun = self._parts.all_planned and self._next >= self._parts.planned
        if self._is_begun and all_begun and not (self._live or self._again):
            self._submit(client, Part(takes_to_end=True))
            self._first = Part()  # nothing is left to begin

    def _next_stretch(self, at_once: int) -> _Job | None:
        if self._again:
            again = self._again.pop(0)
            return replace(again, starts=again.starts + 1)
        parts = self._parts
        while self._next < parts.planned:
            first, beyond = self._next, min(self._next + self._shards, parts.planned)
            if beyond - first < self._shards and not parts.all_planned:
                return None
            self._next = beyond
            if not parts.has_all(first, beyond):
                return _Job("", Part(first=first, beyond=beyond, share=at_once))
        return None

    def _spread(self) -> int:
        """How many stretches may be worked on at once, each by a part of the workers of the first job, on its runtime."""
        begun = left_document(self._folder)
        if begun is None:
            return 1
        self._asked = self._asked.model_copy(update={"runtime": RuntimeChoice(begun.spec.runtime)})
        return min(settings().ray.jobs_at_once, begun.workers)

    def _tell_progress(self) -> None:
        """By the parts that are published; which images failed is known at the end."""
        tell(self._connection, Told(ImageCounts(
            listed=self._parts.images_planned, done=self._parts.images_published, empty=0, failed=0, quarantined=0), None))

    def _stop(self, client: Any) -> None:
        """Has all jobs that live end; what they published is kept."""
        for job in self._live:
            try:
                client.stop_job(job.id)
            except (RuntimeError, OSError) as error:
                log.warning("%s", first_line(error))

    def _is_to_end(self) -> bool:
        try:
            while self._connection.poll():
                self._cancelling |= isinstance(self._connection.recv(), Cancel)
        except (EOFError, OSError):
            os._exit(1)  # the server is gone
        return self._cancelling


def _last_line(text: str) -> str:
    """What `jobs.batch` said last: Ray's own words and the log stand before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("jobs.batch: ") if lines else "its job failed"
