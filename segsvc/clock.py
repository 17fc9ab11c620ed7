"""What time it is by this machine's clock, which dates things and may be set forwards or back at any moment.

So nothing that waits is measured by it alone. Within a process that is what `time.monotonic` is for. A time that was stored,
and could not have been stored by now, was stored before the clock was set back: what waits for it has waited long enough.
"""

from __future__ import annotations

from datetime import UTC, datetime

APART_US = 60_000_000  # so far apart the clocks of several servers of a ledger may be; what is less was not set back


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)
