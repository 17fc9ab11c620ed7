"""Others are told of runs: signed, again until it was received, and never at an address that they may not name."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from sqlalchemy import select, update

from jobs.webhooks import Allowed, Webhooks, secret_of
from segsvc.errors import ConfigError
from segsvc.ledger import job_work, jobs
from segsvc.ledger.deliveries import TRIES_AFTER_S
from segsvc.ledger.opening import Ledger, open_ledger
from segsvc.ledger.tables import DELIVERIES
from segsvc.settings import ServeSettings
from tests.ledger.test_jobs import new_job
from tests.posts_server import posts_server

HERE = Allowed(("localhost", "127.0.0.1"), (ip_network("127.0.0.0/8"), ip_network("::1/128")))


@dataclass
class Receiver:
    """A server that notes what it is told, and answers with the next of these statuses; the last one for ever."""

    statuses: list[int] = field(default_factory=lambda: [204])
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/hook?a=1"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    def answer(headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str]]:
        found.heard.append((dict(headers), body))
        status = found.statuses.pop(0) if len(found.statuses) > 1 else found.statuses[0]
        return status, {"Location": f"http://localhost:{found.port}/elsewhere"}

    with posts_server(answer) as found.port:
        yield found


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(str(tmp_path / "ledger"), serving=True) as found:
        yield found


@pytest.fixture
def sending(ledger: Ledger, request: pytest.FixtureRequest) -> Callable[[Allowed], Webhooks]:
    def begin(allowed: Allowed) -> Webhooks:
        webhooks = Webhooks(ledger, allowed, secret_of(ledger))
        request.addfinalizer(webhooks.close)
        webhooks.start()
        return webhooks

    return begin


def tell(ledger: Ledger, url: str) -> None:
    """A run that is told of comes to its end."""
    jobs.submit(ledger, replace(new_job(), webhook=url))
    lease = job_work.take(ledger, "here", lease_s=60)
    assert lease is not None
    job_work.fail(ledger, lease, "no room")


def rows(ledger: Ledger) -> list[dict[str, object]]:
    with ledger.read() as conn:
        return [dict(row) for row in conn.execute(select(DELIVERIES).order_by(DELIVERIES.c.number)).mappings()]


def wait(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_every_state_is_told_once_signed_and_in_its_order(
        ledger: Ledger, receiver: Receiver, sending: Callable[[Allowed], Webhooks]) -> None:
    tell(ledger, receiver.url)
    sending(HERE)
    wait(lambda: all(row["due_at"] is None for row in rows(ledger)))
    assert [json.loads(body)["type"] for _, body in receiver.heard] == ["run.running", "run.failed"]
    headers, body = receiver.heard[1]
    assert json.loads(body)["data"] == {"id": "a" * 8, "state": "failed", "attempt": 1, "error": "no room"}
    assert ledger.folder is not None
    kept = (ledger.folder / "webhook-secret")
    assert kept.stat().st_mode & 0o777 == 0o600
    key = base64.b64decode(kept.read_text().strip().removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert secret_of(ledger) == key


def test_what_was_not_received_is_sent_again_with_the_same_id_and_given_up_in_the_end(
        ledger: Ledger, receiver: Receiver, sending: Callable[[Allowed], Webhooks]) -> None:
    receiver.statuses = [500, 302, 204]  # a redirect is not followed: it is no receipt
    tell(ledger, receiver.url)

    def hurry() -> bool:
        ledger.write(lambda writing: writing.conn.execute(update(DELIVERIES).where(
            DELIVERIES.c.due_at.is_not(None)).values(due_at=0)))
        return all(row["due_at"] is None for row in rows(ledger))

    sending(HERE)
    wait(hurry)
    assert len(receiver.heard) >= 3
    by_id = {headers["webhook-id"] for headers, _ in receiver.heard}
    assert len(by_id) == len(rows(ledger))
    receiver.statuses = [503]
    jobs.resume(ledger, "a" * 8)
    jobs.cancel(ledger, "a" * 8, "ann")
    wait(hurry)
    given_up = rows(ledger)[-1]
    assert (given_up["tries"], given_up["answer"]) == (len(TRIES_AFTER_S) + 1, "503")


def test_a_private_address_is_never_connected_to_unless_its_network_is_listed(
        ledger: Ledger, receiver: Receiver, sending: Callable[[Allowed], Webhooks]) -> None:
    tell(ledger, receiver.url)
    sending(Allowed(("localhost",), ()))
    wait(lambda: all(row["due_at"] is None for row in rows(ledger)))
    assert receiver.heard == []
    assert all("public address" in str(row["answer"]) for row in rows(ledger))


@pytest.mark.parametrize("url", [
    "ftp://localhost/x", "localhost/x", "https://evil.example/x", "https://localhost@evil.example/", "http://user:pw@localhost/",
    "https://localhost.evil.example/", "http://[::1", "http://169.254.169.254/latest/meta-data", "http://localhost:x/", "",
    "http://localhost/\nHost: evil"])
def test_what_is_no_url_of_a_host_on_the_list_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="webhook: expected"):
        HERE.check(url)


def test_hosts_are_listed_with_or_without_a_port_and_networks_are_checked() -> None:
    Allowed(("hooks.example:8443",), ()).check("https://hooks.example:8443/a")
    with pytest.raises(ConfigError, match=r"serve\.webhook_hosts"):
        Allowed(("hooks.example:8443",), ()).check("https://hooks.example/a")
    with pytest.raises(ConfigError, match="webhook_networks"):
        Allowed.of(ServeSettings(webhook_networks=("nonsense",)))
