"""Where a bucket is and who asks: the SDK's own chain of settings, profiles and credentials, asked once a bucket."""

from __future__ import annotations

import re
import ssl
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote, urlsplit

from segsvc.errors import StoreError
from segsvc.settings import S3Settings
from segsvc.stores.s3.http import Connections, Host, Proxy
from segsvc.stores.s3.signing import Credentials

DEFAULT_REGION = "us-east-1"
_NO_CREDENTIALS = ("expected AWS credentials, found none. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
                   "or the setting s3.anonymous for a public bucket.")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests for one bucket go.

    base_path: what stands before `/key` in every path (the bucket, in path style).
    """

    url: str
    host: str
    base_path: str
    region: str
    connections: Connections


@dataclass(frozen=True, slots=True)
class Found:
    """What the SDK's chain gives without a bucket: for `segsvc doctor`. source: where the credentials are from."""

    boto3: str
    endpoint: str
    region: str
    source: str | None


@cache
def _loader() -> Any:
    """The SDK's descriptions of its services, which are large, read once."""
    from botocore.loaders import create_loader

    return create_loader()


def _session(uri: str, options: S3Settings) -> tuple[Any, str]:
    """The SDK's session, and the region that is configured."""
    import botocore.session
    from botocore.exceptions import BotoCoreError

    try:
        session = botocore.session.Session()
        session.register_component("data_loader", _loader())
        return session, options.region or session.get_config_variable("region") or DEFAULT_REGION
    except BotoCoreError as error:
        raise _translated(error, uri) from error


def _translated(error: Exception, uri: str) -> StoreError:
    """botocore's errors before any request. Those of programs that give credentials may hold what these wrote."""
    from botocore.exceptions import CredentialRetrievalError

    said = type(error).__name__ if isinstance(error, CredentialRetrievalError) else f"{type(error).__name__}: {error}"
    return StoreError(f"{uri}: expected a usable AWS configuration, got {said:.300}. Look at the AWS_* variables and "
                      "~/.aws.")


def _client(session: Any, uri: str, options: S3Settings, region: str, style: str) -> Any:
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    _check_url(options.endpoint_url, uri)
    try:
        client = session.create_client("s3", region_name=region, endpoint_url=options.endpoint_url, config=Config(
            signature_version=UNSIGNED, s3={"addressing_style": style, "us_east_1_regional_endpoint": "regional"}))
    except ValueError as error:  # an endpoint that is no URL, from wherever the SDK has it
        _check_url(str(error).removeprefix("Invalid endpoint: "), uri)
        raise _translated(error, uri) from error
    except BotoCoreError as error:
        raise _translated(error, uri) from error
    _check_url(client.meta.endpoint_url, uri)
    return client


def _check_url(url: str | None, uri: str) -> None:
    if url is None or re.fullmatch(r"https?://[^/?#@\s]+(/[^?#@\s]*)?", url):
        return
    shown = re.sub(r"[^/]*@", "...@", url)
    raise StoreError(f"{uri}: expected an endpoint such as https://host:port, without a user in it, got {shown!r}. Look at "
                     "AWS_ENDPOINT_URL or the setting s3.endpoint_url.")


def _is_amazon(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))


def find_endpoint(bucket: str, options: S3Settings, *, region: str | None = None) -> Endpoint:
    """Where the bucket's requests go; region: where the bucket is said to be, over what is configured.

    Raises StoreError where the configuration is unusable.
    """
    from botocore.exceptions import BotoCoreError

    uri = f"s3://{bucket}"
    session, configured = _session(uri, options)
    region = region or configured
    style = {True: "path", False: "virtual", None: "auto"}[options.path_style]
    client = _client(session, uri, options, region, style)
    if style == "auto" and _is_amazon(client.meta.endpoint_url):
        client = _client(session, uri, options, region, "virtual")
    try:
        listed = client.generate_presigned_url("list_objects_v2", Params={"Bucket": bucket})
    except (BotoCoreError, ValueError) as error:
        raise _translated(error, uri) from error
    parts = urlsplit(listed)
    tls = _tls(session.get_config_variable("ca_bundle"), uri) if parts.scheme == "https" else None
    host = Host(parts.hostname or "", parts.port or (443 if tls is not None else 80), tls,
                _proxy(parts.scheme, parts.netloc, uri), options.connect_timeout_s, options.read_timeout_s)
    connections = Connections(host, most_kept=options.in_flight + 16)  # 16: listings and puts beside the images
    return Endpoint(client.meta.endpoint_url.rstrip("/"), parts.netloc, parts.path.rstrip("/"),
                    DEFAULT_REGION if region == "aws-global" else region, connections)


def _proxy(scheme: str, host: str, uri: str) -> Proxy | None:
    """The proxy that HTTP_PROXY or HTTPS_PROXY name for this host, NO_PROXY allowing."""
    named = urllib.request.getproxies().get(scheme)
    if named is None or urllib.request.proxy_bypass(host):
        return None
    parts = urlsplit(named if "://" in named else f"http://{named}")
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port:
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        raise StoreError(f"{uri}: expected a proxy such as http://host:port in {scheme.upper()}_PROXY, got {shown!r}")
    user, password = (None if each is None else unquote(each) for each in (parts.username, parts.password))
    return Proxy.to(parts.hostname, port, user, password)


def _tls(ca_bundle: str | None, uri: str) -> ssl.SSLContext:
    from botocore.httpsession import where

    try:
        return ssl.create_default_context(cafile=ca_bundle or where())
    except OSError as error:
        raise StoreError(f"{uri}: expected a file of certificates, got {ca_bundle!r} ({error.strerror or error}). Look at "
                         "AWS_CA_BUNDLE.") from error


def find_credentials(bucket: str, options: S3Settings) -> Callable[[], Credentials] | None:
    """What gives the credentials now (renewed where they can be); None for requests without any.

    Raises StoreError where there are none.
    """
    from botocore.exceptions import BotoCoreError

    if options.anonymous:
        return None
    uri = f"s3://{bucket}"
    try:
        found = _session(uri, options)[0].get_credentials()
    except BotoCoreError as error:
        raise _translated(error, uri) from error
    if found is None:
        raise StoreError(f"{uri}: {_NO_CREDENTIALS}")

    def now() -> Credentials:
        try:
            frozen = found.get_frozen_credentials()
        except (BotoCoreError, RuntimeError) as error:  # RuntimeError: renewed ones that have expired
            raise _translated(error, uri) from error
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)

    return now


def look_around(options: S3Settings) -> Found:
    """What the SDK's chain gives here. Raises StoreError where the configuration is unusable."""
    import boto3
    from botocore.exceptions import BotoCoreError

    session, region = _session("s3://", options)
    client = _client(session, "s3://", options, region, "auto")
    try:
        found = None if options.anonymous else session.get_credentials()
    except BotoCoreError as error:
        raise _translated(error, "s3://") from error
    source = "anonymous" if options.anonymous else found.method if found is not None else None
    return Found(boto3.__version__, client.meta.endpoint_url, region, source)
