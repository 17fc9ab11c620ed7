"""The pull loop: claim a shard, work on its images, publish it. The same for this process, a child and a Ray actor.

Nothing waits for what can be done ahead: images are opened while others are computed, the next shard is asked for when
the last image of this one is taken in work, and a finished shard is published meanwhile.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from segsvc import logs
from segsvc.claims import Claims, Task, WorkerSpec
from segsvc.errors import ConfigError, ImageError, ImageErrorKind, RunError
from segsvc.imaging import regions
from segsvc.models.library import find_same_model
from segsvc.models.runtime import Predictor
from segsvc.readers import ReadLimits, opened
from segsvc.results import RunFolder, UnitRows, unit_rows
from segsvc.segment import Stopwatch, segment_source
from segsvc.stores import store_of
from segsvc.types import Blob, ImageResult, ImageStatus, Unit

log = logging.getLogger("segsvc.worker")

_IN_HAND = 2  # shards: one being worked on, and the one before it or after it
_READERS = 128  # threads that open images ahead, at most
_AHEAD_BYTES = 256 * 1024**2  # of images that were opened ahead


class LoadedOnce:
    """The model of the run before, which stays loaded for a run of the same one."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._predictor: Predictor | None = None

    def predictor(self, spec: WorkerSpec) -> Predictor:
        """The model of the spec, loaded. Raises RunError where it is not to be had."""
        key = (spec.model_digest, spec.runtime, spec.threads)
        if self._predictor is None or key != self._key:
            self.close()
            self._predictor, self._key = _load(spec), key
        return self._predictor

    def close(self) -> None:
        """Lets the model go."""
        if self._predictor is not None:
            self._predictor.close()
        self._predictor = None


def _load(spec: WorkerSpec) -> Predictor:
    model = find_same_model(spec.model_folder, spec.model_digest) or find_same_model(spec.model_origin, spec.model_digest)
    if model is None:
        raise RunError(f"model: expected digest {spec.model_digest[:12]} in {spec.model_folder} or by "
                       f"{spec.model_origin!r}, found none: it was changed after the run began, or is not on this "
                       "machine. Give it by a URI that all machines see, such as s3://...")
    with ThreadPoolExecutor(1) as meanwhile:
        kernels = meanwhile.submit(regions.warm)
        predictor = Predictor(model, spec.runtime, threads=spec.threads)
        kernels.result()
    return predictor


class Worker:
    """A model that was loaded once, and what it is used on. loaded: keeps the model for the next run."""

    def __init__(self, spec: WorkerSpec, loaded: LoadedOnce | None = None) -> None:
        self._folder = RunFolder(store_of(spec.out_uri).folder(spec.out_uri))
        self._loaded, self._stays = loaded or LoadedOnce(), loaded is not None
        self._predictor = self._loaded.predictor(spec)
        self._limits = ReadLimits(decode_bytes=spec.decode_limit_bytes)
        self._lanes = spec.lanes

    def pull(self, claims: Claims) -> None:
        """Works until there is nothing left to claim; where the run cannot go on, says so to `claims` and returns."""
        _Pull(self, claims).run()
        if not self._stays:
            self._loaded.close()

    @property
    def folder(self) -> RunFolder:
        return self._folder

    @property
    def lanes(self) -> int:
        """Images in work at the same time."""
        return self._lanes

    def rows_of(self, result: ImageResult) -> UnitRows:
        """What an image's result adds to the parts."""
        return unit_rows(result, model=self._predictor.model.name, model_digest=self._predictor.model.digest)

    def work_unit(self, unit: Unit, ahead: Future[_Opened] | None = None) -> ImageResult:
        """One image, opened and segmented; whatever goes wrong is its own failed row.

        ahead: the image as it is being opened by another thread.

        Raises StoreError where it is the store that fails and not the image.
        """
        watch = Stopwatch()
        try:
            found_open = ahead.result() if ahead is not None else _open(unit)
            begun = time.perf_counter()
            with opened(found_open.blob, self._limits) as source:
                watch.add("read", found_open.seconds + time.perf_counter() - begun)
                found = segment_source(source, self._predictor, watch)
        except ImageError as error:
            return _failed(unit, error.kind, str(error), watch.seconds)
        except MemoryError:
            return _failed(unit, ImageErrorKind.TOO_LARGE, "expected an image that fits in memory, memory ran out",
                           watch.seconds)
        except ConfigError:  # of the store, or of a plugin: no fault of the image
            raise
        except Exception as error:  # the run goes on whatever one image does; the log keeps the trace
            log.exception("image failed by a fault of ours", extra={"image_id": unit.ref.image_id})
            return _failed(unit, ImageErrorKind.INTERNAL, f"{type(error).__name__}: {error}", watch.seconds)
        status = ImageStatus.DONE if found.candidates else ImageStatus.EMPTY
        return ImageResult(unit.ref, status, found, None, None, watch.seconds)


