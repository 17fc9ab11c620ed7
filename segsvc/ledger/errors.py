"""What the ledger answers to a request that it does not do; each is one HTTP status.

LedgerError
├── Unknown    no such candidate, image, run or decision (404)
├── Stale      the candidate was decided meanwhile (412); nothing was stored
├── Lost       a run that somebody else works on by now (409)
├── Conflict   what was asked for cannot be done to this as it stands now (409)
├── Refused    what was sent is no decision (422)
├── Throttled  too many failed logins (429)
└── Full       the disk is full (507); nothing was stored, and it goes on once there is room
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segsvc.errors import SegsvcError

if TYPE_CHECKING:
    from segsvc.ledger.records import Decision


class LedgerError(SegsvcError):
    """A request that the ledger does not do; it stays as it was."""


class Unknown(LedgerError):  # noqa: N818 - they read as what they say
    """A candidate, image, run or decision that is not in the ledger."""


class Stale(LedgerError):  # noqa: N818
    """The reader saw something else than there is now. `first`: the decision that came first; `tag`: the tag now."""

    def __init__(self, message: str, *, first: Decision | None, tag: str) -> None:
        super().__init__(message)
        self.first = first
        self.tag = tag


class Refused(LedgerError):  # noqa: N818
    """What was sent cannot be stored as it is; the message says what was expected and what came."""


class Lost(LedgerError):  # noqa: N818
    """The lease of a run has ended: somebody else works on it by now, and what the former holder says is not heard."""


class Conflict(LedgerError):  # noqa: N818
    """As it stands now this cannot be done: a run is over that was to be cancelled, or goes on that was to be resumed."""


class Throttled(LedgerError):  # noqa: N818
    """Too many failed logins; the next is looked at after `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Full(LedgerError):  # noqa: N818
    """There is no room for what was to be stored."""
