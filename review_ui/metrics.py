"""What the server counts of itself and the ledger of the service, in Prometheus' text format; no label is an id or name."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segsvc.ledger.opening import Ledger
from segsvc.ledger.service_counts import Counted, ServiceCounts, service_counts

_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Requests since the server's start; safe to use from several threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("segsvc_requests", "Requests that were answered.", ("method", "route", "status"),
                                 registry=self._registry)
        self._seconds = Counter("segsvc_request_seconds", "Seconds until the answer was sent.", ("route",),
                                registry=self._registry)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).inc(seconds)

    def text(self, ledger: Ledger) -> tuple[bytes, str]:
        """All of it, and its media type."""
        of_ledger = CollectorRegistry()
        of_ledger.register(_OfLedger(ledger))
        return generate_latest(self._registry) + generate_latest(of_ledger), _TYPE


class _OfLedger(Collector):
    """What the ledger has counted, as it stands when it is asked for."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def describe(self) -> Iterator[Metric]:
        return iter(())  # nothing is read before it is asked for

    def collect(self) -> Iterator[Metric]:
        found = service_counts(self._ledger)
        runs = GaugeMetricFamily("segsvc_runs", "Runs by state.", labels=("state",))
        for state, count in sorted(found.counts[Counted.RUNS].items()):
            runs.add_metric((state,), count)
        yield runs
        yield GaugeMetricFamily("segsvc_queue_age_seconds", "How long the oldest run in the queue has waited.",
                                found.queue_age_s)
        yield GaugeMetricFamily("segsvc_review_backlog", "Readings that are still to be made.", found.backlog)
        yield CounterMetricFamily("segsvc_leases_lost", "Attempts whose worker was not heard of any more.",
                                  _whole(found, Counted.LEASES_LOST))
        yield _by(found, Counted.IMAGES, "segsvc_images", "Images of runs, by status.", "state")
        yield _by(found, Counted.PX, "segsvc_megapixels", "Megapixels of those images.", "state", divided_by=1e6)
        yield _by(found, Counted.STAGE_US, "segsvc_stage_seconds", "Seconds of workers, by stage.", "stage", divided_by=1e6)
        yield SummaryMetricFamily("segsvc_decision_seconds", "Seconds that people took to decide.",
                                  _whole(found, Counted.DECISIONS), _whole(found, Counted.DECISION_US) / 1e6)


def _whole(found: ServiceCounts, what: Counted) -> int:
    return found.counts[what].get("", 0)


def _by(found: ServiceCounts, what: Counted, name: str, text: str, label: str, *, divided_by: float = 1.0
        ) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=(label,))
    for of, count in sorted(found.counts[what].items()):
        family.add_metric((of,), count / divided_by)
    return family


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
