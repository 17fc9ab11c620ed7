"""What the server counts of itself, in Prometheus' text format (0.0.4); routes, never addresses: those bear ids."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(slots=True)
class Metrics:
    """Counters since the server's start; safe to use from several threads."""

    _guard: threading.Lock = field(default_factory=threading.Lock)
    _requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    _seconds: dict[str, float] = field(default_factory=dict)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        with self._guard:
            self._requests[method, route, status] += 1
            self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def text(self) -> str:
        """All counters, in a fixed order."""
        with self._guard:
            requests, seconds = sorted(self._requests.items()), sorted(self._seconds.items())
        lines = ["# HELP segsvc_requests_total Requests that were answered.", "# TYPE segsvc_requests_total counter"]
        lines += [f'segsvc_requests_total{{method="{method}",route="{route}",status="{status}"}} {number}'
                  for (method, route, status), number in requests]
        lines += ["# HELP segsvc_request_seconds_total Seconds until the answer was sent.",
                  "# TYPE segsvc_request_seconds_total counter"]
        lines += [f'segsvc_request_seconds_total{{route="{route}"}} {number:.6f}' for route, number in seconds]
        return "\n".join(lines) + "\n"


class Meter:
    """An application around another that counts what it answers."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.count(_method(scope["method"]), route, status, time.perf_counter() - begun)


def _method(name: str) -> str:
    """The method if it is one of those that are known: others may be anything, and any number."""
    return name if name in ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH") else "other"
