"""From a put in a real bucket to a candidate in the queue of a server; and by commands, with a queue that a bucket tells."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from segsvc.ledger import users
from segsvc.ledger.opening import open_ledger
from segsvc.ledger.records import Role
from tests.conftest import Program
from tests.s3_servers import S3Server, free_ports, moto, seaweedfs
from tests.scenes import write_scenes
from tests.test_documents import check

_PATIENCE_S = 120.0
RULES = """
rules:
  - name: street
    prefix: s3://open/street/
    suffixes: [.png]
    model: bright
    out: {out}
    flag_at: 0.5
    gather: {{seconds: 1, images: 100}}
"""


def until(found: Callable[[], Any], what: str) -> Any:
    """What is found once it is there."""
    end = time.monotonic() + _PATIENCE_S
    while not (seen := found()):
        assert time.monotonic() < end, f"there is no {what}"
        time.sleep(0.1)
    return seen


@contextmanager
def serving(segsvc: Program, environment: Mapping[str, str], *, port: int = 0, token: str = "") -> Iterator[httpx.Client]:
    """A server on the ledger of the test's folder; what it wrote must hold no key of an image."""
    process = segsvc.start("serve", "--port", str(port), "--ledger", segsvc.folder / "ledger", environment=environment)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip().removesuffix("/review")
        assert url, process.communicate()[1]
        with httpx.Client(base_url=url, timeout=60, headers={"Authorization": f"Bearer {token}"} if token else {}) as client:
            yield client
        process.terminate()
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 0, said
        assert "img" not in said, said
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def scenes(tmp_path: Path) -> list[bytes]:
    """Generated scenes, as files of images."""
    write_scenes(tmp_path / "scenes", 4)
    return [path.read_bytes() for path in sorted((tmp_path / "scenes").iterdir())]


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES.format(out=tmp_path / "out"))
    return path


@contextmanager
def telling(folder: Path, *, port: int | None = None) -> Iterator[tuple[S3Server, str]]:
    """A store whose bucket `open` tells a queue of what is put and deleted, and the queue's URL."""
    import boto3

    with moto(folder, port=port) as server:
        sqs = boto3.client("sqs", endpoint_url=server.url, aws_access_key_id=server.key[0],
                           aws_secret_access_key=server.key[1], region_name="us-east-1")
        queue = sqs.create_queue(QueueName="images")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        server.client().put_bucket_notification_configuration(Bucket="open", NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]})
        yield server, queue


@pytest.fixture
def told(tmp_path: Path) -> Iterator[tuple[S3Server, str]]:
    with telling(tmp_path / "moto") as found:
        yield found


def runs_of(client: httpx.Client) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get("/v1/runs").json()["items"]
    return items


def test_a_put_into_seaweedfs_becomes_a_candidate_in_the_queue(
        segsvc: Program, tmp_path: Path, rules: Path, scenes: list[bytes]) -> None:
    with open_ledger(str(tmp_path / "ledger")) as ledger:
        users.add(ledger, "weed", Role.ADMIN, "a password of some length")
        token = users.new_token(ledger, "weed", label="filer", hours=None)
    (port,) = free_ports(1)
    (tmp_path / "weed").mkdir()
    (tmp_path / "weed" / "notification.toml").write_text(
        f'[notification.webhook]\nenabled = true\nendpoint = "http://127.0.0.1:{port}/v1/s3-events"\n'
        f'bearer_token = "{token}"\nbackoff_seconds = 1\n')
    with seaweedfs(tmp_path / "weed") as store:
        environment = {**store.environment, "SEGSVC_SERVE__RULES": str(rules), "SEGSVC_SERVE__BUCKETS": '["open"]',
                       "SEGSVC_SERVE__ROOTS": json.dumps([str(tmp_path)])}
        with serving(segsvc, environment, port=port, token=token) as client:
            bucket = store.client()
            bucket.put_object(Bucket="open", Key="street/a b+ü/img 1.png", Body=scenes[0])
            bucket.put_object(Bucket="open", Key="elsewhere/img.png", Body=scenes[1])
            [run] = until(lambda: [run for run in runs_of(client) if run["state"] == "succeeded"], "run that succeeded")
            assert run["images"]["listed"] == 1
            assert run["asked_by"] == "rule street"
            items = client.get("/v1/candidates", params={"run": run["id"], "band": "review"}).json()["items"]
            assert items
            assert {item["image_uri"] for item in items} == {"s3://open/street/a b+ü/img 1.png"}
            bucket.put_object(Bucket="open", Key="street/img2.png", Body=scenes[2])
            until(lambda: len([run for run in runs_of(client) if run["state"] == "succeeded"]) == 2, "second run")


