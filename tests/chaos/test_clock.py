"""Clocks of servers are set an hour forwards or back, or differ: runs, messages and what gathers go on as if nothing was."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.reconciling import reconcile
from jobs.rules import Rule, Rules
from segsvc import clock
from segsvc.errors import RunError
from segsvc.event_documents import NOTHING_TAKEN, TakenDocument
from segsvc.ledger import jobs
from segsvc.ledger.event_errands import EndListing, HearObjects
from segsvc.ledger.job_records import AttemptState
from segsvc.ledger.opening import open_ledger
from tests.chaos.outs import NONE, FileOut, differences
from tests.chaos.test_service import MOST_S, Server, has_gone_on, state, submit, wait_for
from tests.conftest import Program
from tests.postgres_server import new_database, postgres_server
from tests.posts_server import posts_server
from tests.s3_servers import S3Server, free_ports, shared_moto
from tests.scenes import write_scenes

AN_HOUR, IMAGES = 3600.0, 160
CLOCK = Path(__file__).parent / "clock"
RULES = """
rules:
  - name: street
    prefix: s3://{bucket}/street/
    model: bright
    out: {out}
    flag_at: 0.5
    gather: {{seconds: 2, images: 100}}
"""


@dataclass(slots=True)
class Clock:
    """A clock that programs are started with; it is right until it is set."""

    file: Path

    def set(self, off_s: float) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(str(off_s))
        new.replace(self.file)

    def environment(self, segsvc: Program) -> dict[str, str]:
        return {"CHAOS_CLOCK": str(self.file), "PYTHONPATH": f"{CLOCK}{os.pathsep}{segsvc.environment['PYTHONPATH']}"}


@dataclass(slots=True)
class Told:
    """Who is told of runs: refuses as many messages as it is told to, and notes the others."""

    taken: list[tuple[str, str]] = field(default_factory=list)
    refuses: int = 0
    port: int = 0


@pytest.fixture
def told() -> Iterator[Told]:
    found = Told()

    def answer(headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str]]:
        if found.refuses:
            found.refuses -= 1
            return 500, {}
        message = json.loads(body)
        found.taken.append((message["data"]["id"], message["type"]))
        return 204, {}

    with posts_server(answer) as found.port:
        yield found


@pytest.fixture
def servers(segsvc: Program) -> Iterator[Callable[..., Server]]:
    """Starts servers, each with a clock of its own."""
    with ExitStack() as stack:
        def start(clock: Clock, *more: str | Path, **environment: str) -> Server:
            server = Server(segsvc, free_ports(1)[0], more=more, environment={**clock.environment(segsvc), **environment})
            stack.callback(server.end)
            server.start()
            return server

        yield start


@pytest.fixture
def scenes(segsvc: Program) -> list[Path]:
    return write_scenes(segsvc.folder / "in", IMAGES)


def until(found: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + MOST_S
    while not found():
        assert time.monotonic() < give_up, f"stuck: {what}"
        time.sleep(0.1)


def test_a_server_whose_clock_is_set_while_a_run_a_message_and_objects_wait_goes_on(
        servers: Callable[..., Server], segsvc: Program, scenes: list[Path], told: Told) -> None:
    store, bucket, folder = shared_moto(), f"clock-{secrets.token_hex(4)}", segsvc.folder
    store.client().create_bucket(Bucket=bucket)
    clock = Clock(folder / "clock")
    clock.set(0)
    (folder / "rules.yaml").write_text(RULES.format(bucket=bucket, out=folder / "gathered"))
    server = servers(clock, **store.environment, SEGSVC_SERVE__RULES=str(folder / "rules.yaml"),
                     SEGSVC_SERVE__WEBHOOKS=f'["http://127.0.0.1:{told.port}/"]',
                     SEGSVC_SERVE__WEBHOOK_HOSTS='["127.0.0.1"]', SEGSVC_SERVE__WEBHOOK_NETWORKS='["127.0.0.0/8"]')
    run_ids: list[str] = []
    for key, off_s in (("out-0", AN_HOUR), ("out-1", 0)):
        told.refuses = 1
        run_ids.append(run_id := submit(server, folder, key))
        assert has_gone_on(server, run_id)
        until(lambda: told.refuses == 0, "the first message")
        store.client().put_object(Bucket=bucket, Key=f"street/{key}.png", Body=scenes[len(run_ids)].read_bytes())
        assert server.ask("POST", "/v1/s3-events", json=put_event(store, bucket, f"street/{key}.png")).json()["queued"] == 1
        clock.set(off_s)
        ended = wait_for(server, run_id)
        assert (ended["state"], ended["attempt"]) == ("succeeded", 1)
        until(lambda: len(server.ask("GET", "/v1/runs").json()["items"]) > len(run_ids), "what has gathered")
        run_ids.append(gathered := server.ask("GET", "/v1/runs").json()["items"][0]["id"])
        ended = wait_for(server, gathered)
        assert (ended["state"], ended["images"]["listed"]) == ("succeeded", 1)
        until(lambda: len(told.taken) >= 2 * len(run_ids), "messages")
    assert differences(FileOut(folder / "out-0"), FileOut(folder / "out-1"), images=[path.name for path in scenes]) == NONE
    assert Counter(told.taken) == {(each, f"run.{said}"): 1 for each in run_ids for said in ("running", "succeeded")}
    assert len(server.ask("GET", "/v1/runs").json()["items"]) == len(run_ids)


def put_event(store: S3Server, bucket: str, key: str) -> dict[str, object]:
    there = store.client().head_object(Bucket=bucket, Key=key)
    return {"Records": [{"eventName": "ObjectCreated:Put", "eventTime": there["LastModified"].isoformat(), "s3": {
        "bucket": {"name": bucket},
        "object": {"key": key, "size": there["ContentLength"], "eTag": there["ETag"].strip('"')}}}]}


@pytest.mark.skipif("CHAOS_KILLS" not in os.environ, reason="two servers and a PostgreSQL take their time: in `make chaos`")
def test_servers_whose_clocks_are_an_hour_apart_leave_each_other_their_runs_and_take_up_those_of_the_dead(
        servers: Callable[..., Server], segsvc: Program, scenes: list[Path]) -> None:
    with postgres_server() as postgres:
        place = new_database(postgres)
        pair = []
        for off_s in (AN_HOUR, 0):
            clock = Clock(segsvc.folder / f"clock{off_s}")
            clock.set(off_s)
            pair.append(servers(clock, "--ledger", place))
        ahead, other = pair
        assert ahead.process is not None
        run_ids = {key: submit(other, segsvc.folder, key) for key in ("out-0", "out-1")}  # one for each
        until(lambda: all(state(other, run_id)["state"] == "running" for run_id in run_ids.values()), "two who work")
        time.sleep(1.5)  # both have looked for runs of the lost
        with open_ledger(place) as ledger:
            holders = {key: [move.why.rpartition(":")[2] for move in jobs.moves(ledger, run_id)
                             if move.state is AttemptState.RUNNING] for key, run_id in run_ids.items()}
        assert [len(each) for each in holders.values()] == [1, 1]
        [taken_over] = [key for key, pids in holders.items() if pids == [str(ahead.process.pid)]]
        ahead.end()
        ended = {key: wait_for(other, run_id) for key, run_id in run_ids.items()}
    assert {key: (each["state"], each["attempt"]) for key, each in ended.items()} == {
        key: ("succeeded", 1 + (key == taken_over)) for key in run_ids}
    assert differences(*(FileOut(segsvc.folder / key) for key in run_ids), images=[path.name for path in scenes]) == NONE


def test_nothing_is_marked_as_gone_by_a_listing_during_which_the_clock_was_set_back(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_process: Callable[[], None]) -> None:
    store, bucket = shared_moto(), f"clock-{secrets.token_hex(4)}"
    store.client().create_bucket(Bucket=bucket)
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    in_process()
    rules = Rules((Rule(name="street", prefix=f"s3://{bucket}/street/", model="bright", out=str(tmp_path), flag_at=0.5),))

    ended: list[object] = []
    store.client().put_object(Bucket=bucket, Key="street/1.png", Body=b"x")

    def take(errand: HearObjects) -> TakenDocument:
        monkeypatch.setattr(clock, "utc_now", lambda: datetime.now(UTC) - timedelta(hours=1))
        return NOTHING_TAKEN

    def end(errand: EndListing) -> int:
        ended.append(errand)
        return 0

    with pytest.raises(RunError, match=r"was set back by 3\d{3} s\. .*give the same command again"):
        reconcile(f"s3://{bucket}/street", rules, take, end)
    assert not ended
