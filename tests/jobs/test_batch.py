"""What a job of a cluster says of its part of a run, without a cluster: `jobs.batch` itself, its workers on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobs import batch
from segsvc.asking import Place, Say
from segsvc.claims import Desk, WorkerSpec
from segsvc.processes import Crew, Processes
from segsvc.runner import Executor
from tests.scenes import write_scenes


class Here(Place):
    """This machine, as a place that `jobs.batch` takes."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew

    def executor(self, desk: Desk, spec: WorkerSpec, workers: int) -> Executor:
        return Processes(desk, spec, workers=workers, crew=self._crew)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, in_process: Callable[[], None]) -> Iterator[None]:
    crew = Crew()

    @contextmanager
    def connected(say: Say) -> Iterator[Here]:
        yield Here(crew)

    monkeypatch.setattr(batch, "connected", connected)
    monkeypatch.setattr(batch.interrupts, "heed", lambda: None)
    yield
    crew.close()


def test_what_failed_is_told_by_the_job_that_ends_the_run_alone(
        here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scenes(tmp_path / "in", 7)
    (tmp_path / "in" / "scene-00000.png").write_bytes(b"no image")
    spec = json.dumps({"input": str(tmp_path / "in"), "model": "bright", "out": str(tmp_path / "out"), "shard_size": 2,
                       "workers": 1, "threads": 1})

    def did(*part: str) -> tuple[int, str | None]:
        code = batch.main([spec, *part])
        said = capsys.readouterr().out
        return code, json.loads(said)["state"] if said else None

    assert did('{"beyond": 1}') == (0, "running")
    document = tmp_path / "out" / "run.json"
    document.write_text(document.read_text().replace('"failed": 0', '"failed": 1'))
    assert did('{"beyond": 1}') == (0, "running")  # of an attempt before it, an image has failed
    assert did('{"first": 1, "beyond": 4, "share": 2}') == (0, None)
    assert did('{"takes_to_end": true}') == (3, "succeeded")
    assert did() == (3, "succeeded")


def test_a_part_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    assert batch.main(['{"input": "a", "model": "b", "out": "c"}', '{"beyond": 0}']) == 2
    assert "PART: beyond:" in caplog.text
    assert batch.main([]) == 2
    assert "expected one argument, SPEC" in caplog.text