def test_once_takes_what_is_there_and_works_on_it_and_a_second_time_finds_nothing(
        segsvc: Program, told: tuple[S3Server, str], rules: Path, scenes: list[bytes]) -> None:
    store, queue = told
    bucket = store.client()
    for number, data in enumerate(scenes):
        bucket.put_object(Bucket="open", Key=f"street/img+{number}.png", Body=data)
    bucket.put_object(Bucket="open", Key="street/img+3.txt", Body=b"no image")
    bucket.delete_object(Bucket="open", Key="street/img+3.png")
    asked = ("trigger", "--queue", queue, "--rules", rules, "--ledger", "ledger")
    dry = segsvc(*asked, "--dry-run", "--json", environment=store.environment)
    assert dry.code == 0, dry.stderr
    explained = check("trigger", dry.stdout)["explained"]
    assert {each["uri"]: each["rule"] for each in explained} == {
        **{f"s3://open/street/img+{number}.png": "street" for number in range(4)}, "s3://open/street/img+3.txt": None}
    first = segsvc(*asked, "--once", "--json", environment=store.environment)
    assert first.code == 0, first.stderr
    document = check("trigger", first.stdout)
    assert (document["taken"]["queued"], document["taken"]["gone"], document["taken"]["ignored"]) == (4, 1, 1)
    [run] = document["runs"]
    assert (run["state"], run["images"], run["rule"]) == ("succeeded", 3, "street")
    assert json.loads((Path(run["out"]) / "run.json").read_text())["images"]["listed"] == 3
    bucket.put_object(Bucket="open", Key="street/img+0.png", Body=scenes[0])  # the same bytes
    second = json.loads(segsvc(*asked, "--once", "--json", environment=store.environment).stdout)
    assert (second["messages"], second["taken"]["known"], second["runs"]) == (1, 1, [])


def test_a_server_that_has_the_ledger_does_what_commands_are_told(
        segsvc: Program, told: tuple[S3Server, str], rules: Path, scenes: list[bytes]) -> None:
    store, queue = told
    with serving(segsvc, store.environment) as client:
        store.client().put_object(Bucket="open", Key="street/img1.png", Body=scenes[0])
        answer = segsvc("trigger", "--queue", queue, "--rules", rules, "--ledger", "ledger", "--once",
                        environment=store.environment)
        assert answer.code == 0, answer.stderr
        assert "1 images" in answer.stdout
        store.client().put_bucket_notification_configuration(Bucket="open", NotificationConfiguration={})
        store.client().put_object(Bucket="open", Key="street/img2.png", Body=scenes[1])  # nobody is told
        store.client().delete_object(Bucket="open", Key="street/img1.png")
        asked = ("reconcile", "s3://open/street", "--rules", rules, "--ledger", "ledger", "--json")
        counts = [check("reconcile", segsvc(*asked, *more, environment=store.environment).stdout)
                  for more in (("--dry-run",), (), ())]
        assert [(each["listed"], each["queued"], each["known"], each["gone"]) for each in counts] == [
            (1, 1, 0, 1), (1, 1, 0, 1), (1, 0, 1, 0)]
        until(lambda: sum(run["state"] == "succeeded" for run in runs_of(client)) == 2, "two runs")


def test_a_queue_that_a_server_follows_may_be_away_and_come_back(
        segsvc: Program, rules: Path, scenes: list[bytes], tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with ExitStack() as stack:
        there = stack.enter_context(ExitStack())
        store, queue = there.enter_context(telling(tmp_path / "moto", port=port))
        client = stack.enter_context(serving(segsvc, {
            **store.environment, "SEGSVC_SERVE__QUEUE": queue, "SEGSVC_SERVE__RULES": str(rules)}))
        assert client.get("/readyz").json() == {"status": "ready", "queue": "ok"}
        there.close()
        until(lambda: client.get("/readyz").json()["queue"] == "away", "word that the queue is away")
        assert client.get("/healthz").status_code == 200
        there.enter_context(telling(tmp_path / "moto", port=port))
        store.client().put_object(Bucket="open", Key="street/img1.png", Body=scenes[0])
        until(lambda: client.get("/readyz").json()["queue"] == "ok", "word that the queue is back")
        until(lambda: [run for run in runs_of(client) if run["state"] == "succeeded"], "run")
        answer = client.post("/v1/s3-events", json={"what": "is this"})
        assert (answer.status_code, answer.json()["kept_aside"]) == (202, 1)
        assert client.post("/v1/s3-events", content=b"{", headers={"Content-Type": "text/plain"}).status_code == 422


def test_what_is_wrong_is_told_before_anything_is_done(segsvc: Program, rules: Path, tmp_path: Path) -> None:
    away = ("trigger", "--queue", f"http://127.0.0.1:{free_ports(1)[0]}/1/images", "--ledger", "ledger", "--rules")
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    bad = tmp_path / "bad.yaml"
    bad.write_text(RULES.format(out=tmp_path / "out").replace("flag_at", "flag"))
    for arguments, says in (
            ((*away, rules, "--once"), "expected an answer"), ((*away, bad), "rule 'street', flag: expected one of"),
            ((*away, rules, "--json"), "--once"),
            (("trigger", "--queue", "images", "--rules", rules), "expected the URL of an SQS queue"),
            (("reconcile", "/data", "--rules", rules), "expected s3://bucket"),
            (("reconcile", "s3://other/x", "--rules", rules), "expected a folder that a rule takes objects of")):
        answer = segsvc(*arguments, environment=keys)
        assert answer.code == 2, (arguments, answer.stderr)
        assert says in answer.stderr, answer.stderr
        assert "Traceback" not in answer.stderr


def test_interrupted_it_ends_and_says_once_that_the_queue_is_away(segsvc: Program, rules: Path) -> None:
    process = segsvc.start("trigger", "--queue", f"http://127.0.0.1:{free_ports(1)[0]}/1/images", "--ledger", "ledger",
                           "--rules", rules, environment={"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})
    assert process.stderr is not None
    lines = [process.stderr.readline(), process.stderr.readline()]
    assert "Ctrl-C ends it" in lines[0]
    assert "It is tried again" in lines[1]
    time.sleep(2.5)  # it is tried again meanwhile
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "tried again" not in rest