@dataclass(frozen=True, slots=True)
class _Opened:
    blob: Blob
    seconds: float


def _open(unit: Unit) -> _Opened:
    begun = time.perf_counter()
    blob = store_of(unit.ref.uri).open(unit.ref)
    return _Opened(blob, time.perf_counter() - begun)


@dataclass(slots=True)
class _Shard:
    """A shard in hand: the rows that are there, and how many images are not yet ended."""

    task: Task
    units: tuple[Unit, ...]
    replacing: str | None  # the version of the part that is replaced
    rows: dict[int, UnitRows] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        return len(self.rows) == len(self.units)


class _Pull:
    """One worker's way through its shards."""

    def __init__(self, worker: Worker, claims: Claims) -> None:
        self._worker = worker
        self._claims = claims
        self._window = _Window(worker.lanes)
        self._hands = threading.Semaphore(_IN_HAND)
        self._lanes = ThreadPoolExecutor(worker.lanes, thread_name_prefix="lane")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="read")
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._guard = threading.Lock()
        self._failed = False

    def run(self) -> None:
        try:
            while self._hands.acquire() and not self._failed and (task := self._claims.next()) is not None:
                self._take_up(task)
        except Exception as error:
            self._give_up(error)
        finally:
            self._readers.shutdown(cancel_futures=self._failed)
            self._lanes.shutdown(cancel_futures=self._failed)
            self._publisher.shutdown()

    def _take_up(self, task: Task) -> None:
        if task.alone:  # nothing else may be in work: whatever kills this process then, it was that image
            self._window.wait_until_empty()
        shard = self._shard(task)
        wanted = [unit for unit in shard.units if unit.ordinal not in shard.rows]
        if task.alone:
            for unit in sorted(wanted, key=lambda unit: (unit.ordinal not in task.suspects, unit.ordinal)):
                self._work(shard, unit, None)
        for unit in () if task.alone else wanted:
            in_flight = store_of(unit.ref.uri).in_flight
            self._window.enter(unit.ref.size_bytes, in_flight)
            ahead = self._readers.submit(self._open_ahead, unit) if in_flight > 1 else None
            self._lanes.submit(self._in_lane, shard, unit, ahead)
        if not wanted:
            self._publish(shard)

    def _shard(self, task: Task) -> _Shard:
        folder = self._worker.folder
        planned = folder.planned(task.shard)
        if planned is None:
            raise RunError(f"shard {task.shard}: expected it in the plan, it is not there")
        replacing = folder.tag(task.shard) if task.replace else None
        kept = folder.kept_rows(task.shard) if task.replace else [None] * len(planned.units)
        return _Shard(task, planned.units, replacing, {
            unit.ordinal: row for unit, row in zip(planned.units, kept, strict=True) if row is not None})

    def _open_ahead(self, unit: Unit) -> _Opened:
        found = _open(unit)
        self._window.opened(found.seconds)
        return found

    def _in_lane(self, shard: _Shard, unit: Unit, ahead: Future[_Opened] | None) -> None:
        try:
            self._work(shard, unit, ahead)
        except Exception as error:
            self._give_up(error)
        finally:
            self._window.leave(unit.ref.size_bytes)

    def _work(self, shard: _Shard, unit: Unit, ahead: Future[_Opened] | None) -> None:
        why = shard.task.quarantined.get(unit.ordinal)
        if why is not None:
            result = ImageResult(unit.ref, ImageStatus.QUARANTINED, None, ImageErrorKind.CRASHED, why, {})
        else:
            self._claims.started(shard.task, unit.ordinal)
            with logs.bound(shard=shard.task.shard, image_id=unit.ref.image_id):
                result = self._worker.work_unit(unit, ahead)
                if result.status is ImageStatus.FAILED:
                    log.info("image failed", extra={"kind": result.error_kind})
        rows = self._worker.rows_of(result)
        self._claims.finished(shard.task, unit.ordinal, result.status)
        with self._guard:
            shard.rows[unit.ordinal] = rows
            complete = shard.is_complete
        if complete:
            self._publisher.submit(self._publish, shard)

    def _publish(self, shard: _Shard) -> None:
        task = shard.task
        try:
            rows = [shard.rows[unit.ordinal] for unit in shard.units]
            self._worker.folder.publish(task.shard, rows, replacing=shard.replacing)
            self._claims.published(task)
        except OSError as error:
            self._give_up(RunError(f"OUT: shard {task.shard} could not be written: {error.strerror or error}. What is "
                                   "published is kept; make room or give back access, then run the same command again."))
        except Exception as error:
            self._give_up(error)
        finally:
            self._hands.release()

    def _give_up(self, error: Exception) -> None:
        """Tells that the run cannot go on; what is in work is let go."""
        if self._failed:
            return
        self._failed = True
        if isinstance(error, (RunError, ConfigError)):
            self._claims.fatal(str(error))
        else:
            log.exception("worker failed", exc_info=error)
            self._claims.fatal(f"unexpected {type(error).__name__} in a worker: {error}")
        self._hands.release()


