"""The server: an address, a ledger, and the application until it is told to end."""

from __future__ import annotations

import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn

from jobs.consuming import Triggers, check_together
from jobs.hands import hands
from jobs.rules import RulesFile
from jobs.s3_events import Queue
from jobs.supervisor import Supervisor
from jobs.webhooks import Allowed, Webhooks, secret_of
from review_ui.app import create_app
from review_ui.picture_cache import PictureCache
from review_ui.pictures import Pictures
from review_ui.service import Service
from segsvc import logs
from segsvc.errors import ConfigError
from segsvc.imaging import regions
from segsvc.ledger import users
from segsvc.ledger.intake import import_run
from segsvc.ledger.opening import Ledger, open_ledger
from segsvc.readers import ReadLimits
from segsvc.settings import settings

log = logging.getLogger("review_ui.server")

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8765
_PATIENCE_S = 10  # for requests that are under way when the server is told to end


def serve(place: str, *, host: str, port: int, imports: Sequence[str], say: Callable[[str], None],
          ready: Callable[[str], None]) -> None:
    """Serves the ledger at `place` until SIGINT or SIGTERM; what is under way is finished first.

    imports: runs that are taken into the ledger before. ready: called with the URL when it takes requests. Raises
    ConfigError where the address cannot be had, or is beyond this machine while no users were made.
    """
    logs.begin()
    with closing(_bound(host, port)) as listener:
        url = _url(host, listener)
        is_local = ipaddress.ip_address(listener.getsockname()[0].split("%")[0]).is_loopback
        with open_ledger(place, serving=True, url=url) as ledger:
            if not (is_local or users.any_users(ledger)):
                raise ConfigError(f"--host {host}: expected users, as others than you can reach this address; there are "
                                  "none. Make one by `segsvc users add NAME --role admin`, or serve on 127.0.0.1.")
            for out in imports:
                import_run(ledger, out, say=say)
            regions.warm()
            webhooks = Webhooks(ledger, Allowed.of(settings().serve), secret_of(ledger))
            supervisor = Supervisor(ledger, hands(say, is_postgres=ledger.is_postgres), lease_s=settings().serve.lease_s)
            with closing(webhooks), closing(supervisor):
                service = _service(ledger, place, is_local=is_local, wake=supervisor.wake)
                with closing(_triggers(service)) as triggers:
                    webhooks.start()
                    supervisor.start()
                    triggers.start()
                    _run(replace(service, triggers=triggers), listener, host, lambda: _begun(listener, partial(ready, url)))


def _begun(listener: socket.socket, ready: Callable[[], None]) -> None:
    log.info("serving", extra={"port": listener.getsockname()[1]})
    ready()


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM,
                                                                flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--host: expected a name or address of this machine, got {host!r}: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(f"--host, --port: expected an address that is free, got {host}:{port}: {error.strerror}. "
                          "Choose another by --port, or 0 for any that is free.") from error
    return listener


def _url(host: str, listener: socket.socket) -> str:
    address, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "localhost"}.get(address, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _service(ledger: Ledger, place: str, *, is_local: bool, wake: Callable[[], None]) -> Service:
    chosen = settings()
    folder = chosen.cache_dir if "://" in place else Path(place)
    cache = PictureCache(folder / "pictures", limit_bytes=chosen.serve.pictures_limit_bytes)
    return Service(ledger, Pictures(cache, ReadLimits(decode_bytes=chosen.decode_limit_bytes)), is_local=is_local, wake=wake,
                   secure_cookies=chosen.serve.secure_cookies)


def _triggers(service: Service) -> Triggers:
    """What is done about objects of buckets. Raises ConfigError where the rules or the queue that are set are wrong."""
    chosen = settings().serve
    check_together(chosen.queue, chosen.rules)
    return Triggers(service.ledger, wake=service.wake,
                    rules=RulesFile(chosen.rules, service.reach) if chosen.rules is not None else None,
                    queue=Queue(chosen.queue) if chosen.queue is not None else None)


def _run(service: Service, listener: socket.socket, host: str, ready: Callable[[], None]) -> None:
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    app = create_app(service, hosts=[*settings().serve.hosts, host])
    config = uvicorn.Config(app, log_config=None, access_log=False, proxy_headers=False, server_header=False,
                            timeout_graceful_shutdown=_PATIENCE_S)
    with (closing(service.predictors),
          suppress(KeyboardInterrupt)):  # raised again by uvicorn, after it has ended as it was told to
        _Server(config, ready, service.ending).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Says when it takes requests, and when it is told to end, so that those who follow a run are let go."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], ending: threading.Event) -> None:
        super().__init__(config)
        self._ready, self._ending = ready, ending

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._ending.set()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
