"""A server that is asked over HTTP: an answer that was lost is asked for again, a refusal becomes an error of ours."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from segsvc.errors import ConfigError, RunError

PATIENCE_S = 90.0  # for how long a request is made again; longer than a server keeps the key of one that it never answered
_CONNECT_S = 15.0
_ANSWER_S = 300.0  # a listing may be long, and a model be converted, before a run is queued
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_MOST_BYTES = 64 * 1024**2
_OF_PROXIES = frozenset({502, 503, 504})  # what stands before a server answers so while it starts anew
_UNUSABLE = frozenset({400, 403, 404, 405, 413, 422})
_STORE = "urn:segsvc:problem:store-unreachable"

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: Message
    body: bytes

    @property
    def problem(self) -> Mapping[str, Any] | None:
        """The document that says what went wrong (RFC 9457); None where it is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return None
        return found if isinstance(found, dict) and "detail" in found and "type" in found else None

    @property
    def retry_after_s(self) -> float | None:
        """How long to wait before the next request, where the server says so in seconds."""
        text = self.headers.get("Retry-After", "")
        return float(text) if text.isascii() and text.isdigit() and len(text) < 8 else None

    def pause_s(self, *, keyed: bool) -> float | None:
        """How long until the same request may go well; None where it is answered, be it by a refusal.

        keyed: it bears a key of its own, whose first request may still be being answered.
        """
        if keyed and self.status == 409:
            return 1.0
        if self.status == 429 or self.status in _OF_PROXIES:
            if self.retry_after_s is not None:
                return self.retry_after_s
            return 0.0 if self.problem is None else None
        return None


