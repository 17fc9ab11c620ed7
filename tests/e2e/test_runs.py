"""Runs from outside, as a user sees them: what is published, what is the same, and what survives."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

import segsvc as library
from segsvc.types import Box
from tests.conftest import Program
from tests.scenes import boxes_scene, write_scenes

PARTS = ("plan", "candidates", "images")


def digests(out: Path) -> dict[str, str]:
    """The parts that must be the same bytes whoever made them."""
    return {f"{kind}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
            for kind in PARTS for path in sorted((out / kind).glob("part-*.parquet"))}


def run_json(out: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((out / "run.json").read_text())
    return document


def test_known_boxes_become_candidates_with_their_boxes_areas_and_bands(segsvc: Program) -> None:
    boxes = [Box(10, 10, 30, 20), Box(100, 60, 160, 100)]
    (segsvc.folder / "in").mkdir()
    cv2.imwrite(str(segsvc.folder / "in" / "two.png"), boxes_scene(boxes, width_px=200, height_px=100))
    cv2.imwrite(str(segsvc.folder / "in" / "none.png"), np.zeros((40, 50), np.uint8))
    answer = segsvc("run", "in", "--model", "bright", "--out", "out", "--flag-at", "0.95", "--accept-at", "0.99")
    assert answer.code == 0, answer.stderr
    run = library.open_run(str(segsvc.folder / "out"))
    candidates, images = run.candidates().to_pylist(), run.images().to_pylist()
    assert [(row["x0"], row["y0"], row["x1"], row["y1"]) for row in candidates] == [(10, 10, 30, 20), (100, 60, 160, 100)]
    assert [row["area_px"] for row in candidates] == [200, 2400]
    assert [row["touches_edge"] for row in candidates] == [False, True]
    assert {row["band"] for row in candidates} == {"accepted"}
    assert {row["probability"] for row in candidates} == {None}
    assert [(row["image_uri"].rsplit("/", 1)[1], row["status"], row["n_candidates"]) for row in images] == [
        ("none.png", "empty", 0), ("two.png", "done", 2)]


def test_one_worker_and_two_and_one_thread_and_two_publish_the_same_bytes(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "in", 12)
    made = []
    for workers, threads in ((1, 1), (2, 1), (1, 2)):
        out = segsvc.folder / f"out-{workers}-{threads}"
        answer = segsvc("run", "in", "--model", "bright", "--out", out, "--shard-size", "4", "--workers", str(workers),
                        "--threads", str(threads))
        assert answer.code == 0, answer.stderr
        made.append(digests(out))
    assert len(made[0]) == 9
    assert made[0] == made[1] == made[2]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_killed_at_any_moment_and_resumed_ends_like_one_that_was_not(segsvc: Program, seed: int) -> None:
    write_scenes(segsvc.folder / "in", 24)
    command = ("run", "in", "--model", "bright", "--shard-size", "3", "--threads", "1", "--out")
    assert segsvc(*command, "whole").code == 0
    random = np.random.default_rng(seed)
    out = segsvc.folder / "cut"
    stopped_after = []
    for _ in range(3):
        process = segsvc.start(*command, "cut")
        wanted = len(list((out / "images").glob("part-*"))) + int(random.integers(0, 3))
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            if len(list((out / "images").glob("part-*"))) >= wanted and (out / "spec.json").exists():
                break
            time.sleep(0.01)
        process.kill()
        process.communicate()
        stopped_after.append({path.name: path.stat().st_mtime_ns for path in (out / "images").glob("part-*")})
    assert segsvc(*command, "cut").code == 0
    assert digests(out) == digests(segsvc.folder / "whole")
    for published in stopped_after:  # what was published was not done again
        for name, when in published.items():
            assert (out / "images" / name).stat().st_mtime_ns == when
    assert not list(out.rglob(".segsvc-tmp-*"))


def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "in", 40)
    command = ("run", "in", "--model", "bright", "--shard-size", "2", "--threads", "1", "--out", "out")
    process = segsvc.start(*command)
    deadline = time.monotonic() + 60
    while len(list((segsvc.folder / "out" / "images").glob("part-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "finished and kept" in stderr
    assert "The same command goes on" in stderr
    assert "Traceback" not in stderr
    assert run_json(segsvc.folder / "out")["state"] == "cancelled"
    again = segsvc(*command)
    assert again.code == 0, again.stderr
    assert run_json(segsvc.folder / "out")["images"] == {"listed": 40, "done": 40, "empty": 0, "failed": 0, "quarantined": 0}


@pytest.mark.parametrize("how", ["segv", "abort", "kill", "exit"])
def test_a_decoder_that_takes_the_process_with_it_costs_one_image(segsvc: Program, how: str) -> None:
    write_scenes(segsvc.folder / "in", 6)
    (segsvc.folder / "in" / "scene-00002b.png").write_bytes(b"CRASHER:" + how.encode())
    answer = segsvc("run", "in", "--model", "bright", "--out", "out", "--threads", "1")
    assert answer.code == 3, answer.stderr
    images = library.open_run(str(segsvc.folder / "out")).images().to_pylist()
    assert [row["status"] for row in images] == ["done"] * 3 + ["quarantined"] + ["done"] * 3
    assert images[3]["error_kind"] == "crashed"
    lines = (segsvc.folder / "out" / "failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["quarantined"]


def test_an_image_that_takes_for_ever_is_quarantined(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "in", 3)
    (segsvc.folder / "in" / "a.png").write_bytes(b"CRASHER:hang")
    answer = segsvc("run", "in", "--model", "bright", "--out", "out", "--threads", "1",
                    environment={"SEGSVC_IMAGE_TIMEOUT_S": "2"})
    assert answer.code == 3, answer.stderr
    images = library.open_run(str(segsvc.folder / "out")).images().to_pylist()
    assert [row["status"] for row in images] == ["quarantined", "done", "done", "done"]
    assert "took longer than 2 s" in images[0]["error"]


def test_bad_images_are_failed_rows_with_their_reasons_and_the_run_goes_on(segsvc: Program) -> None:
    folder = segsvc.folder / "in"
    good = write_scenes(folder, 2)
    (folder / "cut.png").write_bytes(good[0].read_bytes()[:200])
    (folder / "empty.png").write_bytes(b"")
    (folder / "lies.jpg").write_bytes(b"this is a text and no picture")
    (folder / "fault.png").write_bytes(b"CRASHER:raise")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "notes.txt").write_text("skipped")
    (folder / ".hidden.png").write_bytes(good[0].read_bytes())
    (folder / "out.png").symlink_to("/etc/hostname")
    strange = os.fsencode(folder) + b"/na\xffme\nwith two lines.png"
    Path(os.fsdecode(strange)).write_bytes(good[0].read_bytes())
    answer = segsvc("run", "in", "--model", "bright", "--out", "out", "--json")
    assert answer.code == 3, answer.stderr
    document = json.loads(answer.stdout)
    assert document["images"] == {"listed": 8, "done": 3, "empty": 0, "failed": 5, "quarantined": 0}
    assert document["skipped"] == {"hidden": 1, "link_out_of_the_folder": 1, "not_an_image_by_its_ending": 1}
    reasons = {json.loads(line)["image_uri"].rsplit("/", 1)[1]: json.loads(line)["error_kind"]
               for line in (segsvc.folder / "out" / "failures.jsonl").read_text().splitlines()}
    assert reasons == {"cut.png": "corrupt", "empty.png": "empty", "lies.jpg": "unsupported", "fault.png": "internal",
                       "gone.png": "missing"}
    uris = library.open_run(str(segsvc.folder / "out")).images()["image_uri"].to_pylist()
    assert any(uri.endswith("/na%FFme%0Awith%20two%20lines.png") for uri in uris)


def test_retry_failed_takes_up_only_what_failed_and_ends_like_a_clean_run(segsvc: Program) -> None:
    folder = segsvc.folder / "in"
    paths = write_scenes(folder, 7)
    whole = paths[3].read_bytes()
    status = paths[3].stat()
    paths[3].write_bytes(b"\0" * len(whole))  # of the same size and time: the same version
    os.utime(paths[3], ns=(status.st_atime_ns, status.st_mtime_ns))
    command = ("run", "in", "--model", "bright", "--shard-size", "3")
    assert segsvc(*command, "--out", "out").code == 3
    paths[3].write_bytes(whole)
    os.utime(paths[3], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert segsvc(*command, "--out", "out").code == 3  # without the flag nothing is tried again
    untouched = (segsvc.folder / "out" / "images" / "part-00000.parquet").stat().st_mtime_ns
    answer = segsvc(*command, "--out", "out", "--retry-failed")
    assert answer.code == 0, answer.stderr
    assert segsvc(*command, "--out", "clean").code == 0
    assert digests(segsvc.folder / "out") == digests(segsvc.folder / "clean")
    assert (segsvc.folder / "out" / "images" / "part-00000.parquet").stat().st_mtime_ns == untouched
    assert (segsvc.folder / "out" / "failures.jsonl").read_text() == ""


def test_a_finished_run_asked_for_again_does_nothing_and_says_the_same(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "in", 3)
    command = ("run", "in", "--model", "bright", "--out", "out", "--json")
    first, second = segsvc(*command), segsvc(*command)
    assert (first.code, second.code) == (0, 0)
    assert json.loads(first.stdout) == json.loads(second.stdout)


def test_two_runs_on_one_out_at_once_do_no_harm(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "in", 30)
    command = ("run", "in", "--model", "bright", "--shard-size", "2", "--threads", "1", "--out")
    assert segsvc(*command, "clean").code == 0
    both = [segsvc.start(*command, "out") for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert digests(segsvc.folder / "out") == digests(segsvc.folder / "clean")


def test_a_manifest_carries_its_columns_into_the_images(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "in", 3)
    (segsvc.folder / "list.csv").write_text(
        "uri,street,group\nin/scene-00002.png,Elm,a\nin/scene-00000.png,\"Oak, long\",b\nin/gone.png,x,\n")
    answer = segsvc("run", "list.csv", "--model", "bright", "--out", "out")
    assert answer.code == 3, answer.stderr
    images = library.open_run(str(segsvc.folder / "out")).images().to_pylist()
    assert [(row["image_uri"].rsplit("/", 1)[1], row["status"], row["group"], dict(row["meta"])) for row in images] == [
        ("scene-00002.png", "done", "a", {"street": "Elm"}), ("scene-00000.png", "done", "b", {"street": "Oak, long"}),
        ("gone.png", "failed", None, {"street": "x"})]


def test_out_that_fills_up_ends_the_run_with_1_and_it_can_be_resumed(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "in", 12)
    command = ["run", "in", "--model", "bright", "--shard-size", "3", "--out", "out"]
    assert segsvc(*command[:-1], "clean").code == 0
    import resource

    limit = (segsvc.folder / "clean" / "candidates" / "part-00001.parquet").stat().st_size - 1
    process = segsvc.start_anew(*command)  # a file that may not grow beyond `limit` is a disk without room for it
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    assert "OUT" in stderr
    assert "Traceback" not in stderr
    assert segsvc(*command).code == 0
    assert digests(segsvc.folder / "out") == digests(segsvc.folder / "clean")


def test_the_parts_have_the_columns_of_the_contract(segsvc: Program) -> None:
    write_scenes(segsvc.folder / "in", 2)
    assert segsvc("run", "in", "--model", "bright", "--out", "out").code == 0
    images = pq.read_schema(segsvc.folder / "out" / "images" / "part-00000.parquet").names
    candidates = pq.read_schema(segsvc.folder / "out" / "candidates" / "part-00000.parquet").names
    assert [name for name in ("image_id image_uri image_version status width_px height_px frames error_kind error "
                              "n_candidates meta").split() if name not in images] == []
    assert candidates == ("candidate_id image_id image_uri image_version frame model model_digest class_name kind score "
                          "mean_score x0 y0 x1 y1 area_px mask_rle text touches_edge").split()
