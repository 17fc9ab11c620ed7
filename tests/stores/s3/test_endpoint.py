"""Where buckets are asked for: settings over AWS_* variables, a bucket's own over those of all, regions followed."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from segsvc.errors import ConfigError, StoreError
from segsvc.settings import S3Encryption, S3Settings, settings
from segsvc.stores.s3 import PLUGIN
from segsvc.stores.s3.endpoint import find_endpoint
from segsvc.types import ImageRef
from tests.s3_servers import Asked, S3Server, Said, UseServer, s3_error, scripted

NOWHERE = S3Server("http://nowhere.test:9000")


def fetch(bucket: str = "bucket") -> bytes:
    return PLUGIN.open(ImageRef(f"s3://{bucket}/a b.png", "e", 5)).read_all()


def said(asked: Asked) -> Said:
    return Said(200, b"bytes", {"etag": '"e"'})


def region_of(asked: Asked) -> str:
    return asked.headers["authorization"].split("/")[2]


# -- settings ------------------------------------------------------------------------------------------------------------


def test_settings_come_from_variables_and_from_the_file_one_by_one(use: UseServer, monkeypatch: pytest.MonkeyPatch,
                                                                   tmp_path: Path) -> None:
    (tmp_path / "segsvc.toml").write_text(
        '[s3]\nregion = "eu-west-1"\nin_flight = 7\n[s3_buckets.scans]\nendpoint_url = "http://minio:9000"\n'
        'sse = "aws:kms"\nin_flight = 3\n')
    monkeypatch.setenv("SEGSVC_CONFIG", str(tmp_path / "segsvc.toml"))
    monkeypatch.setenv("SEGSVC_S3__IN_FLIGHT", "9")
    monkeypatch.setenv("SEGSVC_S3_BUCKETS__SCANS__ANONYMOUS", "true")
    settings.cache_clear()
    assert settings().s3 == S3Settings(region="eu-west-1", in_flight=9)
    assert settings().s3_of("other") == settings().s3
    assert settings().s3_of("scans") == S3Settings(
        region="eu-west-1", endpoint_url="http://minio:9000", sse=S3Encryption.KMS, in_flight=3, anonymous=True)
    assert PLUGIN.in_flight == 9


def test_the_defaults_leave_everything_to_the_sdks_own_chain() -> None:
    defaults = S3Settings()
    assert (defaults.endpoint_url, defaults.region, defaults.path_style, defaults.sse) == (None, None, None, None)
    assert (defaults.in_flight, defaults.attempts, defaults.anonymous, defaults.requester_pays) == (64, 10, False, False)


@pytest.mark.parametrize(("name", "value", "words"), [
    ("SEGSVC_S3__IN_FLIGHT", "0", "s3.in_flight"), ("SEGSVC_S3__SSE", "rot13", "s3.sse"),
    ("SEGSVC_S3__ENDPOINT", "http://x", "s3.endpoint"), ("SEGSVC_S3_BUCKETS__A__ATTEMPTS", "no", "s3_buckets.a.attempts")])
def test_a_wrong_setting_is_named(use: UseServer, name: str, value: str, words: str) -> None:
    use(NOWHERE, **{name: value})
    with pytest.raises(ConfigError, match=words):
        settings()


# -- endpoints -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bucket", "options", "host", "path"), [
    ("bucket", {}, "bucket.s3.us-east-1.amazonaws.com", ""),
    ("bucket", {"region": "eu-west-1"}, "bucket.s3.eu-west-1.amazonaws.com", ""),
    ("bucket", {"region": "cn-north-1"}, "bucket.s3.cn-north-1.amazonaws.com.cn", ""),
    ("with.dots", {}, "s3.us-east-1.amazonaws.com", "/with.dots"),
    ("bucket", {"path_style": True}, "s3.us-east-1.amazonaws.com", "/bucket"),
    ("bucket", {"endpoint_url": "https://minio.test:9000"}, "minio.test:9000", "/bucket"),
    ("Old_Bucket", {"endpoint_url": "http://minio.test/behind/"}, "minio.test", "/behind/Old_Bucket"),
    ("bucket", {"endpoint_url": "https://minio.test", "path_style": False}, "bucket.minio.test", ""),
])
def test_a_bucket_is_a_part_of_the_path_or_of_the_host(use: UseServer, monkeypatch: pytest.MonkeyPatch, bucket: str,
                                                       options: dict[str, object], host: str, path: str) -> None:
    use(NOWHERE)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    found = find_endpoint(bucket, S3Settings.model_validate(options))
    assert (found.host, found.base_path) == (host, path)


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "SEGSVC_S3__ENDPOINT_URL",
                                      "SEGSVC_S3_BUCKETS__BUCKET__ENDPOINT_URL"])
def test_an_endpoint_is_taken_from_where_it_is_said(use: UseServer, variable: str) -> None:
    with scripted(said) as (server, script):
        use(NOWHERE, **{variable: server.url})
        assert fetch() == b"bytes"
        assert script.asked[0].target == "/bucket/a%20b.png"
        assert script.asked[0].headers["host"] == server.url.removeprefix("http://")


def test_profiles_are_honoured(use: UseServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with scripted(said) as (server, script):
        (tmp_path / "config").write_text(
            f"[profile lab]\nregion = eu-north-1\nendpoint_url = {server.url}\naws_access_key_id = LABKEY\n"
            "aws_secret_access_key = s\n")
        use(NOWHERE, AWS_CONFIG_FILE=str(tmp_path / "config"), AWS_PROFILE="lab")
        for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        assert fetch() == b"bytes"
        assert "Credential=LABKEY/" in script.asked[0].headers["authorization"]
        assert region_of(script.asked[0]) == "eu-north-1"


def test_a_bucket_of_its_own_endpoint_without_a_region_is_signed_for_the_usual_one(use: UseServer,
                                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(said) as (server, script):
        use(server)
        monkeypatch.delenv("AWS_REGION")
        fetch()
        assert region_of(script.asked[0]) == "us-east-1"


def test_anonymous_requests_are_not_signed_and_want_no_credentials(use: UseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(said) as (server, script):
        use(server, SEGSVC_S3__ANONYMOUS="true")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        assert fetch() == b"bytes"
        assert not {name for name in script.asked[0].headers if name == "authorization" or name.startswith("x-amz")}


def test_a_proxy_is_asked_where_the_environment_names_one(use: UseServer) -> None:
    with scripted(said) as (proxy, script):
        use(NOWHERE, http_proxy=proxy.url, SEGSVC_S3__PATH_STYLE="false")
        assert fetch() == b"bytes"
        assert script.asked[0].target == "http://bucket.nowhere.test:9000/a%20b.png"
        use(NOWHERE, no_proxy="nowhere.test", SEGSVC_S3__ATTEMPTS="1")
        with pytest.raises(StoreError, match="the host's name is unknown"):
            fetch()


# -- regions -------------------------------------------------------------------------------------------------------------


REDIRECTS = {
    "301 with a header": Said(301, b"", {"x-amz-bucket-region": "eu-west-1"}),
    "301 with a body": s3_error("PermanentRedirect", 301, Region="eu-west-1"),
    "400 to a signature of another region": s3_error("AuthorizationHeaderMalformed", 400, Region="eu-west-1"),
    "307 while the name is new": Said(307, b"", {"x-amz-bucket-region": "eu-west-1"}),
    "400 to a HEAD": Said(400, b"", {"x-amz-bucket-region": "eu-west-1"}),
}


@pytest.mark.parametrize("redirect", REDIRECTS.values(), ids=REDIRECTS.keys())
def test_a_bucket_of_another_region_is_followed_and_stays_found(use: UseServer, redirect: Said) -> None:
    with scripted(lambda asked: said(asked) if region_of(asked) == "eu-west-1" else redirect) as (server, script):
        use(server)
        assert [fetch(), fetch()] == [b"bytes"] * 2
        assert [region_of(asked) for asked in script.asked] == ["us-east-1", "eu-west-1", "eu-west-1"]
        assert PLUGIN.find("s3://bucket/a").size_bytes == 5


def test_threads_that_are_all_sent_elsewhere_follow_together(use: UseServer) -> None:
    with scripted(lambda asked: said(asked) if region_of(asked) == "eu-west-1" else REDIRECTS["301 with a body"]) as (
            server, _):
        use(server)
        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(lambda _: fetch(), range(64))) == [b"bytes"] * 64


def test_a_bucket_that_sends_from_region_to_region_is_given_up(use: UseServer) -> None:
    def elsewhere(asked: Asked) -> Said:
        other = {"us-east-1": "eu-west-1", "eu-west-1": "us-east-1"}[region_of(asked)]
        return s3_error("PermanentRedirect", 301, Region=other)

    with scripted(elsewhere) as (server, script):
        use(server)
        with pytest.raises(StoreError, match="Set AWS_REGION"):
            fetch()
        assert len(script.asked) < 10


# -- processes -----------------------------------------------------------------------------------------------------------


def _fetch_into(pipe: Connection) -> None:
    pipe.send(fetch())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_asks_by_connections_of_its_own(use: UseServer, method: str) -> None:
    with scripted(said) as (server, _):
        use(server)
        fetch()
        context = multiprocessing.get_context(method)
        ours, theirs = context.Pipe()
        child = context.Process(target=_fetch_into, args=(theirs,), daemon=True)
        child.start()
        assert ours.poll(60)
        assert ours.recv() == b"bytes"
        child.join()
        assert fetch() == b"bytes"
