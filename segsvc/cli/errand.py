"""An errand to the ledger: done here, or by the server that has the ledger open."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TypeVar

from segsvc.card import Document
from segsvc.cli.progress import say
from segsvc.cli.server import detail_of
from segsvc.errors import ConfigError, RunError
from segsvc.ledger.errands import AnyErrand
from segsvc.ledger.folder_lock import Served
from segsvc.ledger.opening import open_ledger

D = TypeVar("D", bound=Document)
_REFUSED = 422


def do(place: str, errand: AnyErrand, gives: type[D]) -> D:
    """The document that the errand gives. Raises ConfigError as if it were done here, RunError where the server fails."""
    try:
        with open_ledger(place) as ledger:
            done = errand.run(ledger, say).model_dump_json()
    except Served as served:
        done = _done_by(served, errand)
    return gives.model_validate_json(done)


def _done_by(served: Served, errand: AnyErrand) -> str:
    request = urllib.request.Request(
        f"{served.url}/v1/errands", errand.model_dump_json().encode(), method="POST",
        headers={"Authorization": f"Bearer {served.secret}", "Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the server is on this machine
    try:
        with opener.open(request) as answer:
            done: str = answer.read().decode()
            return done
    except urllib.error.HTTPError as error:
        with error:
            detail = detail_of(error.read())
        raise (ConfigError if error.code == _REFUSED else RunError)(
            detail or f"ledger: expected the server at {served.url} to do it, got {error.code} {error.reason}") from error
    except OSError as error:  # in another container, or just ending
        raise ConfigError(f"{served} It could not be asked: {error}.") from error
