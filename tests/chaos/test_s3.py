"""From one bucket of a real S3 server to another, in a bad network, by Ray, with kills: a run ends like a clean one."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.chaos.conftest import BAD, Storms
from tests.chaos.family import Victim
from tests.chaos.killing import Kill, Point
from tests.chaos.network import Network, bad_network, until
from tests.chaos.outs import NONE, S3Out, differences
from tests.chaos.proxy import Harm, Weather
from tests.conftest import Program
from tests.s3_servers import S3Server, seaweedfs
from tests.scenes import write_scenes

BUCKET, RESULTS = "pictures", "results"
IMAGES = 40
COMMAND = ("--model", "bright", "--shard-size", "2", "--threads", "1", "--workers", "2", "--out")


@dataclass(frozen=True, slots=True)
class Pictures:
    """A bucket of images, and another one for OUTs."""

    server: S3Server
    images: tuple[str, ...]

    @property
    def uri(self) -> str:
        return f"s3://{BUCKET}/in"

    def through(self, network: Network) -> dict[str, str]:
        """The environment of a program that reaches the server through the network alone."""
        return replace(self.server, url=network.endpoint).environment

    def out(self, name: str) -> S3Out:
        return S3Out(self.server.client(), RESULTS, name)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pictures]:
    paths = write_scenes(tmp_path_factory.mktemp("pictures"), IMAGES)
    with seaweedfs(tmp_path_factory.mktemp("weed")) as server:
        client = server.client()
        for bucket in (BUCKET, RESULTS):
            client.create_bucket(Bucket=bucket)
        for path in paths:
            client.put_object(Bucket=BUCKET, Key=f"in/{path.name}", Body=path.read_bytes())
        yield Pictures(server, tuple(path.name for path in paths))


@pytest.fixture(scope="module")
def network(pictures: Pictures) -> Iterator[Network]:
    with bad_network(pictures.server.url, seed=5) as network:
        yield network


@pytest.fixture
def clean(segsvc: Program, pictures: Pictures) -> S3Out:
    """A run that nothing disturbed; one for all tests of this file."""
    out = pictures.out("clean")
    if not out.names():
        answer = segsvc("run", pictures.uri, *COMMAND, out.uri, environment=pictures.server.environment)
        assert answer.code == 0, answer.stderr
    return out


def test_a_bad_network_and_kills_change_nothing_in_what_a_run_publishes(
        storms: Storms, pictures: Pictures, clean: S3Out, network: Network) -> None:
    out = pictures.out("stormy")
    network.set(BAD)
    before = network.harmed("GET"), network.harmed("PUT")
    kills = [Kill(Victim.WORKER, Point.PARTS), Kill(Victim.DRIVER, Point.BETWEEN)]
    story = storms.over(pictures.uri, *COMMAND, out.uri, out=out,
                        environment=pictures.through(network)).run(kills)
    assert len(story.kills) == len(kills)
    assert differences(out, clean, images=pictures.images) == NONE
    assert network.harmed("GET") > before[0]
    assert network.harmed("PUT") > before[1]


def test_puts_whose_answer_is_lost_and_puts_of_the_dead_that_arrive_late_do_no_harm(
        storms: Storms, pictures: Pictures, clean: S3Out, network: Network) -> None:
    out = pictures.out("late")
    network.set(Weather(harms={Harm.LOSE: 1.0}, only="^PUT .*(part-|spec.json)", first=1, hold="PUT .*/images/part-",
                        hold_most=1))
    lost = network.did.get("PUT lose", 0)
    storm = storms.over(pictures.uri, *COMMAND, out.uri, out=out,
                        environment=pictures.through(network))
    storm.start()
    until(lambda: bool(network.held), "a shard to be committed")
    late = network.held
    storm.kill()
    storm.run([])  # the shard is done again while the commit of the dead still waits
    assert network.held == late
    carried_out = network.did["PUT asked"]
    network.set(Weather())
    until(lambda: not network.held, "the late commit to be carried out")
    assert network.did["PUT asked"] == carried_out
    assert network.did["PUT lose"] - lost >= IMAGES // 2 * 3  # plan, candidates and images of each shard
    assert differences(out, clean, images=pictures.images) == NONE


def test_an_object_that_is_replaced_between_listing_and_reading_is_a_failed_row_that_says_so(
        segsvc: Program, pictures: Pictures, network: Network, tmp_path: Path) -> None:
    client = pictures.server.client()
    images = write_scenes(tmp_path / "in", 4, first_seed=100)
    for path in images:
        client.put_object(Bucket=BUCKET, Key=f"replaced/{path.name}", Body=path.read_bytes())
    network.set(Weather(hold=r"GET .*/replaced/scene-00002\.png"))
    out = pictures.out("replaced-out")
    process = segsvc.start_anew("run", f"s3://{BUCKET}/replaced", *COMMAND, out.uri,
                                environment=pictures.through(network))
    try:
        until(lambda: bool(network.held), "the run to ask for the image")
        client.put_object(Bucket=BUCKET, Key="replaced/scene-00002.png", Body=images[0].read_bytes())
        network.set(Weather())
        _, stderr = process.communicate(timeout=100)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 3, stderr
    failed = [json.loads(line) for line in out.read("failures.jsonl").decode().splitlines()]
    assert [(row["image_uri"], row["status"], row["error_kind"]) for row in failed] == [
        (f"s3://{BUCKET}/replaced/scene-00002.png", "failed", "changed")]
    assert json.loads(out.read("run.json"))["images"]["done"] == 3


def test_a_run_by_ray_that_loses_a_worker_and_its_node_publishes_what_an_inline_run_does(
        storms: Storms, pictures: Pictures, clean: S3Out) -> None:
    out = pictures.out("ray")
    kills = [Kill(Victim.WORKER, Point.PARTS), Kill(Victim.RAYLET, Point.PARTS)]
    story = storms.over(pictures.uri, *COMMAND, out.uri, "--executor", "ray", out=out,
                        environment=pictures.server.environment).run(kills)
    assert [kill.victim for kill in story.kills] == [kill.victim for kill in kills]
    assert story.starts == 1 + len(story.said)  # it was done before Ray saw its node dead, or said so and ended with 1
    assert differences(out, clean, images=pictures.images) == NONE
    assert json.loads(out.read("run.json"))["attempt"] == story.starts


def test_two_runs_on_one_out_in_a_bucket_at_once_do_no_harm(segsvc: Program, pictures: Pictures, clean: S3Out) -> None:
    out = pictures.out("both")
    both = [segsvc.start_anew("run", pictures.uri, *COMMAND, out.uri, environment=pictures.server.environment)
            for _ in range(2)]
    said = [process.communicate(timeout=100)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert differences(out, clean, images=pictures.images) == NONE
    assert json.loads(out.read("run.json"))["images"]["done"] == IMAGES


def test_a_folder_and_a_bucket_give_the_same_but_for_where_the_images_are(
        segsvc: Program, pictures: Pictures, clean: S3Out) -> None:
    write_scenes(segsvc.folder / "in", IMAGES)
    answer = segsvc("run", "in", *COMMAND, "out")
    assert answer.code == 0, answer.stderr
    place = {"plan": {"image_id", "image_uri", "image_version"}, "images": {"image_id", "image_uri", "image_version"},
             "candidates": {"candidate_id", "image_id", "image_uri", "image_version"}}
    for kind, named_by_place in place.items():
        for number in range(IMAGES // 2):
            name = f"{kind}/part-{number:05d}.parquet"
            here = pq.read_table(segsvc.folder / "out" / name)
            there = pq.read_table(io.BytesIO(clean.read(name)))
            columns = [column for column in here.schema.names if column not in named_by_place]
            assert here.select(columns).to_pylist() == there.select(columns).to_pylist()
            assert not set(here["image_uri"].to_pylist()) & set(there["image_uri"].to_pylist())
