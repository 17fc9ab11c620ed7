"""The pull loop: claim a shard, work on its images, publish it. The same for this process, a child and a Ray actor."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from segsvc.claims import Claims, Task, WorkerSpec
from segsvc.errors import ImageError, ImageErrorKind, RunError
from segsvc.imaging import regions
from segsvc.models.library import find_model
from segsvc.models.runtime import Predictor
from segsvc.readers import ReadLimits, open_source
from segsvc.results import RunFolder, UnitRows, unit_rows
from segsvc.segment import Stopwatch, segment_source
from segsvc.stores import store_of
from segsvc.types import ImageResult, ImageStatus, Unit

log = logging.getLogger("segsvc.worker")


class Worker:
    """A model that was loaded once, and what it is used on."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._folder = RunFolder(store_of(spec.out_uri).folder(spec.out_uri))
        model = find_model(spec.model_folder)
        if model.digest != spec.model_digest:
            raise RunError(f"model {model.name}: expected digest {spec.model_digest}, got {model.digest}: "
                           "it was changed after the run began")
        with ThreadPoolExecutor(1) as meanwhile:
            kernels = meanwhile.submit(regions.warm)
            self._predictor = Predictor(model, spec.runtime, threads=spec.threads)
            kernels.result()
        self._limits = ReadLimits(decode_bytes=spec.decode_limit_bytes)
        self._lanes = spec.lanes

    def pull(self, claims: Claims) -> None:
        """Works until there is nothing left to claim. Raises RunError where OUT cannot be written any more."""
        with ThreadPoolExecutor(self._lanes, thread_name_prefix="lane") as lanes:
            while (task := claims.next()) is not None:
                rows = self._work(task, claims, lanes)
                try:
                    self._folder.publish(task.shard, rows, replace=task.replace)
                except OSError as error:
                    raise RunError(f"OUT: shard {task.shard} could not be written: {error.strerror or error}. What is "
                                   "published is kept; make room or give back access, then run the same command "
                                   "again.") from error
                claims.published(task)
        self._predictor.close()

    def _work(self, task: Task, claims: Claims, lanes: ThreadPoolExecutor) -> Sequence[UnitRows]:
        planned = self._folder.planned(task.shard)
        if planned is None:
            raise RunError(f"shard {task.shard}: expected it in the plan, it is not there")
        kept = self._folder.kept_rows(task.shard) if task.replace else [None] * len(planned.units)
        rows: dict[int, UnitRows] = {unit.ordinal: row for unit, row in zip(planned.units, kept, strict=True)
                                     if row is not None}
        wanted = [unit for unit in planned.units if unit.ordinal not in rows]

        def one(unit: Unit) -> UnitRows:
            why = task.quarantined.get(unit.ordinal)
            if why is not None:
                result = _quarantined(unit, why)
            else:
                claims.started(unit.ordinal)
                result = self.work_unit(unit)
            found = unit_rows(result, model=self._predictor.model.name, model_digest=self._predictor.model.digest)
            claims.finished(unit.ordinal, result.status)
            return found

        if task.alone:
            wanted.sort(key=lambda unit: (unit.ordinal not in task.suspects, unit.ordinal))
            rows.update({unit.ordinal: one(unit) for unit in wanted})
        else:
            rows.update(zip((unit.ordinal for unit in wanted), lanes.map(one, wanted), strict=True))
        return [rows[unit.ordinal] for unit in planned.units]

    def work_unit(self, unit: Unit) -> ImageResult:
        """One image, opened and segmented; whatever goes wrong is its own failed row."""
        watch = Stopwatch()
        begun = time.perf_counter()
        try:
            blob = store_of(unit.ref.uri).open(unit.ref)
            try:
                source = open_source(blob, self._limits)
                watch.add("read", time.perf_counter() - begun)
                try:
                    found = segment_source(source, self._predictor, watch)
                finally:
                    source.close()
            finally:
                blob.close()
        except ImageError as error:
            return _failed(unit, error.kind, str(error), watch.seconds)
        except MemoryError:
            return _failed(unit, ImageErrorKind.TOO_LARGE, "expected an image that fits in memory, memory ran out",
                           watch.seconds)
        except Exception as error:  # the run goes on whatever one image does; the log keeps the trace
            log.exception("image failed", extra={"image_id": unit.ref.image_id})
            return _failed(unit, ImageErrorKind.INTERNAL, f"{type(error).__name__}: {error}", watch.seconds)
        status = ImageStatus.DONE if found.candidates else ImageStatus.EMPTY
        return ImageResult(unit.ref, status, found, None, None, watch.seconds)


def _failed(unit: Unit, kind: ImageErrorKind, message: str, seconds: Mapping[str, float]) -> ImageResult:
    return ImageResult(unit.ref, ImageStatus.FAILED, None, kind, message, seconds)


def _quarantined(unit: Unit, why: str) -> ImageResult:
    return ImageResult(unit.ref, ImageStatus.QUARANTINED, None, ImageErrorKind.CRASHED, why, {})
