"""The commands on a run whose OUT is in a bucket: they do there what they do in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from segsvc.ledger import labelling
from segsvc.ledger.label_records import NewLabelling
from segsvc.ledger.opening import open_ledger
from segsvc.ledger.records import LOCAL
from tests.cli.test_calibrate import write_dots
from tests.conftest import Program
from tests.s3_servers import S3Server, seaweedfs
from tests.scenes import write_scenes

IN, OUT = "s3://pictures/in", "s3://pictures/out"
RUN = ("run", IN, "--model", "bright", "--out", OUT, "--shard-size", "2", "--workers", "1", "--threads", "1")
IMAGES = 5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweedfs(tmp_path_factory.mktemp("weed")) as server:
        client = server.client()
        client.create_bucket(Bucket="pictures")
        for path in write_scenes(tmp_path_factory.mktemp("scenes"), IMAGES):
            client.put_object(Bucket="pictures", Key=f"in/{path.name}", Body=path.read_bytes())
        client.put_object(Bucket="pictures", Key="in/zz-broken.png", Body=b"\x89PNG\r\n\x1a\nand no more")
        yield server


@pytest.fixture
def page(segsvc: Program, server: S3Server) -> bytes:
    """The report of a run that is done, but for one image; made once."""
    if "Contents" not in server.client().list_objects_v2(Bucket="pictures", Prefix="out/"):
        answer = segsvc(*RUN, environment=server.environment)
        assert answer.code == 3, answer.stderr
        assert f"report      {OUT}/report.html" in answer.stdout
    return body(server, "report.html")


def body(server: S3Server, name: str) -> bytes:
    found: bytes = server.client().get_object(Bucket="pictures", Key=f"out/{name}")["Body"].read()
    return found


def test_bands_are_put_in_force_and_the_report_says_so(segsvc: Program, server: S3Server, page: bytes) -> None:
    answer = segsvc("band", OUT, "--flag-at", "0.5", "--accept-at", "0.9", "--json", environment=server.environment)
    assert answer.code == 0, answer.stderr
    assert json.loads(body(server, "bands.json"))["operating_points"][-1]["classes"]["*"]["accept_at"] == 0.9
    assert body(server, "report.html") != page


def test_the_report_is_where_the_run_is(segsvc: Program, server: S3Server, page: bytes) -> None:
    said = segsvc("report", f"{OUT}/", environment=server.environment)
    assert (said.code, said.stdout) == (0, f"{OUT}/report.html\n"), said.stderr
    document = json.loads(segsvc("report", OUT, "--json", environment=server.environment).stdout)
    assert document == {"report": f"{OUT}/report.html", "size_bytes": len(body(server, "report.html"))}


def test_what_was_found_is_exported(segsvc: Program, server: S3Server, page: bytes, tmp_path: Path) -> None:
    answer = segsvc("export", OUT, "--format", "coco", "--to", tmp_path / "coco.json", "--verdict", "all",
                    environment=server.environment)
    assert answer.code == 0, answer.stderr
    images = json.loads((tmp_path / "coco.json").read_text())["images"]
    assert [image["image_uri"].startswith(f"{IN}/") for image in images] == [True] * IMAGES


def test_failed_images_are_taken_up_again(segsvc: Program, server: S3Server, page: bytes) -> None:
    assert json.loads(body(server, "failures.jsonl"))["error_kind"] != "changed"
    server.client().put_object(Bucket="pictures", Key="in/zz-broken.png", Body=b"another one")
    changed = segsvc(*RUN, "--retry-failed", environment=server.environment)
    assert changed.code == 3, changed.stderr  # it is another object now, and a run is over those that were planned
    assert json.loads(body(server, "failures.jsonl"))["error_kind"] == "changed"


def test_a_model_in_a_bucket_has_its_promise_and_its_report_there(
        segsvc: Program, server: S3Server, shared_home: Path, tmp_path: Path) -> None:
    client, model = server.client(), "s3://pictures/models/bright"
    for name in ("card.json", "model.safetensors"):
        client.put_object(Bucket="pictures", Key=f"models/bright/{name}",
                          Body=(shared_home / "models" / "bright" / name).read_bytes())
    write_dots(tmp_path / "dots", 110)
    answer = segsvc("calibrate", model, "--data", tmp_path / "dots", "--recall", "0.8", environment=server.environment)
    assert answer.code == 0, answer.stderr
    assert (f"model       {model}\n" in answer.stdout, f"report      {model}/report.html\n" in answer.stdout) == (True, True)
    there = {name: client.get_object(Bucket="pictures", Key=f"models/bright/{name}")["Body"].read()
             for name in ("operating_point.json", "report.html")}
    assert json.loads(there["operating_point.json"])["promise"]["recall"] == 0.8
    assert b"at least 80 % are flagged" in there["report.html"]
    again = segsvc("report", model, environment=server.environment)
    assert (again.code, again.stdout) == (0, f"{model}/report.html\n"), again.stderr
    assert client.get_object(Bucket="pictures", Key="models/bright/report.html")["Body"].read() == there["report.html"]
    run = segsvc("run", IN, "--model", model, "--out", "out", "--recall", "0.7", "--limit", "2",
                 environment=server.environment)
    assert (run.code, "guaranteed as calibrated" in run.stdout) == (0, True), run.stderr


def test_images_are_drawn_from_a_bucket_and_from_a_run_in_it(segsvc: Program, server: S3Server, page: bytes) -> None:
    for name, source, drawn in (("of-bucket", IN, 6), ("of-run", OUT, 5)):
        answer = segsvc("sample", source, "--n", str(drawn), "--name", name, "--model", "bright", "--json",
                        environment=server.environment)
        assert answer.code == 0, answer.stderr
        document = json.loads(answer.stdout)
        assert (document["drawn"], document["unreadable"], document["input"]) == (drawn, drawn - IMAGES, source)
    with open_ledger(str(segsvc.folder / "segsvc-data")) as ledger:
        for item in labelling.lease(ledger, LOCAL, "of-bucket", n=6):
            labelling.done(ledger, LOCAL, item.image.image_id, NewLabelling(True), set_name="of-bucket")
    shown = segsvc("datasets", "show", "label:of-bucket", "--json", environment=server.environment)
    assert (shown.code, json.loads(shown.stdout)["images"]) == (0, {"none": IMAGES}), shown.stderr
