"""The long form: many kills, drawn from seeds, over executors and places. `make chaos`; CHAOS_KILLS says how many.

Ten kills a run of 300 images; the table (CHAOS_TABLE, build/chaos.json) has a row for each run, and sums them up.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.cluster import ray_cluster
from tests.chaos.conftest import BAD, Storms
from tests.chaos.family import Victim
from tests.chaos.killing import Fault, Story, drawn
from tests.chaos.network import Network, bad_network
from tests.chaos.outs import NONE, Differences, FileOut, Out, S3Out, differences
from tests.conftest import Program
from tests.s3_servers import S3Server, seaweedfs
from tests.scenes import write_scenes

KILLS = int(os.environ.get("CHAOS_KILLS", "0"))
TABLE = Path(os.environ.get("CHAOS_TABLE", "build/chaos.json"))
IMAGES, KILLS_A_RUN = 300, 10
BUCKET = "pictures"
OPTIONS = ("--model", "bright", "--shard-size", "3", "--threads", "1", "--workers", "2")
pytestmark = [pytest.mark.skipif(not KILLS, reason="the long form: CHAOS_KILLS says how many kills"),
              pytest.mark.timeout(1200)]


class Way(StrEnum):
    """An executor, and from where to where."""

    FOLDER = "inline, folder to folder"
    BUCKET = "inline, bucket to bucket"
    BAD_NETWORK = "inline, bucket to bucket, bad network"
    RAY = "ray that the run starts, bucket to bucket"
    CLUSTER = "ray that was there, bucket to bucket, bad network"


INLINE_VICTIMS = Victim.DRIVER, Victim.WORKER
RAY_VICTIMS = Victim.DRIVER, Victim.WORKER, Victim.WORKER, Victim.LINK, Victim.RAYLET, Victim.HEAD
TURNS = (Way.FOLDER, Way.BUCKET, Way.BAD_NETWORK, Way.RAY, Way.FOLDER, Way.BUCKET, Way.BAD_NETWORK, Way.CLUSTER)
RUNS = [(seed, TURNS[seed % len(TURNS)]) for seed in range(-(-KILLS // KILLS_A_RUN))]


@dataclass(slots=True)
class Row:
    """One run: its kills as `victim at point`, and what was wrong in the end."""

    way: Way
    seed: int
    kills: dict[str, int] = field(default_factory=dict)
    runs: int = 0
    starts: int = 0
    requests_harmed: int = 0
    seconds: float = 0.0
    lost: int = 0
    doubled: int = 0
    not_ended: int = 0
    unlike: int = 0
    otherwise: list[str] = field(default_factory=list)
    ended_with_1: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pictures:
    """The same images in a folder and in a bucket."""

    names: tuple[str, ...]
    folder: Path
    server: S3Server

    def out(self, way: Way, name: str) -> Out:
        if way is Way.FOLDER:
            return FileOut(self.folder.parent / name)
        return S3Out(self.server.client(), BUCKET, name)

    def words(self, way: Way, name: str) -> list[str]:
        """INPUT and OUT of the command."""
        if way is Way.FOLDER:
            return [str(self.folder), "--out", str(self.folder.parent / name)]
        return [f"s3://{BUCKET}/in", "--out", f"s3://{BUCKET}/{name}"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pictures]:
    folder = tmp_path_factory.mktemp("pictures") / "in"
    paths = write_scenes(folder, IMAGES)
    with seaweedfs(tmp_path_factory.mktemp("weed")) as server:
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        for path in paths:
            client.put_object(Bucket=BUCKET, Key=f"in/{path.name}", Body=path.read_bytes())
        yield Pictures(tuple(path.name for path in paths), folder, server)


@pytest.fixture(scope="module")
def table() -> list[Row]:
    return []


def _tabulate(rows: list[Row]) -> None:
    """Writes the table of the runs so far: what breaks off leaves what was seen."""
    kills, by_victim, by_way = Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        kills.update(row.kills)
        by_way[row.way] += sum(row.kills.values())
        for name, count in row.kills.items():
            by_victim[name.split()[0]] += count
    sums = {name: sum(getattr(row, name) for row in rows) for name in ("lost", "doubled", "not_ended", "unlike")}
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(json.dumps(
        {"kills": kills.total(), "images_a_run": IMAGES, "runs": len(rows), **sums, "kills_by_victim": by_victim,
         "kills_by_point": kills, "kills_by_way": by_way, "rows": [asdict(row) for row in rows]}, indent=2) + "\n")


def clean_out(pictures: Pictures, segsvc: Program, way: Way) -> Out:
    """What an inline run makes that nothing disturbed; made once for a place."""
    out = pictures.out(way, "clean")
    if not out.names():
        answer = segsvc("run", *pictures.words(way, "clean"), *OPTIONS, environment=pictures.server.environment)
        assert answer.code == 0, answer.stderr
    return out


@pytest.mark.parametrize(("seed", "way"), RUNS)
def test_a_run_that_is_killed_ten_times_ends_like_a_clean_one(
        segsvc: Program, storms: Storms, pictures: Pictures, table: list[Row], seed: int, way: Way) -> None:
    clean, name, row = clean_out(pictures, segsvc, way), f"out-{seed}", Row(way, seed)
    table.append(row)
    begun = time.monotonic()
    with ExitStack() as stack:
        stack.callback(_tabulate, table)
        environment = pictures.server.environment
        network: Network | None = None
        if way in (Way.BAD_NETWORK, Way.CLUSTER):
            network = stack.enter_context(bad_network(pictures.server.url, seed=seed))
            network.set(BAD)
            environment = {**environment, "AWS_ENDPOINT_URL": network.endpoint}
        more: dict[str, Any] = {"seed": seed}
        options = [*OPTIONS]
        by_ray = way in (Way.RAY, Way.CLUSTER)
        if by_ray:
            options += ["--executor", "ray"]
        if way is Way.CLUSTER:
            cluster = stack.enter_context(ray_cluster({**segsvc.environment, **environment}))
            environment = {**environment, **cluster.access}
            more |= {"cluster": cluster.family, "mend": cluster.mend}
        kills = drawn(seed, KILLS_A_RUN, victims=RAY_VICTIMS if by_ray else INLINE_VICTIMS, within_s=6.0)
        while kills:  # a run that is done before all have hit is followed by another
            row.runs += 1
            assert row.runs <= KILLS_A_RUN, "runs end before their kills"
            out = pictures.out(way, f"{name}-{row.runs}")
            words = [*pictures.words(way, f"{name}-{row.runs}"), *options]
            storm = storms.over(*words, out=out, environment=environment, **more)
            try:
                storm.run(kills)
            except Fault as fault:
                row.not_ended += 1
                row.otherwise.append(str(fault))
                raise
            finally:
                _write_down(row, storm.story, network, time.monotonic() - begun)
            found = differences(out, clean, images=pictures.names)
            _note(row, found)
            assert found == NONE
            kills = kills[len(storm.story.kills):]


def _write_down(row: Row, story: Story, network: Network | None, seconds: float) -> None:
    """What happened, whatever became of the run."""
    row.kills = dict(Counter(row.kills) + Counter(f"{kill.victim} at {kill.point}" for kill in story.kills))
    row.starts += story.starts
    row.ended_with_1 += story.said
    row.seconds = round(seconds, 1)
    row.requests_harmed = network.harmed() if network is not None else 0


def _note(row: Row, found: Differences) -> None:
    row.lost += len(found.lost)
    row.doubled += len(found.doubled)
    row.unlike += len(found.unlike)
    row.otherwise += [*found.left, *found.said]
