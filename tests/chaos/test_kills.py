"""From folder to folder on this machine: after kills, and on a disk that was full, nothing is lost, doubled or otherwise."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from segsvc.card import ModelCard
from tests.chaos.conftest import Storms
from tests.chaos.family import Victim
from tests.chaos.killing import Kill, Point
from tests.chaos.outs import NONE, Differences, FileOut, differences
from tests.conftest import Program
from tests.scenes import write_scenes

OPTIONS = ("--model", "bright", "--shard-size", "1", "--threads", "1", "--workers", "2", "--out")


IMAGES = 300  # and as many shards: enough that a fast machine is not done before it is killed


@dataclass(frozen=True, slots=True)
class Whole:
    """Images, and what a run over them publishes that nothing disturbs."""

    folder: Path
    images: tuple[str, ...]
    out: FileOut


@pytest.fixture(scope="module")
def whole(environment: dict[str, str], bright: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    images = write_scenes(folder / "in", IMAGES)
    answer = Program(environment, folder)("run", "in", *OPTIONS, "clean")
    assert answer.code == 0, answer.stderr
    return Whole(folder / "in", tuple(path.name for path in images), FileOut(folder / "clean"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that holds the plan and a part of what follows."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2400k", "tmpfs", place], capture_output=True, text=True,
                             check=False)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_run_whose_driver_and_workers_are_killed_at_named_points_ends_like_a_clean_one(
        storms: Storms, whole: Whole) -> None:
    out = FileOut(storms.program.folder / "out")
    kills = [Kill(Victim.DRIVER, Point.PLAN), Kill(Victim.WORKER, Point.BETWEEN), Kill(Victim.WORKER, Point.PARTS, more=2),
             Kill(Victim.DRIVER, Point.BETWEEN), Kill(Victim.WORKER, Point.WRITING)]
    story = storms.over(whole.folder, *OPTIONS, "out", out=out).run(kills)
    assert [kill.victim for kill in story.kills] == [kill.victim for kill in kills]
    assert differences(out, whole.out, images=whole.images) == NONE


def test_a_disk_that_fills_up_ends_the_run_with_1_and_with_room_it_goes_on(
        segsvc: Program, whole: Whole, small_disk: Path) -> None:
    out = FileOut(small_disk / "out")
    answer = segsvc("run", whole.folder, *OPTIONS, out.path)
    assert answer.code == 1, answer.stderr
    assert "No space left" in answer.stderr
    assert "the same command" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert 0 < len(out.names("images/")) < IMAGES
    assert not [name for name in out.names() if ".segsvc-tmp-" in name]
    subprocess.run(["mount", "-o", "remount,size=32m", small_disk], check=True)
    again = segsvc("run", whole.folder, *OPTIONS, out.path)
    assert again.code == 0, again.stderr
    assert differences(out, whole.out, images=whole.images) == NONE


def test_what_is_lost_doubled_or_otherwise_is_seen(whole: Whole, tmp_path: Path) -> None:
    other, images = tmp_path / "other", whole.images

    def copied(change: Callable[[], object]) -> Differences:
        shutil.copytree(whole.out.path, other)
        change()
        found = differences(FileOut(other), whole.out, images=images)
        shutil.rmtree(other)
        return found

    first, third = "images/part-00000.parquet", "images/part-00002.parquet"
    assert copied(lambda: None) == NONE
    lost = copied((other / first).unlink)
    assert (lost.lost, lost.unlike) == (images[:1], (first,))
    doubled = copied(lambda: shutil.copy(other / first, other / third))
    assert (len(doubled.doubled), doubled.lost, doubled.unlike) == (1, images[2:3], (third,))
    assert copied((other / "images" / ".segsvc-tmp-1").touch).left == ("images/.segsvc-tmp-1",)
    assert copied((other / "report.html").unlink).left == ("report.html",)
    assert copied(lambda: (other / "plan" / "part-00000.parquet").write_bytes(b"")).unlike == ("plan/part-00000.parquet",)
    assert copied(lambda: (other / "failures.jsonl").write_text("{}")).said == ("failures.jsonl",)
    running = whole.out.read("run.json").replace(b"succeeded", b"running")
    assert "state" in copied(lambda: (other / "run.json").write_bytes(running)).said[0]
