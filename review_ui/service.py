"""What the routes work with: the ledger, the pictures, and who is asking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from jobs.consuming import Triggers
from jobs.predicting import AT_ONCE, Predictors
from review_ui.guard import SESSION_COOKIE
from review_ui.metrics import Metrics
from review_ui.pictures import Pictures
from review_ui.problems import Problem, ProblemType
from segsvc.ledger import users
from segsvc.ledger.opening import Ledger
from segsvc.ledger.records import LOCAL, Reader, Role
from segsvc.reach import Reach
from segsvc.settings import settings

_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Service:
    """One server's parts.

    is_local: it is reached from this machine alone, so that where no users were made everybody may do everything.
    opening, cropping, signing_in, running_errands: how many images are opened, crops made, passwords looked at and errands
    done, at once.
    """

    ledger: Ledger
    pictures: Pictures
    is_local: bool
    secure_cookies: bool = False
    wake: Callable[[], None] = lambda: None  # tells who sees to the runs that there is something to do
    ending: Event = field(default_factory=Event)  # set when the server is told to end
    metrics: Metrics = field(default_factory=Metrics)
    opening: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))
    cropping: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(8))
    signing_in: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))
    running_errands: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))
    predictors: Predictors = field(default_factory=Predictors)  # to be closed by whoever made the service
    predicting: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(AT_ONCE))
    triggers: Triggers | None = None  # None: what is posted about objects of buckets is not taken
    taking_events: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))

    def reader(self, token: str | None) -> Reader | None:
        """Who has this session or token; without users, and from this machine alone, whoever asks. None: nobody."""
        found = users.reader_of(self.ledger, token) if token is not None else None
        return LOCAL if found is None and self.needs_no_users() else found

    def reach(self) -> Reach | None:
        """What programs may name; None: anything, as nobody needs to sign in."""
        serve = settings().serve
        return None if self.needs_no_users() else Reach.of(serve.roots, serve.buckets)

    def needs_no_users(self) -> bool:
        """Whether nobody needs to sign in."""
        return self.is_local and not users.any_users(self.ledger)


def service_of(request: Request) -> Service:
    """The server's parts."""
    found: Service = request.app.state.service
    return found


def token_of(request: Request) -> str | None:
    """The token of a request: as a bearer's, else its session's."""
    header = request.headers.get("authorization", "")
    if header.lower().startswith(_BEARER):
        return header[len(_BEARER):].strip()
    return request.cookies.get(SESSION_COOKIE)


def current_reader(request: Request) -> Reader:
    """Who is asking. Raises Problem(SIGN_IN)."""
    reader = service_of(request).reader(token_of(request))
    if reader is None:
        raise Problem(ProblemType.SIGN_IN, "expected a session or `Authorization: Bearer TOKEN` that is in force, got none. "
                                           "Sign in at /login, or make a token by `segsvc users token`",
                      headers={"WWW-Authenticate": "Bearer"})
    return reader


def current_admin(request: Request) -> Reader:
    """Who is asking, if an admin. Raises Problem(SIGN_IN), Problem(NOT_PERMITTED)."""
    reader = current_reader(request)
    if reader.role is not Role.ADMIN:
        raise Problem(ProblemType.NOT_PERMITTED, f"expected an admin, got {reader.name}, a {reader.role.value}")
    return reader


async def _parts(request: Request) -> Service:
    return service_of(request)  # not in a thread, as a plain function would be: there is nothing to wait for


Parts = Annotated[Service, Depends(_parts)]
Who = Annotated[Reader, Depends(current_reader)]
Admin = Annotated[Reader, Depends(current_admin)]
