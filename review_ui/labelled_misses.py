"""What whole images tell of a run's misses, kept until somebody labels more: shapes are compared for it, image by image."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from segsvc.ledger.missed_images import labelling_state, missed_images
from segsvc.ledger.opening import Ledger
from segsvc.quality.missed import MissedImages

_MOST_KEPT = 64  # runs


class LabelledMisses:
    """The bounds of the runs that were asked for last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], tuple[MissedImages, ...]] = OrderedDict()
        self._lock = Lock()

    def of(self, ledger: Ledger, run_id: str) -> tuple[MissedImages, ...]:
        """As `missed_images`. Raises Unknown."""
        key = (ledger.place, run_id, labelling_state(ledger))
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = missed_images(ledger, run_id)
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return found


labelled_misses = LabelledMisses()
