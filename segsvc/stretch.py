"""A stretch of a run's shards, worked on apart from the rest.

The run's plan says what is in them, so it must reach as far. Parts are the same bytes whoever makes them, and appear whole:
whether somebody else works on the same shards is nothing that could harm. The run's own process alone claims OUT, says in
run.json where the run stands, and takes it to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from segsvc.claims import Desk
from segsvc.errors import ConfigError
from segsvc.pace import Pace
from segsvc.results import RunFolder
from segsvc.runner import ExecutorOf, Progress, RunRequest, worker_spec
from segsvc.settings import Settings
from segsvc.stores import store_of
from segsvc.types import ImageStatus


@dataclass(frozen=True, slots=True)
class Stretch:
    """The shards from `first` on, up to but without `beyond`."""

    first: int
    beyond: int


def work_on(stretch: Stretch, request: RunRequest, settings: Settings, executor_of: ExecutorOf,
            on_progress: Callable[[Progress], None]) -> None:
    """Works until all shards of the stretch are published; those that are already stay as they are.

    Raises ConfigError where OUT holds another run or a plan that does not reach so far, RunError where work cannot go on.
    """
    folder = RunFolder(store_of(request.out_uri).folder(request.out_uri))
    if folder.spec() != request.spec:
        raise ConfigError(f"OUT: expected the run that was begun in {folder.uri}, it holds another.")
    if folder.planned(stretch.beyond - 1) is None:
        raise ConfigError(f"OUT: expected shard {stretch.beyond - 1} in the plan of {folder.uri}, it does not reach so far.")
    published = set(folder.numbers("images"))
    todo = [number for number in range(stretch.first, stretch.beyond) if number not in published]
    desk = Desk(image_timeout_s=settings.image_timeout_s)
    for number in todo:
        desk.planned(number)
    desk.complete()
    most = len(todo) * request.shard_size
    pace = Pace()

    def each_tick() -> None:
        on_progress(Progress(desk.ended, most, all_planned=True, failed=desk.counted[ImageStatus.FAILED],
                             eta_s=pace.eta_s(desk.ended, most), statuses=dict(desk.counted)))

    if todo:
        executor_of(desk, worker_spec(request, settings), request.workers).run(each_tick)
