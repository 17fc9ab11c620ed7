"""A run whose shards are worked on in stretches, each by itself, ends like one that was done in one go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from segsvc.asking import Asked, Place, request_of
from segsvc.claims import Desk, WorkerSpec
from segsvc.documents import RunDocument, RunState
from segsvc.errors import ConfigError
from segsvc.processes import Crew, Processes
from segsvc.results import RunFolder
from segsvc.runner import Executor, Progress, Run, RunRequest
from segsvc.settings import settings
from segsvc.stores import store_of
from segsvc.stretch import Stretch, work_on
from tests.chaos.outs import NONE, FileOut, differences, numbers
from tests.scenes import write_scenes

CREW = Crew()


@pytest.fixture(scope="module", autouse=True)
def crew() -> Iterator[None]:
    yield
    CREW.close()


def processes(desk: Desk, spec: WorkerSpec, workers: int) -> Executor:
    return Processes(desk, spec, workers=workers, crew=CREW)


def ignored(progress: Progress) -> None:
    assert progress.ended <= progress.planned


def asked(folder: Path, out: str) -> RunRequest:
    return request_of(Asked(input=str(folder / "in"), model="bright", out=str(folder / out), flag_at=0.5, shard_size=2,
                            workers=1, threads=1), Place(), lambda _: None)


def executed(request: RunRequest) -> RunDocument:
    return Run(request, settings(), processes).execute(ignored)


@pytest.fixture
def folder(tmp_path: Path, in_process: Callable[[], None]) -> Path:
    write_scenes(tmp_path / "in", 13)  # seven shards of two, the last one short
    return tmp_path


def test_a_run_in_stretches_ends_like_one_in_one_go(folder: Path) -> None:
    clean = executed(asked(folder, "clean"))
    request, out = asked(folder, "out"), FileOut(folder / "out")
    begun = executed(replace(request, upto=3))
    assert (begun.state, numbers(out, "images"), numbers(out, "plan")) == (RunState.RUNNING, {0, 1, 2}, set(range(7)))
    work_on(Stretch(5, 7), request, settings(), processes, ignored)
    assert numbers(out, "images") == {0, 1, 2, 5, 6}
    work_on(Stretch(3, 5), request, settings(), processes, ignored)
    work_on(Stretch(3, 5), request, settings(), processes, ignored)  # of which nothing is left
    ended = executed(replace(request, takes_to_end=True))
    assert (ended.state, ended.attempt, ended.started_at) == (RunState.SUCCEEDED, 1, begun.started_at)
    assert (ended.images, ended.candidates) == (clean.images, clean.candidates)
    assert differences(out, FileOut(folder / "clean"), images=[path.name for path in (folder / "in").iterdir()]) == NONE


def test_what_is_left_of_a_run_in_stretches_is_done_at_its_end(folder: Path) -> None:
    request, out = asked(folder, "out"), FileOut(folder / "out")
    executed(replace(request, upto=2))
    again = executed(replace(request, upto=2))  # a new attempt, of which the first stretch is there
    assert (again.state, again.attempt, numbers(out, "images")) == (RunState.RUNNING, 2, {0, 1})
    ended = executed(replace(request, takes_to_end=True))
    assert (ended.state, ended.attempt, ended.images.done) == (RunState.SUCCEEDED, 2, 13)
    assert executed(replace(request, upto=2)).state is RunState.SUCCEEDED  # nothing is left to others


def test_a_short_run_leaves_nothing_to_others(folder: Path) -> None:
    assert executed(replace(asked(folder, "out"), upto=7)).state is RunState.SUCCEEDED


def test_a_stretch_of_another_run_or_beyond_the_plan_is_refused(folder: Path) -> None:
    request = asked(folder, "out")
    with pytest.raises(ConfigError, match="without spec"):
        work_on(Stretch(1, 2), request, settings(), processes, ignored)
    executed(replace(request, upto=1))
    with pytest.raises(ConfigError, match="it holds another"):
        work_on(Stretch(1, 2), replace(request, shard_size=3), settings(), processes, ignored)
    with pytest.raises(ConfigError, match="expected shard 7 in the plan"):
        work_on(Stretch(1, 8), request, settings(), processes, ignored)
    assert RunFolder(store_of(request.out_uri).folder(request.out_uri)).numbers("images") == [0]
