"""Imports OpenVINO so that it tells nobody of it.

Without being asked, the package reports each import and each conversion to its makers over the net, by the package
`openvino_telemetry`, and keeps an account of it in the user's home. Where that package is not installed it uses a
stand-in that does nothing.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

_REPORTING = "openvino_telemetry"
_lock = threading.Lock()


def openvino() -> Any:
    """The package openvino, imported as if the one that reports for it were not installed.

    Where the process has imported openvino before, it is left as it is.
    """
    with _lock:
        if "openvino" in sys.modules:
            return sys.modules["openvino"]
        before = sys.modules.get(_REPORTING)
        sys.modules[_REPORTING] = None  # type: ignore[assignment] # how Python marks a module that cannot be imported
        try:
            return importlib.import_module("openvino")
        finally:
            del sys.modules[_REPORTING]
            if before is not None:
                sys.modules[_REPORTING] = before
