"""Whether a run's images are like those of its calibration: a sample, gathered part by part while they are counted."""

from __future__ import annotations

from bisect import insort
from itertools import accumulate

import numpy as np
import pyarrow as pa

from segsvc.card import RunSpec
from segsvc.documents import DriftDocument
from segsvc.operating_point import OperatingPoint
from segsvc.quality.drift import FEWEST_IMAGES, FEWEST_UNITS, Drift, Sample, compare
from segsvc.quality.profile import MOST_IMAGES, Profile, Stored
from segsvc.results import UNREAD
from segsvc.types import stable_id

_PLACES = 4  # of the numbers that are written down


class Likeness:
    """A run's images, as its parts are scanned in order, and how they compare with the calibration in force.

    Units are taken as the calibration had them: images, or a manifest's groups. Where it had groups and the run names none,
    as many images in a row stand for one, as images that belong together mostly lie together. A run of more images than are
    compared is sampled by ids, which are hashes: the same parts give the same sample.
    """

    def __init__(self, point: OperatingPoint | None, spec: RunSpec) -> None:
        usable = point is not None and point.is_calibrated_for(spec.model_digest, spec.runtime)
        self._profile = point.profile if point is not None and usable else None
        self._kept: dict[str, list[tuple[str, tuple[int, ...]]]] = {}  # unit -> (image_id, traits), by image_id
        self._last = ""  # no unit beyond it is kept; "" while all are
        self._read = 0
        self._in_a_row = False

    def add(self, images: pa.Table, candidates: pa.Table) -> None:
        """A shard: its images, and their candidates in the same order. Images that could not be read do not count."""
        profile = self._profile
        if profile is None:
            return
        counts = images["n_candidates"].to_numpy()
        units = self._units(images, profile)
        wanted = np.array([unit is not None and (not self._last or unit <= self._last) for unit in units], np.bool_)
        own = candidates.filter(pa.array(np.repeat(wanted, counts)))
        stored = Stored(counts[wanted], np.array(own["class_name"].to_pylist(), np.str_), own["score"].to_numpy(),
                        own["mean_score"].to_numpy(), own["area_px"].to_numpy())
        rows = iter(stored.traits(profile.classes).tolist())
        for unit, image_id, is_wanted in zip(units, images["image_id"].to_pylist(), wanted.tolist(), strict=True):
            if unit is not None and is_wanted:
                kept = self._kept.setdefault(unit, [])
                insort(kept, (image_id, tuple(next(rows))))
                del kept[profile.most_a_unit:]
        if sum(map(len, self._kept.values())) > 2 * MOST_IMAGES:
            self._cut()

    def _units(self, images: pa.Table, profile: Profile) -> list[str | None]:
        """The unit of each image, as an id; None for one that could not be read."""
        units: list[str | None] = []
        for image_id, group, status in zip(*(images[name].to_pylist() for name in ("image_id", "group", "status")),
                                           strict=True):
            if status in UNREAD:
                units.append(None)
                continue
            if profile.by_image:
                units.append(image_id)
            elif group is not None:
                units.append(stable_id("group", group))
            else:
                units.append(stable_id("row", self._read // profile.images_a_unit))
                self._in_a_row = True
            self._read += 1
        return units

    def _cut(self) -> None:
        """Leaves the units of the lowest ids that have together no more images than are compared.

        Units only grow, so what is cut now would be cut at the end: when this is done changes nothing.
        """
        order = sorted(self._kept)
        together = accumulate(len(self._kept[unit]) for unit in order)
        left = [unit for unit, images in zip(order, together, strict=True) if images <= MOST_IMAGES]
        if len(left) < len(order):
            self._last = left[-1]
            self._kept = {unit: self._kept[unit] for unit in left}

    def drift(self) -> DriftDocument | None:
        """How the images so far compare; None where no calibration with a profile is in force here."""
        profile = self._profile
        if profile is None:
            return None
        self._cut()
        order = sorted(self._kept)
        rows = [(number, traits) for number, unit in enumerate(order) for _, traits in self._kept[unit]]
        here = Sample(np.array([number for number, _ in rows], np.int64),
                      np.array([traits for _, traits in rows], np.int64).reshape(-1, len(profile.traits)))
        there = Sample(profile.sample_units(), profile.sample_traits())
        if not (here.is_enough and there.is_enough):
            return DriftDocument(in_doubt=False, says=self._too_few(here, there), images=here.images, units=here.units,
                                 statistic=None, threshold=None, p_value=None)
        found = compare(there, here, profile.classes)
        return DriftDocument(in_doubt=found.in_doubt, says=self._says(found), images=here.images, units=here.units,
                             statistic=round(found.statistic, _PLACES), threshold=round(found.threshold, _PLACES),
                             p_value=round(found.p_value, _PLACES))

    def _too_few(self, here: Sample, there: Sample) -> str:
        which, sample = ("here", here) if not here.is_enough else ("at the calibration", there)
        units = f" of {sample.units} units" if sample.units != sample.images else ""
        return (f"too few images {which} to compare: expected at least {FEWEST_IMAGES} of {FEWEST_UNITS} units, got "
                f"{sample.images}{units}{self._rows()}")

    def _says(self, found: Drift) -> str:
        if not found.in_doubt:
            return ("nothing seen against the promise: candidates and scores are like the calibration's "
                    f"(p {found.p_value:.2g}){self._rows()}")
        return ("the promise is in doubt: these images are unlike the calibration's "
                f"({'; '.join(map(str, found.differences))}){self._rows()}")

    def _rows(self) -> str:
        if not self._in_a_row or self._profile is None:
            return ""
        return (f"; as the run names no groups, {self._profile.images_a_unit} images in a row were taken for one")
