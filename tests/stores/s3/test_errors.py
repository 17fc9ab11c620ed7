"""What makes a whole store unusable is told apart, in a line or two that say what to do, and never hold a secret."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from segsvc.errors import StoreError
from segsvc.stores.s3 import PLUGIN
from segsvc.types import ImageRef
from tests.conftest import Program
from tests.s3_servers import READER, Asked, S3Server, Said, UseServer, s3_error, scripted, shared_seaweedfs

FIRST_CALLS: list[Callable[[str], object]] = [
    lambda uri: next(PLUGIN.list(uri), None), lambda uri: PLUGIN.folder(uri).read("spec.json"),
    lambda uri: PLUGIN.find(uri + "/x.png"), lambda uri: PLUGIN.open(ImageRef(uri + "/x.png", "e", 5))]


def said_of(act: Callable[[str], object], uri: str = "s3://bucket/in") -> str:
    with pytest.raises(StoreError) as caught:
        act(uri)
    text = str(caught.value)
    assert text.count("\n") <= 1
    assert "hushhush" not in text
    return text


def nobody_listens() -> S3Server:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return S3Server(f"http://127.0.0.1:{port}")


# -- by a real server ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", FIRST_CALLS)
@pytest.mark.parametrize(("key", "secret", "words"), [
    ("AKIANOBODY", "hushhush", "expected an access key that the store knows"),
    ("AKIAADMIN", "hushhush", "expected a request signed with the key's secret")])
def test_a_wrong_key_and_a_wrong_secret_are_told_apart(use: UseServer, act: Callable[[str], object], key: str, secret: str,
                                                       words: str) -> None:
    use(S3Server(shared_seaweedfs().url, (key, secret)))
    assert words in said_of(act, "s3://open/in")


@pytest.mark.parametrize("act", FIRST_CALLS[:3])
def test_a_bucket_that_is_not_there_is_said_so(weed: S3Server, act: Callable[[str], object]) -> None:
    assert f"there is none of that name at {weed.url}" in said_of(act, "s3://no-such-bucket/in")


def test_what_a_reader_may_not_do_is_said_with_the_right_that_it_lacks(use: UseServer) -> None:
    server = use(S3Server(shared_seaweedfs().url, READER))
    list(PLUGIN.list("s3://open/none"))
    text = said_of(lambda uri: PLUGIN.folder(uri).put("a", b"1"), "s3://open/out")
    assert "s3://open/out/a: expected the right s3:PutObject, access is denied (AccessDenied, HTTP 403)" in text
    assert server.key[1] not in text


@pytest.mark.parametrize(("environment", "words"), [
    ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "expected AWS credentials, found none. Set AWS_ACCESS_KEY_ID"),
    ({"AWS_PROFILE": "nobodys"}, "The config profile (nobodys) could not be found"),
    ({"AWS_SECRET_ACCESS_KEY": ""}, "expected a usable AWS configuration, got PartialCredentialsError"),
    ({"AWS_ENDPOINT_URL": "localhost:8333"}, "expected an endpoint such as https://host:port"),
    ({"AWS_ENDPOINT_URL": "me:hushhush@localhost:8333"}, "expected an endpoint such as"),
    ({"AWS_ENDPOINT_URL": "http://me:hushhush@localhost"}, "without a user in it, got 'http://...@localhost'"),
    ({"AWS_ENDPOINT_URL": "https://localhost:1", "AWS_CA_BUNDLE": "/no/such.pem"}, "Look at AWS_CA_BUNDLE"),
    ({"AWS_ENDPOINT_URL": "https://store.test", "HTTPS_PROXY": "socks5://me:hushhush@host:1"}, "got 'socks5://host:1'"),
    ({"AWS_ENDPOINT_URL": "https://store.test", "HTTPS_PROXY": "http://host:port"}, "expected a proxy such as"),
])
@pytest.mark.parametrize("act", FIRST_CALLS[:2])
def test_a_configuration_that_cannot_be_used_is_said_before_anything_is_asked(
        use: UseServer, monkeypatch: pytest.MonkeyPatch, act: Callable[[str], object], environment: dict[str, str],
        words: str) -> None:
    use(nobody_listens(), **environment)
    for name, value in environment.items():
        if not value:
            monkeypatch.delenv(name)
    assert words in said_of(act)


def test_an_endpoint_where_nobody_listens_is_said_so_after_a_few_attempts(use: UseServer) -> None:
    server = use(nobody_listens(), SEGSVC_S3__ATTEMPTS="3")
    text = said_of(FIRST_CALLS[0])
    assert f"expected a store at {server.url}, got: connection refused, 3 times. Look at AWS_ENDPOINT_URL" in text


# -- by what a server says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", FIRST_CALLS)
@pytest.mark.parametrize(("said", "words"), [
    (s3_error("ExpiredToken", 400), "expected credentials that are valid, got expired ones (ExpiredToken). Renew them"),
    (s3_error("TokenRefreshRequired", 400), "got expired ones (TokenRefreshRequired)"),
    (s3_error("InvalidAccessKeyId", 403), "expected an access key that the store knows"),
    (s3_error("SignatureDoesNotMatch", 403), "AWS_SECRET_ACCESS_KEY"),
    (s3_error("RequestTimeTooSkewed", 403), "Set the clock"),
    (s3_error("NoSuchBucket", 404), "expected a bucket, there is none of that name"),
    (s3_error("InvalidToken", 400), "AWS_SESSION_TOKEN"),
    (s3_error("AuthorizationHeaderMalformed", 400), "expected requests signed for the bucket's region"),
    (s3_error("PermanentRedirect", 301, Endpoint="elsewhere"), "Set AWS_REGION"),
])
def test_what_makes_a_store_unusable_ends_the_run_whatever_was_asked(use: UseServer, act: Callable[[str], object],
                                                                     said: Said, words: str) -> None:
    with scripted(lambda asked: said) as (server, _):
        use(server)
        assert words in said_of(act)


@pytest.mark.parametrize("off_s", [-3600, 3600])
def test_a_clock_that_is_an_hour_off_is_put_right_by_what_the_store_says(use: UseServer, off_s: int) -> None:
    def answer(asked: Asked) -> Said:
        now = datetime.now(UTC) + timedelta(seconds=off_s)
        signed = datetime.strptime(asked.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(now - signed) > timedelta(minutes=15):
            said = s3_error("RequestTimeTooSkewed", 403)
            return Said(said.status, said.body, {**said.headers, "date": format_datetime(now, usegmt=True)})
        return Said(body=b"abc", headers={"etag": '"e"'})

    with scripted(answer) as (server, script):
        use(server)
        for _ in range(2):
            assert PLUGIN.open(ImageRef("s3://photos/a.png", "e", 3)).read_all() == b"abc"
        assert len(script.asked) == 3


@pytest.mark.parametrize("said", [Said(404, b"<html>hushhush</html>"), Said(403, b"hushhush"), Said(400)])
def test_what_is_no_store_is_said_so(use: UseServer, said: Said) -> None:
    with scripted(lambda asked: said) as (server, _):
        use(server)
        assert server.url in said_of(FIRST_CALLS[0]) or said.status == 403


def test_credentials_that_were_renewed_meanwhile_are_taken_up(use: UseServer, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "credentials"

    def write(key: str) -> None:
        kept.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = hushhush\naws_session_token = t\n")

    def answer(asked: Asked) -> Said:
        if "Credential=NEW/" in asked.headers["authorization"]:
            return Said(200, b"bytes", {"etag": '"e"'})
        return s3_error("ExpiredToken", 400)

    with scripted(answer) as (server, script):
        use(server, AWS_SHARED_CREDENTIALS_FILE=str(kept))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        write("OLD")
        said_of(FIRST_CALLS[3])
        write("NEW")
        assert PLUGIN.open(ImageRef("s3://bucket/x", "e", 5)).read_all() == b"bytes"
        assert script.asked[-1].headers["x-amz-security-token"] == "t"


# -- from outside --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("variables", "arguments", "words"), [
    ({}, ("s3://no-such-bucket/in", "--out", "out"), "no-such-bucket"),
    ({}, ("in", "--out", "s3://no-such-bucket/out"), "no-such-bucket"),
    ({"AWS_SECRET_ACCESS_KEY": "wrong"}, ("s3://open/in", "--out", "out"), "AWS_SECRET_ACCESS_KEY"),
    ({"SEGSVC_S3__ENDPOINT": "x"}, ("s3://open/in", "--out", "out"), "s3.endpoint"),
])
def test_a_run_on_a_store_that_cannot_be_used_ends_with_2_before_any_work(
        segsvc: Program, variables: dict[str, str], arguments: tuple[str, ...], words: str) -> None:
    (segsvc.folder / "in").mkdir()
    (segsvc.folder / "in" / "x.png").write_bytes(b"no image")
    answer = segsvc("run", arguments[0], "--model", "bright", *arguments[1:],
                    environment={**shared_seaweedfs().environment, **variables})
    assert answer.code == 2, answer.stderr
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stderr.strip().count("\n") <= 1
    assert not (segsvc.folder / "out" / "images").exists()


def test_doctor_says_where_buckets_are_asked_for_and_as_whom_and_shows_no_secret(segsvc: Program) -> None:
    server = S3Server("http://127.0.0.1:1", ("AKIASHOWN", "hushhush"))
    answer = segsvc("doctor", "--json", environment=server.environment)
    (check,) = [each for each in json.loads(answer.stdout)["checks"] if each["name"] == "s3"]
    assert check["ok"]
    assert all(words in check["found"] for words in ("boto3 ", server.url, "region us-east-1", "credentials from env"))
    assert "hushhush" not in answer.stdout
    wrong = segsvc("doctor", "--json", environment={**server.environment, "AWS_PROFILE": "nobodys"})
    (check,) = [each for each in json.loads(wrong.stdout)["checks"] if each["name"] == "s3"]
    assert not check["ok"]
    assert wrong.code == 1
    assert "nobodys" in check["found"]
    anonymous = segsvc("doctor", environment={**server.environment, "SEGSVC_S3__ANONYMOUS": "true", "COLUMNS": "200"})
    assert "requests are not signed" in " ".join(anonymous.stdout.split())


def test_the_program_loads_no_sdk_before_it_needs_one(segsvc: Program) -> None:
    import subprocess
    import sys

    code = "import sys, segsvc.cli.main, segsvc.stores.s3; print([m for m in ('boto3', 'botocore') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert answer.stdout.strip() == "[]"
