"""What every request has to pass before anything else, and what every answer bears.

A page of another site in the same browser can send requests here: by a name that it makes point at us (rebinding), or with
the browser's cookies (forgery). Neither gets further than this.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from review_ui.problems import Problem, ProblemType

MOST_BODY_BYTES = 5_000_000
MOST_IMAGE_BYTES = 64 * 1024**2
_MOST_BYTES_AT = {"/v1/predict": MOST_IMAGE_BYTES}
SESSION_COOKIE = "segsvc_session"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN = frozenset({"same-origin", "none"})  # none: typed by the person, or a bookmark
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
                               "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # not no-referrer: with that, a form's POST bears no origin that could be looked at
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """An application around another: refuses what comes by a foreign name or from a foreign page.

    hosts: names that the server is called by, beside localhost and addresses in numbers, which nobody can rebind.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset({"localhost", *(host.lower() for host in hosts)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def bearing(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the server below leaves the body out, as it was asked for HEAD
        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        await (self._app if refusal is None else refusal.response())(scope, receive, bearing)

    def _refusal(self, method: str, path: str, headers: Headers) -> Problem | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return Problem(ProblemType.UNKNOWN_HOST, f"expected localhost, an address in numbers or a name set as "
                                                     f"`serve.hosts`, got {host[:100]!r}")
        site = headers.get("sec-fetch-site")
        if method in _SAFE:
            if site not in (None, *_OWN) and headers.get("sec-fetch-mode") != "navigate":
                return Problem(ProblemType.CROSS_SITE, "expected a request of our own pages, got one of another site")
            return None
        if not _is_own_origin(headers, host):
            return Problem(ProblemType.CROSS_SITE, f"expected a request of our own pages, got one with the origin "
                                                   f"{headers.get('origin', 'unknown')[:100]!r}")
        return _body_refusal(headers, most_bytes=_MOST_BYTES_AT.get(path, MOST_BODY_BYTES))

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._hosts or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_own_origin(headers: Headers, host: str) -> bool:
    """Whether an unsafe request comes from a page of ours, or from a program that has no browser's cookies with it."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is not None:
        try:
            return urlsplit(origin).netloc.lower() == host.lower() != ""
        except ValueError:
            return False
    return site is not None or f"{SESSION_COOKIE}=" not in headers.get("cookie", "")


def _body_refusal(headers: Headers, *, most_bytes: int) -> Problem | None:
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers:
        return Problem(ProblemType.NO_LENGTH, "expected a Content-Length, got a body in chunks")
    if not length.isdecimal() or int(length) > most_bytes:
        return Problem(ProblemType.TOO_LARGE, f"expected a body of at most {most_bytes} bytes, got {length[:20]}")
    return None