class Server:
    """A server by its address. token: of whoever asks; not needed where nobody needs to sign in.

    Raises ConfigError for an address or token that cannot be used.
    """

    def __init__(self, url: str, token: str | None, *, patience_s: float = PATIENCE_S) -> None:
        self.url = url.rstrip("/")
        self._host = _host(url)
        self._token = _checked(token)
        self._patience_s = patience_s
        self._met = False  # it took a connection once: what goes wrong from then on may pass
        handlers: list[urllib.request.BaseHandler] = [_Http(), _Https(), _NoRedirect()]
        if self.is_local:
            handlers.append(urllib.request.ProxyHandler({}))  # no proxy leads to this machine
        self._opener = urllib.request.build_opener(*handlers)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, as its address says."""
        try:
            return self._host == "localhost" or ipaddress.ip_address(self._host).is_loopback
        except ValueError:
            return False

    def ask(self, path: str, *, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """The answer to a GET, or with a body to a POST, which is to have no other effect when it is made twice.

        Raises ConfigError where there is no such server or it refuses what was sent, RunError where it fails.
        """
        sent = {**(headers or {}), **({"Authorization": f"Bearer {self._token}"} if self._token is not None else {})}
        data = None
        if body is not None:
            data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = urllib.request.Request(f"{self.url}{path}", data, sent)
        keyed = "Idempotency-Key" in sent
        began, pause_s = time.monotonic(), _FIRST_PAUSE_S
        while True:
            try:
                reply = self._once(request)
            except (OSError, http.client.IncompleteRead) as error:
                wait_s, trouble = 0.0, str(error) or type(error).__name__
            except http.client.HTTPException as error:
                raise self._foreign(f"one that is no HTTP ({type(error).__name__})") from error
            else:
                answered = reply.pause_s(keyed=keyed)
                if answered is None:
                    return self._usable(reply)
                wait_s, trouble = answered, _said(reply)
            wait_s = max(wait_s, pause_s)
            if time.monotonic() - began + wait_s > self._patience_s:
                raise RunError(f"server {self.url}: expected an answer within {self._patience_s:.0f} s, got: {trouble}")
            time.sleep(wait_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def document(self, reply: Reply, kind: type[M]) -> M:
        """The document that an answer holds. Raises ConfigError where it holds none."""
        try:
            return kind.model_validate_json(reply.body)
        except ValidationError as error:
            raise self._foreign("an answer that is not one of its own") from error

    def _once(self, request: urllib.request.Request) -> Reply:
        """One try. Raises OSError or HTTPException where no whole answer came, ConfigError where no server is there."""
        try:
            with self._opener.open(request, timeout=_CONNECT_S) as answer:
                self._met = True
                return _whole(Reply(answer.status, answer.headers, answer.read(_MOST_BYTES)))
        except urllib.error.HTTPError as error:  # what is no 2xx, 304 too
            self._met = True
            with error:
                return _whole(Reply(error.code, error.headers, error.read(_MOST_BYTES)))
        except urllib.error.URLError as error:  # no connection, or it broke while the request was sent
            reason = error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason))
            if not (self._met or isinstance(reason, (ConnectionResetError, BrokenPipeError))):
                raise ConfigError(f"server: expected one at {self.url}, none can be reached there: "
                                  f"{reason.strerror or reason}. `segsvc serve` starts one; --server or SEGSVC_SERVER says "
                                  "where it is.") from error
            raise reason from error
        except OSError:  # it broke while the answer was waited for
            self._met = True
            raise

    def _usable(self, reply: Reply) -> Reply:
        """The reply, if what was asked was done. Raises ConfigError, RunError."""
        if reply.status < 300 or reply.status == 304:
            return reply
        problem = reply.problem
        if reply.status < 500 and problem is None:
            raise self._foreign(f"{reply.status} {http.client.responses.get(reply.status, '')}".rstrip())
        if reply.status == 401:
            came = "none" if self._token is None else "one that is not"
            raise ConfigError(f"server {self.url}: expected a token that is in force, got {came}.\nMake one where it "
                              "runs, by `segsvc users token NAME`, and set SEGSVC_TOKEN to it.")
        is_usage = reply.status in _UNUSABLE or (problem is not None and problem["type"] == _STORE)
        raise (ConfigError if is_usage else RunError)(_said(reply))

    def _foreign(self, came: str) -> ConfigError:
        return ConfigError(f"server: expected `segsvc serve` at {self.url}, got {came}. --server or SEGSVC_SERVER says "
                           "where it is.")


def _whole(reply: Reply) -> Reply:
    """The reply. Raises IncompleteRead where less came than it says: `read` with a limit does not notice."""
    length = reply.headers.get("Content-Length", "")
    if reply.status != 304 and length.isdigit() and len(reply.body) < int(length):
        raise http.client.IncompleteRead(reply.body, int(length) - len(reply.body))
    return reply


def detail_of(body: bytes) -> str:
    """What a problem's document says went wrong; empty where it is none."""
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return ""


def _said(reply: Reply) -> str:
    return detail_of(reply.body) or f"{reply.status} {http.client.responses.get(reply.status, '')}".rstrip()


def _host(url: str) -> str:
    """The host of a server's address. Raises ConfigError for what is no such address."""
    wanted = "server: expected its address as http(s)://HOST[:PORT]"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{wanted}, got {url!r}: {error}") from error
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{wanted}, got one with a name or password in it. Set SEGSVC_TOKEN to a token.")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or not url.isprintable() or (
            " " in url or not url.isascii()):
        raise ConfigError(f"{wanted}, got {url!r}")
    return host


def _checked(token: str | None) -> str | None:
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError("SEGSVC_TOKEN: expected a token as `segsvc users token` prints it, got other characters")
    return token or None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nowhere: the token is for one server."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _HttpConnection(http.client.HTTPConnection):
    """A connection that is had soon or not at all, while its answer may take its time."""

    sock: socket.socket

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_ANSWER_S)


class _HttpsConnection(http.client.HTTPSConnection):
    """The same by TLS."""

    sock: socket.socket

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_ANSWER_S)


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpConnection, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_HttpsConnection, req)


