"""A run to look into: its parts through the operating point in force, which gives each candidate its band."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from types import EllipsisType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from segsvc.operating_point import OperatingPoint
from segsvc.readahead import in_order
from segsvc.results import RunFolder
from segsvc.tables import CANDIDATES_SCHEMA, CANDIDATES_VIEW_SCHEMA, IMAGES_SCHEMA
from segsvc.types import Band


def with_bands(candidates: pa.Table, point: OperatingPoint | None) -> pa.Table:
    """The stored candidates with `probability` and `band` by the operating point; with none, all are for review."""
    classes = candidates["class_name"].combine_chunks().dictionary_encode()
    flag_at, accept_at = _class_thresholds(classes.dictionary.to_pylist(), point)
    codes = classes.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    score = candidates["score"].to_numpy()
    bands = np.full(len(score), Band.REVIEW.value, dtype=object)
    bands[score >= accept_at[codes]] = Band.ACCEPTED.value
    bands[score < flag_at[codes]] = Band.REJECTED.value
    probability = _probabilities(candidates, classes, point)
    columns = [*(candidates[name] for name in CANDIDATES_SCHEMA.names), probability, pa.array(bands, pa.string())]
    return pa.table(columns, schema=CANDIDATES_VIEW_SCHEMA)


def _probabilities(candidates: pa.Table, classes: pa.DictionaryArray, point: OperatingPoint | None) -> pa.Array:
    """By the calibration's maps; null for classes that have none, and for candidates of another model."""
    if point is None or not point.probabilities:
        return pa.nulls(candidates.num_rows, pa.float64())
    score, codes = candidates["score"].to_numpy(), classes.indices.to_numpy(zero_copy_only=False)
    is_known = np.zeros(len(score), np.bool_)
    found = np.zeros(len(score))
    same = pc.equal(candidates["model_digest"], point.model_digest).to_numpy()
    for code, name in enumerate(classes.dictionary.to_pylist()):
        if (mapped := point.probabilities.get(name)) is not None:
            own = (codes == code) & same
            found[own] = mapped.of(score[own])
            is_known |= own
    return pa.array(found, pa.float64(), mask=~is_known)


def _class_thresholds(class_names: Sequence[str], point: OperatingPoint | None
                      ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """flag_at and accept_at of each class; a class that the point says nothing about is never decided by rule."""
    found = [point.thresholds(name) if point is not None else None for name in class_names]
    flag_at = [each.flag_at if each is not None else -np.inf for each in found]
    accept_at = [each.accept_at if each is not None and each.accept_at is not None else np.inf for each in found]
    return np.array(flag_at, np.float64), np.array(accept_at, np.float64)


class OpenRun:
    """A run to look into: its images and candidates as Arrow tables, through the operating point in force."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.spec = folder.spec()

    @property
    def operating_point(self) -> OperatingPoint | None:
        """The one in force; None where none is."""
        points = self._folder.operating_points()
        return points[-1] if points else None

    def images(self) -> pa.Table:
        """All images of the run that are published, in the plan's order."""
        return _concat(self.image_parts(), IMAGES_SCHEMA)

    def candidates(self) -> pa.Table:
        """All stored candidates with `probability` and `band`, in the order of image, frame, class and box."""
        return _concat((part for _, part in self.parts()), CANDIDATES_VIEW_SCHEMA)

    def parts(self, point: OperatingPoint | EllipsisType | None = ...) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Shard after shard: its images, and its candidates with `probability` and `band`.

        point: the operating point that gives the bands; by default the one in force.
        """
        given = self.operating_point if isinstance(point, EllipsisType) else point

        def both(number: int) -> tuple[pa.Table, pa.Table]:
            return self._folder.part("images", number), with_bands(self._folder.part("candidates", number), given)

        return in_order(both, self._folder.numbers("images"), at_once=self._folder.in_flight)

    def image_parts(self) -> Iterator[pa.Table]:
        """The images of shard after shard; their candidates are not read."""
        return in_order(partial(self._folder.part, "images"), self._folder.numbers("images"), at_once=self._folder.in_flight)

    def timings(self) -> dict[str, float]:
        """Seconds per stage, over all published images."""
        total: Counter[str] = Counter()
        numbers = self._folder.numbers("timings")
        for table in in_order(partial(self._folder.part, "timings"), numbers, at_once=self._folder.in_flight):
            for stage, seconds in zip(table["stage"].to_pylist(), table["seconds"].to_pylist(), strict=True):
                total[stage] += seconds
        return dict(total)

    @property
    def folder(self) -> RunFolder:
        return self._folder


def _concat(tables: Iterator[pa.Table], schema: pa.Schema) -> pa.Table:
    found = list(tables)
    return pa.concat_tables(found) if found else schema.empty_table()
