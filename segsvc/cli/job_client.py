"""The client of the job API, and what its commands are given: a server, and a run by its id or folder."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from segsvc.cli.server import Server
from segsvc.errors import ConfigError, RunError
from segsvc.job_documents import JobDocument, JobsDocument
from segsvc.settings import settings

_MOST_A_PAGE = 200


@dataclass(frozen=True, slots=True)
class Polled:
    """A run as it was last looked at. tag: of what was seen; again_s: when to look again."""

    job: JobDocument
    tag: str | None
    again_s: float


class JobClient:
    """Runs of one server. Raises ConfigError and RunError as `Server` does."""

    def __init__(self, server: Server) -> None:
        self._server = server

    @classmethod
    def at(cls, url: str) -> JobClient:
        """Of the server at that address, asked with the token of the settings."""
        token = settings().token
        return cls(Server(url, token.get_secret_value() if token is not None else None))

    def submit(self, body: Mapping[str, Any]) -> JobDocument:
        """The run, queued; once, however often the answer is lost on the way."""
        reply = self._server.ask("/v1/runs", body=body, headers={"Idempotency-Key": secrets.token_urlsafe(24)})
        return self._server.document(reply, JobDocument)

    def find(self, run_id: str) -> JobDocument:
        return self._server.document(self._server.ask(_path(run_id)), JobDocument)

    def poll(self, before: Polled) -> Polled:
        """The run as it is now."""
        headers = {"If-None-Match": before.tag} if before.tag is not None else {}
        reply = self._server.ask(_path(before.job.id), headers=headers)
        job = before.job if reply.status == 304 else self._server.document(reply, JobDocument)
        return Polled(job, reply.headers.get("ETag"), reply.retry_after_s or before.again_s)

    def cancel(self, run_id: str) -> JobDocument:
        return self._server.document(self._server.ask(f"{_path(run_id)}/cancel", body={}), JobDocument)

    def resume(self, run_id: str, *, retry_failed: bool) -> JobDocument:
        """The run with a new attempt; one, also where the answer is lost and it is asked for again."""
        before = self.find(run_id)
        try:
            reply = self._server.ask(f"{_path(run_id)}/resume", body={"retry_failed": retry_failed})
        except RunError:
            if (now := self.find(run_id)).attempt > before.attempt:
                return now
            raise
        return self._server.document(reply, JobDocument)

    def newest(self, limit: int) -> JobsDocument:
        """At most so many runs, the newest first."""
        items: list[JobDocument] = []
        cursor: str | None = None
        for page in self._pages(limit):
            items, cursor = [*items, *page.items], page.next_cursor
        return JobsDocument(items=items, next_cursor=cursor)

    def _pages(self, limit: int) -> Iterator[JobsDocument]:
        cursor: str | None = None
        while limit > 0:
            asked = {"limit": str(min(limit, _MOST_A_PAGE)), **({"cursor": cursor} if cursor is not None else {})}
            page = self._server.document(self._server.ask(f"/v1/runs?{urlencode(asked)}"), JobsDocument)
            yield page
            limit, cursor = limit - len(page.items), page.next_cursor
            if cursor is None:
                return

    def place(self, text: str, what: str) -> str:
        """A path or URI as the server understands it: where that is on this machine, from this working folder on.

        Raises ConfigError for a relative path of another machine.
        """
        if "://" in text or text.startswith("/"):
            return text
        if not self._server.is_local:
            raise ConfigError(f"{what}: expected an absolute path on the server's machine, or s3://..., got {text!r}: "
                              f"{self._server.url} is another machine")
        return os.path.abspath(text)  # noqa: PTH100 - links stay as they are named


def _path(run_id: str) -> str:
    return f"/v1/runs/{quote(os.fsencode(run_id), safe='')}"


def server_flag(command: Callable[..., int]) -> Callable[..., int]:
    """Adds `--server`; the command is given a `client`."""
    return click.option("--server", "client", metavar="URL", callback=_client,
                        help="The server that is asked. By default SEGSVC_SERVER or http://127.0.0.1:8765; SEGSVC_TOKEN is "
                             "sent along where it is set.")(command)


def _client(ctx: click.Context, parameter: click.Parameter, value: str | None) -> JobClient:
    return JobClient.at(value if value is not None else settings().server)


def run_id_of(run: str) -> str:
    """The id of the run that is meant by its id or by its folder OUT. Raises ConfigError for a folder of no run."""
    if "/" not in run and not Path(run).is_dir():
        return run
    from segsvc.results import RunFolder  # loads Arrow, and what reads OUT: not for --help
    from segsvc.stores import store_of
    from segsvc.summary import left_document, run_id

    folder = RunFolder(store_of(run).folder(run))
    spec, document = folder.spec(), left_document(folder)
    return document.id if document is not None else run_id(folder, spec)
