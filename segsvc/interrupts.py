"""Ctrl-C and SIGTERM: both interrupt, and neither is lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

_ANEW_S = 0.02


def heed() -> None:
    """From here on SIGTERM raises KeyboardInterrupt as Ctrl-C does, and one that Python drops is sent anew.

    Python drops what is raised in a finalizer or a callback of a garbage collection: it prints it and goes on, so that a
    command would go on as well.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    sys.unraisablehook = _dropped


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _dropped(dropped: sys.UnraisableHookArgs) -> None:
    if isinstance(dropped.exc_value, KeyboardInterrupt):
        # a moment later, as it would be dropped again while the finalizer is still left
        anew = threading.Timer(_ANEW_S, os.kill, (os.getpid(), signal.SIGTERM))
        anew.daemon = True
        anew.start()
    else:
        sys.__unraisablehook__(dropped)
