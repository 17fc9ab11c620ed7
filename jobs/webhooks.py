"""Tells others of runs, as the Standard Webhooks say (standardwebhooks.com): signed, and again until it is received.

Where a message goes is decided by whoever runs the server: hosts on a list, and no address that is private, unless its
network is on a list too. The address that was looked at is the one that is connected to, and no redirect is followed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ipaddress
import logging
import os
import secrets
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from segsvc import clock
from segsvc.errors import ConfigError, SegsvcError
from segsvc.ledger import deliveries
from segsvc.ledger.deliveries import Delivery
from segsvc.ledger.opening import Ledger
from segsvc.settings import ServeSettings, user_data

log = logging.getLogger("jobs.webhooks")

_PREFIX = "whsec_"
_TIMEOUT_S = 10.0
_LOOKS_EVERY_S = 1.0
_GONE = 410  # who answers so wants no more
_MOST_ANSWER_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Allowed:
    """hosts: names, or `name:port`, that may be told. networks: private ones that such a name may lie in."""

    hosts: tuple[str, ...]
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

    @classmethod
    def of(cls, settings: ServeSettings) -> Allowed:
        """Raises ConfigError for a network that is none."""
        try:
            return cls(tuple(host.lower() for host in settings.webhook_hosts),
                       tuple(ipaddress.ip_network(network) for network in settings.webhook_networks))
        except ValueError as error:
            raise ConfigError(f"serve.webhook_networks: expected networks such as 10.0.0.0/8, got: {error}") from error

    def check(self, url: str) -> None:
        """Raises ConfigError for what is no URL of a host on the list."""
        try:
            parts = urlsplit(url)
            name, port = (parts.hostname or "").lower(), parts.port
        except ValueError:
            name, port, parts = "", None, urlsplit("")
        if parts.scheme not in ("https", "http") or not name or parts.username is not None or not url.isprintable():
            raise ConfigError(f"webhook: expected https://host/path without a user in it, got {url[:200]!r}")
        if name not in self.hosts and f"{name}:{port}" not in self.hosts:
            raise ConfigError("webhook: expected a host of the setting serve.webhook_hosts "
                              f"({', '.join(self.hosts) or 'none'}), got {name!r}")

    def addresses(self, host: str, port: int) -> list[str]:
        """The host's addresses, all of which are public or in a network of the list. Raises ConfigError, OSError."""
        found = [str(each[4][0]).split("%")[0] for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        for text in found:
            address = ipaddress.ip_address(text)
            address = getattr(address, "ipv4_mapped", None) or address
            if not address.is_global and not any(address in network for network in self.networks):
                raise ConfigError(f"webhook: expected a public address of {host}, got {text}. The setting "
                                  "serve.webhook_networks lists private networks that may be told.")
        return found


class Webhooks:
    """The thread that sends what is due."""

    def __init__(self, ledger: Ledger, allowed: Allowed, secret: bytes) -> None:
        self._ledger, self._allowed, self._secret = ledger, allowed, secret
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begins; what a server before this one left is sent too."""
        self._thread.start()

    def close(self) -> None:
        """Ends after the message that is being sent."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        while not self._closing.wait(_LOOKS_EVERY_S):
            try:
                for delivery in deliveries.due(self._ledger):
                    if self._closing.is_set():
                        return
                    self._deliver(delivery)
            except SegsvcError as error:  # the ledger: it is tried again
                log.warning("%s", error)

    def _deliver(self, delivery: Delivery) -> None:
        try:
            self._allowed.check(delivery.url)  # the list may have changed since
            status = self._post(delivery)
        except ConfigError as error:
            deliveries.sent(self._ledger, delivery, str(error))
            log.warning("webhook given up: %s", error)
            return
        except (OSError, http.client.HTTPException) as error:
            answer = f"{type(error).__name__}: {error}"
        else:
            answer = str(status)
            if 200 <= status < 300 or status == _GONE:
                deliveries.sent(self._ledger, delivery, answer)
                return
        if not deliveries.try_again(self._ledger, delivery, answer):
            log.warning("webhook given up after %d tries: %s", delivery.tries + 1, answer)

    def _post(self, delivery: Delivery) -> int:
        parts = urlsplit(delivery.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = parts.hostname or ""
        addresses = self._allowed.addresses(host, port)
        now, body = int(clock.utc_now().timestamp()), delivery.body.encode()
        connection = _Pinned(host, port, addresses, ssl.create_default_context() if parts.scheme == "https" else None)
        try:
            connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, {
                "Content-Type": "application/json", "User-Agent": "segsvc", "webhook-id": delivery.event_id,
                "webhook-timestamp": str(now), "webhook-signature": signature(self._secret, delivery.event_id, now, body)})
            answer = connection.getresponse()
            answer.read(_MOST_ANSWER_BYTES)
            return answer.status
        finally:
            connection.close()


class _Pinned(http.client.HTTPConnection):
    """A connection to a host at addresses that were looked at before."""

    def __init__(self, host: str, port: int, addresses: Sequence[str], context: ssl.SSLContext | None) -> None:
        super().__init__(host, port, timeout=_TIMEOUT_S)
        self._addresses, self._context = addresses, context

    def connect(self) -> None:
        self.sock = socket.create_connection((self._addresses[0], self.port), _TIMEOUT_S)
        if self._context is not None:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def signature(secret: bytes, event_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: HMAC-SHA256 over id, time and body."""
    signed = hmac.new(secret, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


def secret_of(ledger: Ledger) -> bytes:
    """The secret that messages are signed with: in a file that is made at first, for this user's eyes alone.

    Whoever is told copies the line that stands in it, `whsec_...`. Raises ConfigError where the file holds something else.
    """
    place = ledger.folder / "webhook-secret" if ledger.folder is not None else user_data("secrets") / (
        hashlib.sha256(ledger.shown.encode()).hexdigest()[:12])
    if not place.exists():
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(place, f"{_PREFIX}{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
    text = place.read_text("utf-8", "replace").strip()
    try:
        return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except ValueError as error:
        raise ConfigError(f"{place}: expected {_PREFIX} and base64, got something else. Remove it, and another is made."
                          ) from error


def _write(place: Path, text: str) -> None:
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