class _Window:
    """How many images may be in work at once: those in the lanes, and as many opened ahead as opening needs to hide.

    While one is being opened the lanes get through `seconds to open / seconds between two that end` images; four times
    that covers a new shard's first look at the plan too.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._changed = threading.Condition()
        self._count = 0
        self._bytes = 0
        self._open_s = self._pace_s = 0.0
        self._left_at: float | None = None

    def enter(self, size_bytes: int, in_flight: int) -> None:
        """Waits until there is room for one more."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(size_bytes, in_flight))
            self._count += 1
            self._bytes += size_bytes

    def _has_room(self, size_bytes: int, in_flight: int) -> bool:
        if self._count < self._lanes:
            return True
        if in_flight <= 1 or self._bytes + size_bytes > _AHEAD_BYTES:
            return False
        ahead = math.ceil(4 * self._open_s / self._pace_s) if self._pace_s else in_flight
        return self._count < self._lanes + min(max(ahead, 1), in_flight)

    def opened(self, seconds: float) -> None:
        with self._changed:
            self._open_s = _smoothed(self._open_s, seconds)

    def leave(self, size_bytes: int) -> None:
        with self._changed:
            now = time.monotonic()
            if self._left_at is not None:
                self._pace_s = _smoothed(self._pace_s, now - self._left_at)
            self._left_at = now
            self._count -= 1
            self._bytes -= size_bytes
            self._changed.notify_all()

    def wait_until_empty(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0)


def _smoothed(before: float, now: float) -> float:
    return now if before == 0.0 else 0.9 * before + 0.1 * now


def _failed(unit: Unit, kind: ImageErrorKind, message: str, seconds: Mapping[str, float]) -> ImageResult:
    return ImageResult(unit.ref, ImageStatus.FAILED, None, kind, message, seconds)
