"""One run: claim OUT -> plan -> pull loop (shard by shard, work, publish) -> reconcile. The executor is an argument."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from segsvc import clock
from segsvc.card import RunSpec
from segsvc.claims import Desk, WorkerSpec
from segsvc.documents import RunDocument, RunState
from segsvc.errors import ConfigError, RunError, SegsvcError
from segsvc.models.library import Model
from segsvc.operating_point import OperatingPoint
from segsvc.pace import Pace
from segsvc.plan import Input, Shard, shards
from segsvc.reach import Reach
from segsvc.readahead import in_order
from segsvc.results import RunFolder, part_name, without_gap
from segsvc.settings import Settings
from segsvc.stores import store_of
from segsvc.summary import Attempt, begun, failures, left_document, summarise, unchanged
from segsvc.types import ImageStatus, Runtime

DEFAULT_SHARD_SIZE = 64
_TICK_S = 0.05
_WAIT_FOR_OUT_S = 0.5  # how often an OUT that another run works on is looked at
_BACKLOG = 256  # shards that wait at the desk: the rest of the plan waits in its parts


class ExecutorName(StrEnum):
    """Where the work is done."""

    INLINE = "inline"  # worker processes on this machine
    RAY = "ray"  # actors of a Ray cluster


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a user asked for. `point` is the operating point for the bands: the model's own, by hand, or None."""

    source: Input
    model: Model
    runtime: Runtime
    out_uri: str
    point: OperatingPoint | None
    point_was_asked: bool = False
    limit: int | None = None
    shard_size: int = DEFAULT_SHARD_SIZE
    workers: int = 1
    threads: int = 1
    retry_failed: bool = False
    reach: Reach | None = None  # what INPUT may name; None: anything
    upto: int | None = None  # shards from this one on are left to others; the plan is made whole all the same
    takes_to_end: bool = False  # others have worked on this attempt; what is left of it is done here

    @property
    def spec(self) -> RunSpec:
        return RunSpec(input=self.source.uri, limit=self.limit, shard_size=self.shard_size, model=self.model.name,
                       model_digest=self.model.digest, runtime=self.runtime)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: images ended of those planned so far, and whether all are planned.

    statuses: of images that ended in this attempt. waits: another run works on this OUT; this one goes on when that one is
    done or dead.
    """

    ended: int
    planned: int
    all_planned: bool
    failed: int
    eta_s: float | None
    waits: bool = False
    statuses: Mapping[ImageStatus, int] = field(default_factory=dict)


class Executor(Protocol):
    """Runs workers until the desk is done; `each_tick` is called often, in the caller's thread."""

    def run(self, each_tick: Callable[[], None]) -> None: ...


ExecutorOf = Callable[[Desk, WorkerSpec, int], Executor]  # the executor for a desk, with so many workers


@dataclass(slots=True)
class _Planning:
    """What the planning thread has told so far; read by the run's own thread."""

    first_open: int  # the first shard that is not yet handed to the desk
    last_planned: int = -1
    units: int = 0
    complete: bool = False
    error: BaseException | None = None


