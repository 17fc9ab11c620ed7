"""Has a program go by a clock that is off by as many seconds as a file says, which may change meanwhile."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from segsvc import clock

_right = clock.utc_now
_file = Path(os.environ["CHAOS_CLOCK"])


def _utc_now() -> datetime:
    return _right() + timedelta(seconds=float(_file.read_text()))


clock.utc_now = _utc_now
