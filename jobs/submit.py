"""Attempts as jobs of a Ray cluster: submitted, polled and stopped over its job API; `jobs.batch` is what runs there.

The ledger says where a run stands, and published parts what is done of it: whatever becomes of a job or of the cluster's
head, the run is submitted again and goes on from its shards. A process of the server holds Ray's client, and ends with it.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import time
from multiprocessing.connection import Connection
from typing import Any

from jobs.cluster import first_line
from jobs.embedded import Cancel, Cancelled, Died, Failed, Said, Succeeded, Told, Work, tell
from jobs.place import travelling
from segsvc.asking import Asked
from segsvc.documents import ImageCounts, RunState
from segsvc.errors import SegsvcError
from segsvc.processes import die_with
from segsvc.results import RunFolder
from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.summary import left_document

log = logging.getLogger("jobs.submit")

_POLL_S = 1.0
_AWAY_S = 60.0  # a cluster that answers nothing for so long has lost the job
_OUT = "segsvc_out"  # in a job's metadata
_SAID_WHY = frozenset({1, 2})  # exit codes of `jobs.batch` that come with a reason: trying again helps nobody


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


class _Attempt:
    """One job of the cluster, from its submission to its end."""

    def __init__(self, asked: Asked, connection: Connection) -> None:
        self._asked = asked
        self._connection = connection
        self._folder = RunFolder(store_of(asked.out).folder(asked.out))
        before = left_document(self._folder)
        self._before = before.attempt if before is not None else 0
        self._cancelling = False

    def work(self) -> Said:
        """How it ended."""
        client = self._client()
        if client is None:
            return Cancelled() if self._cancelling else Failed(
                "RAY_ADDRESS: expected a Ray cluster that takes jobs, got none within "
                f"{settings().ray.start_timeout_s:g} s. Resume the run once it is there.")
        try:
            self._stop_former(client)
            job = self._submit(client)
        except (RuntimeError, OSError, ValueError) as error:
            return Died(f"Ray did not take the job: {first_line(error)}")
        log.info("submitted to Ray", extra={"job": job})
        return self._follow(client, job)

    def _client(self) -> Any:
        """Ray's client, as soon as the cluster answers; None where it does not in time, or the run is to end."""
        from ray.job_submission import JobSubmissionClient

        give_up = time.monotonic() + settings().ray.start_timeout_s
        while time.monotonic() < give_up and not self._is_to_end():
            try:
                return JobSubmissionClient()  # at RAY_ADDRESS, with the token that RAY_AUTH_MODE asks for
            except (RuntimeError, OSError, ValueError) as error:
                log.warning("Ray cannot be reached: %s", first_line(error))
            self._connection.poll(_POLL_S)
        return None

    def _stop_former(self, client: Any) -> None:
        """Ends jobs of this run that a server before this one has left."""
        for each in client.list_jobs():
            if (each.metadata or {}).get(_OUT) == self._asked.out and not each.status.is_terminal():
                client.stop_job(each.submission_id)

    def _submit(self, client: Any) -> str:
        wanted = settings().ray.runtime_env
        env = {**travelling(settings()), **wanted.get("env_vars", {})}
        job: str = client.submit_job(
            entrypoint=f"python -m jobs.batch {shlex.quote(self._asked.model_dump_json(exclude_defaults=True))}",
            runtime_env={**wanted, "env_vars": env}, metadata={_OUT: self._asked.out})
        return job

    def _follow(self, client: Any, job: str) -> Said:
        heard_at = time.monotonic()
        stopped = False
        while True:
            if self._is_to_end() and not stopped:
                stopped = _safely(lambda: client.stop_job(job))
            try:
                info = client.get_job_info(job)
            except (RuntimeError, OSError) as error:
                if "404" in str(error) or time.monotonic() - heard_at > _AWAY_S:
                    return Died(f"Ray has lost the job: {first_line(error)}")
            else:
                heard_at = time.monotonic()
                if info.status.is_terminal():
                    return self._ended(info)
                self._tell_progress()
            self._connection.poll(_POLL_S)

    def _ended(self, info: Any) -> Said:
        document = left_document(self._folder)
        is_own = document is not None and document.attempt > self._before
        if document is not None and is_own and document.state is RunState.SUCCEEDED:
            return Succeeded(document.model_dump_json())
        if self._cancelling:
            return Cancelled()
        if info.driver_exit_code in _SAID_WHY:
            return Failed((document.error if document is not None and is_own else None) or _last_line(info.message))
        return Died(f"its job ended: {first_line(info.message or info.status.value)}")

    def _tell_progress(self) -> None:
        """By the parts that are published; which images failed is known at the end."""
        try:
            last, published = self._folder.last_planned(), set(self._folder.numbers("images"))
        except (SegsvcError, OSError) as error:
            log.warning("%s", error)
            return
        if last is None or not last.units:
            return
        listed, size = last.units[-1].ordinal + 1, self._asked.shard_size
        short = size - len(last.units) if last.number in published else 0
        tell(self._connection, Told(ImageCounts(
            listed=listed, done=len(published) * size - short, empty=0, failed=0, quarantined=0), None))

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


def _safely(ask: Any) -> bool:
    try:
        ask()
    except (RuntimeError, OSError) as error:
        log.warning("%s", first_line(error))
        return False
    return True