class Run:
    """A run of one OUT, from its first line of spec.json to its report."""

    def __init__(self, request: RunRequest, settings: Settings, executor_of: ExecutorOf) -> None:
        self._request = request
        self._settings = settings
        self._executor_of = executor_of
        self._folder = RunFolder(store_of(request.out_uri).folder(request.out_uri))
        self._stop = threading.Event()
        self._planner = threading.Thread(target=self._plan, name="plan", daemon=True)
        self._planning = _Planning(first_open=0)

    def finished_images(self) -> int:
        """How many images are finished and kept in OUT."""
        return self._images_in(set(self._folder.numbers("images")))

    def execute(self, on_progress: Callable[[Progress], None]) -> RunDocument:
        """Begins or resumes the run and works until it is done.

        Where shards are left to others, its run.json says RUNNING: it is theirs to do, and then to be taken to its end.

        Raises ConfigError before any work where OUT or INPUT do not allow it, RunError where the run cannot go on;
        then, as after KeyboardInterrupt, what is published is kept and run.json says where it stands.
        """
        self._begin()
        self._wait_for_out(on_progress)
        try:
            return self._execute(on_progress)
        finally:
            self._folder.release()

    def _execute(self, on_progress: Callable[[Progress], None]) -> RunDocument:
        self._put_in_force()
        attempt = self._attempt(now := clock.utc_now())
        began = time.monotonic() - max(0.0, (now - attempt.started_at).total_seconds())

        def document(state: RunState, error: str | None = None) -> RunDocument:
            ended = attempt.ended(clock.utc_now(), time.monotonic() - began)
            return summarise(self._folder, ended, state=state, error=error)

        try:
            self._save(going_on := begun(self._folder, attempt))
            worked, before = self._work(on_progress), attempt.before
            if self._request.upto is not None and self._is_left_to_others():
                return going_on
            finished = not worked and before is not None and before.state is RunState.SUCCEEDED
            done = unchanged(self._folder, before) if finished and before else document(RunState.SUCCEEDED)
            self._folder.tidy()  # workers that were killed while they wrote
            self._reconcile(done)
            self._save(done)
            self._folder.put("failures.jsonl", failures(self._folder, done.images))
            self._report(done)
        except KeyboardInterrupt:
            self._tidy_if_possible()
            self._save_if_possible(lambda: document(RunState.CANCELLED))
            raise
        except Exception as error:
            self._tidy_if_possible()
            why = str(error)
            if isinstance(error, OSError):
                why = f"OUT: {error.strerror or error}. What is published is kept; the same command goes on."
            self._save_if_possible(lambda: document(RunState.FAILED, why))
            if self._was_taken_away():
                why = f"OUT: {self._folder.uri} was taken away while the run went on. The same command begins it anew."
                raise RunError(why) from error
            if isinstance(error, (OSError, ConfigError)):  # OUT or INPUT were in order when the run began
                raise RunError(why) from error
            raise
        finally:
            self._stop.set()
            if self._planner.is_alive():  # a thread that is in native code when Python ends takes the process down
                self._planner.join()
        return done

    def _tidy_if_possible(self) -> None:
        """Removes what workers that were ended while they wrote have left; on a disk that is full it is room, too."""
        with suppress(OSError, SegsvcError):
            if self._folder.claim():  # what another run that took over writes is not ours to remove
                self._folder.tidy()

    def _report(self, done: RunDocument) -> None:
        from segsvc.run_report import write_run_report  # loads what draws: not before the workers have started

        write_run_report(self._folder, done)

    # -- begin -------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        request = self._request
        if not self._folder.numbers("plan"):
            first = next(self._shards(None), None)
            if first is None or not first.units:
                raise ConfigError(f"INPUT: expected at least one image, found none in {request.source.uri}"
                                  + _skipped_words(first))
        with _while_beginning(self._folder):
            self._folder.begin(request.spec)

    def _wait_for_out(self, on_progress: Callable[[Progress], None]) -> None:
        """Waits until this run alone may work on OUT."""
        while True:
            with _while_beginning(self._folder):
                if self._folder.claim():
                    return
            on_progress(Progress(0, 0, all_planned=False, failed=0, eta_s=None, waits=True))
            time.sleep(_WAIT_FOR_OUT_S)

    def _put_in_force(self) -> None:
        request = self._request
        with _while_beginning(self._folder):
            self._folder.tidy()
            there = self._folder.operating_points()
            wanted = request.point is not None and (request.point_was_asked or not there)
            if request.point is not None and wanted and not (there and request.point.says_as(there[-1])):
                self._folder.add_operating_point(_stamped(request.point))
            elif not there:
                self._folder.put_json("bands.json", {"operating_points": []})

    def _attempt(self, now: datetime) -> Attempt:
        before = left_document(self._folder)  # without one, the parts say what is done
        if self._request.takes_to_end and before is not None and before.state is RunState.RUNNING:
            return Attempt(number=before.attempt, created_at=before.created_at, started_at=before.started_at or now,
                           workers=before.workers, threads=before.threads, before=before)
        return Attempt(number=before.attempt + 1 if before else 1, created_at=before.created_at if before else now,
                       started_at=now, workers=self._request.workers, threads=self._request.threads, before=before)

    def _shards(self, after: Shard | None) -> Iterator[Shard]:
        request = self._request
        return shards(request.source, shard_size=request.shard_size, limit=request.limit, exclude=self._folder.uri,
                      after=after, reach=request.reach)

    # -- work --------------------------------------------------------------------------------------------------------

    def _work(self, on_progress: Callable[[Progress], None]) -> bool:
        """Works until every planned shard is published; whether there was anything to do."""
        desk = Desk(image_timeout_s=self._settings.image_timeout_s)
        published = set(self._folder.numbers("images"))
        again = self._to_retry(published)
        upto = self._request.upto if self._request.upto is not None and not again else None  # failed images are few
        already = self._images_in(published - again)
        self._planner.start()
        pace = Pace()

        def each_tick() -> None:
            planning = self._planning
            if planning.error is not None:
                raise planning.error
            if not self._folder.claim():
                raise RunError(f"OUT: another run has taken {self._folder.uri} over, as this one was not heard of for too "
                               "long. What is published is kept; the same command follows that run.")
            complete = planning.complete  # read before the shards: what follows it is final
            last = planning.last_planned if upto is None else min(planning.last_planned, upto - 1)
            while planning.first_open <= last and desk.backlog < _BACKLOG:
                shard = planning.first_open
                planning.first_open += 1
                if shard not in published:
                    desk.planned(shard)
                elif shard in again:
                    desk.planned(shard, replace=True)
            if planning.first_open > last and (complete or planning.first_open == upto):
                desk.complete()
            on_progress(Progress(already + desk.ended, planning.units, complete, desk.counted[ImageStatus.FAILED],
                                 pace.eta_s(desk.ended, planning.units - already), statuses=dict(desk.counted)))

        while not self._planning.complete and self._planning.last_planned < 0 and self._planning.error is None:
            time.sleep(0.005)
        each_tick()
        worked = not desk.is_done
        if worked:
            self._executor_of(desk, worker_spec(self._request, self._settings), self._request.workers).run(each_tick)
        if worked and again:
            self._folder.delete("retry.json")
        while not self._planning.complete:  # of the shards that are left to others
            each_tick()
            time.sleep(_TICK_S)
        return worked

    def _is_left_to_others(self) -> bool:
        """Whether shards of the plan, which is whole, are not published."""
        return len(self._folder.numbers("images")) <= self._planning.last_planned

    def _images_in(self, published: set[int]) -> int:
        """How many images those shards hold: all are full but the last one of a plan."""
        last = self._folder.last_planned()
        short = self._request.shard_size - len(last.units) if last is not None and last.number in published else 0
        return len(published) * self._request.shard_size - short

    def _to_retry(self, published: set[int]) -> set[int]:
        """Published shards whose failed images are taken up again: asked for, or begun by a run that was cut off."""
        marked = set((self._folder.read_json("retry.json") or {}).get("shards", [])) & published
        if self._request.retry_failed:
            numbers = sorted(published)
            unread = in_order(self._folder.unread, numbers, at_once=self._folder.in_flight)
            marked |= {number for number, count in zip(numbers, unread, strict=True) if count}
        if marked:
            self._folder.put_json("retry.json", {"shards": sorted(marked)})
        return marked

    def _plan(self) -> None:
        """Freezes the plan as the listing goes, after what is frozen already."""
        try:
            last = self._frozen()
            if last is not None:
                self._tell(last)
            if last is None or not last.is_last:
                for shard in in_order(self._freeze, self._shards(last), at_once=self._folder.in_flight):
                    if self._stop.is_set():
                        return
                    self._tell(shard)
        except BaseException as error:  # handed to the run's own thread, which raises it
            self._planning.error = error

    def _freeze(self, shard: Shard) -> Shard:
        self._folder.publish_plan(shard)
        return shard

    def _frozen(self) -> Shard | None:
        """The last shard of the plan so far. Parts are put several at once, so a kill may leave a gap: what lies beyond
        it was never worked on and is planned anew."""
        numbers = self._folder.numbers("plan")
        whole = without_gap(numbers)
        if any(number >= whole for number in self._folder.numbers("images")):
            raise RunError(f"{self._folder.uri}/plan: expected a part for every shard that is published, part {whole} is "
                           "missing")
        for number in numbers[whole:]:
            self._folder.delete(part_name("plan", number))
        return self._folder.planned(whole - 1) if whole else None

    def _tell(self, shard: Shard) -> None:
        planning = self._planning
        if shard.units:
            planning.units = shard.units[-1].ordinal + 1
        planning.last_planned = shard.number
        planning.complete = shard.is_last

    # -- end ---------------------------------------------------------------------------------------------------------

    def _reconcile(self, done: RunDocument) -> None:
        """Every listed image ended, exactly once. Raises RunError where not."""
        images = done.images
        ended = images.done + images.empty + images.failed + images.quarantined
        if ended != images.listed:
            raise RunError(f"expected {images.listed} images to end, got {ended}: parts were lost or added in "
                           f"{self._folder.uri}")

    def _save(self, document: RunDocument) -> None:
        self._folder.put_json("run.json", document.model_dump(mode="json"))

    def _was_taken_away(self) -> bool:
        try:
            return self._folder.read_json("spec.json") is None
        except (OSError, SegsvcError):  # it cannot be asked
            return False

    def _save_if_possible(self, document: Callable[[], RunDocument]) -> None:
        try:
            if not self._was_taken_away():  # nothing is put there again
                self._save(document())
        except (OSError, SegsvcError):  # OUT itself fails: the error that led here says so
            return


def worker_spec(request: RunRequest, settings: Settings) -> WorkerSpec:
    """What the workers of a run must know."""
    lanes = request.threads + settings.lanes_extra
    if request.runtime is Runtime.TORCH_CUDA:
        lanes = max(lanes, settings.gpu_lanes)
    return WorkerSpec(out_uri=request.out_uri, model_folder=str(request.model.folder), model_origin=request.model.origin,
                      model_digest=request.model.digest, runtime=request.runtime, threads=request.threads, lanes=lanes,
                      decode_limit_bytes=settings.decode_limit_bytes)


@contextmanager
def _while_beginning(folder: RunFolder) -> Iterator[None]:
    """Turns a disk's refusal into ConfigError: no work was begun."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"OUT: expected a folder that can be written, got {folder.uri}: {error.strerror or error}"
                          ) from error


def _stamped(point: OperatingPoint) -> OperatingPoint:
    """The point as it is put into force: a model's own has no time until then."""
    return point if point.set_at is not None else point.model_copy(update={"set_at": clock.utc_now()})


def _skipped_words(first: Shard | None) -> str:
    if first is None or not first.skipped:
        return ""
    counts = ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in sorted(first.skipped.items()))
    return f" ({counts})"
