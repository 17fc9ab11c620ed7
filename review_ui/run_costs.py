"""The counts that a run's costs are made of: read from OUT once, and kept while it and its calibration stay the same."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock

from segsvc.results import RunFolder
from segsvc.run_cost import RunCost, ScoreCount, calibration_of, counted, counts_of
from segsvc.stores import store_of
from segsvc.summary import left_document
from segsvc.views import OpenRun

_MOST_KEPT = 16  # runs; a run's counts are some thresholds a class


class RunCosts:
    """The latest runs' counts; one run is read at a time, so that two who ask do not read it twice."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, ...], tuple[ScoreCount, int]] = OrderedDict()
        self._lock = Lock()

    def of(self, out: str) -> RunCost | None:
        """What each recall costs in the run in OUT; None where it has no calibration.

        Raises ConfigError where OUT is gone, RunError where a part of it is damaged.
        """
        folder = RunFolder(store_of(out).folder(out))
        run, document = OpenRun(folder), left_document(folder)
        calibration = calibration_of(run)
        if calibration is None:
            return None
        digest = hashlib.sha256(calibration.to_json().encode()).hexdigest()
        key = (folder.uri, digest, f"{document.attempt} {document.finished_at}" if document is not None else "")
        with self._lock:
            counts = self._kept.get(key)
            if counts is None:
                counts = self._kept[key] = counts_of(run, calibration)
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return counted(run, calibration, *counts)
