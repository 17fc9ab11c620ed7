"""The servers of `tests.s3_servers` as fixtures."""

from __future__ import annotations

from tests.s3_servers import below, use, weed

__all__ = ["below", "use", "weed"]
