"""The loop closed by commands alone: labels, a first model, a promise, a run, a review, and a better version of it."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import httpx2 as httpx
import numpy as np

from tests.cli.test_serve import started
from tests.conftest import Answer, Program
from tests.scenes import scene

FIRST, JUDGED, IMAGES, DRAWN = 16, 4, 76, 60
TINY = "tu-test_efficientnet"  # timm's own for tests
PROMISE = ("--recall", "0.6", "--confidence", "0.8")


def write_images(folder: Path, seeds: Iterable[int]) -> None:
    """Generated scenes, each called by its seed."""
    folder.mkdir()
    for seed in seeds:
        cv2.imwrite(str(folder / f"{seed}.png"), scene(seed, width_px=96, height_px=96, objects=3))


def marked(name: str) -> list[dict[str, object]]:
    """What a person marks who sees every disc of a scene: its outline."""
    bright = (scene(int(name.removesuffix(".png")), width_px=96, height_px=96, objects=3) > 100).astype(np.uint8)
    outlines, _ = cv2.findContours(bright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [{"class_name": "disc", "polygon": [[x + 0.5, y + 0.5] for x, y in outline[:, 0].tolist()]}
            for outline in outlines if len(outline) > 4]


def label(client: httpx.Client, name: str) -> set[str]:
    """A scripted person labels a whole set; what its images are called."""
    seen: set[str] = set()
    while items := client.post(f"/v1/label/sets/{name}/lease", json={"n": 10}).json()["items"]:
        for item in items:
            objects = marked(item["image_name"])
            done = client.post(f"/v1/images/{item['image_id']}/done?set={name}", json={
                "nothing": not objects, "objects": objects, "seconds": 3.0})
            assert done.status_code == 201, done.text
            seen.add(item["image_name"])
    return seen


def decide(client: httpx.Client, run_id: str) -> set[str]:
    """A scripted person accepts candidates of all images but a few; what those are called."""
    seen: set[str] = set()
    lease = f"/v1/review/runs/{run_id}/lease"
    while len(seen) < IMAGES - 6 and (items := client.post(lease, json={"n": 10}).json()["items"]):
        for item in items:
            answer = client.post(f"/v1/candidates/{item['candidate_id']}/decisions", json={"verdict": "accepted"},
                                 headers={"If-Match": f'"{item["tag"]}"'})
            assert answer.status_code == 201, answer.text
            seen.add(item["image_name"])
    return seen


def digests(folder: Path, names: Iterable[str]) -> set[str]:
    return {hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def said(answer: Answer) -> Any:
    assert answer.code == 0, answer.stderr
    return json.loads(answer.stdout)


def test_labels_and_a_review_make_a_better_version_that_is_put_in_force_and_back(
        environment: Mapping[str, str], tmp_path: Path) -> None:
    segsvc = Program({**environment, "SEGSVC_MODELS_DIR": str(tmp_path / "models"), "SEGSVC_RUNTIME": "torch-cpu"}, tmp_path)
    write_images(tmp_path / "first", range(1000, 1000 + FIRST))
    rows = [f"first/{1000 + n}.png,{'val' if n < JUDGED else 'train'}" for n in range(FIRST)]  # so that no folds are learnt
    (tmp_path / "first.csv").write_text("\n".join(["uri,split", *rows]) + "\n")
    write_images(tmp_path / "images", range(IMAGES))
    with started(segsvc) as (_, url), httpx.Client(base_url=url.removesuffix("/review"), timeout=60) as client:
        labelled = {}
        for source, name, n in (("first.csv", "first", FIRST), ("images", "images", DRAWN)):
            said(segsvc("sample", source, "--n", str(n), "--name", name, "--class", "disc", "--json"))
            labelled[name] = label(client, name)
        trained = segsvc("train", "label:first", "--task", "semantic", "--out", "models/discs", "--init", "random",
                         "--arch", "linknet", "--encoder", TINY, "--epochs", "20", "--threads", "1")
        assert trained.code == 0, trained.stderr
        calibrated = said(segsvc("calibrate", "discs", "--data", "label:images", *PROMISE, "--threads", "1", "--json"))
        assert calibrated["operating_point"]["promise"]["images"] == DRAWN
        assert segsvc("run", "images", "--model", "discs", "--out", "OUT", "--workers", "1", "--threads", "1").code == 0
        run_id = said(segsvc("review", "import", "OUT", "--gold-share", "0", "--json"))["run_id"]
        reviewed = decide(client, run_id)
        improve = ("improve", "discs", "--data", "label:images", "--from-review", "OUT", *PROMISE, "--margin", "0.9",
                   "--epochs", "2", "--threads", "1", "--json")
        interrupted = segsvc.start(*improve)
        assert interrupted.stderr is not None
        next(line for line in interrupted.stderr if line.startswith("images: "))  # it is about to learn
        interrupted.send_signal(signal.SIGINT)
        _, told = interrupted.communicate(timeout=100)
        assert (interrupted.returncode, "The model in force is untouched" in told, "Traceback" in told) == (130, True, False)
        assert said(segsvc("models", "show", "discs", "--json"))["digest"] == calibrated["digest"]
        done = said(segsvc(*improve))
    it, folder = done["improvement"], tmp_path / "models" / "discs"
    whole, outside = labelled["images"], reviewed - labelled["images"]
    assert (len(whole), len(outside) >= 4) == (DRAWN, True)
    assert f"{len(reviewed & whole)} of {len(reviewed)} reviewed images are labelled whole in the set" in it["notes"][0]

    learnt, tested = (set(json.loads((folder / f"{name}.json").read_bytes())["sha256"]) for name in (
        "trained_on", "test_set"))
    of_set, of_review = digests(tmp_path / "images", whole), digests(tmp_path / "images", outside)
    assert learnt - of_set == of_review | digests(tmp_path / "first", labelled["first"])
    assert tested <= of_set and not tested & learnt
    assert len(tested) == it["images"]
    promise = json.loads((folder / "operating_point.json").read_bytes())["promise"]
    assert (promise["data"], promise["images"]) == ("label:images", DRAWN - len(learnt & of_set) - len(tested))

    assert (it["in_force"], it["old"], it["data"]) == (True, calibrated["digest"], "label:images")
    versions = said(segsvc("models", "versions", "discs", "--json"))["items"]
    assert {each["digest"]: each["state"] for each in versions} == {it["new"]: "in_force", it["old"]: "kept"}
    assert said(segsvc("models", "restore", "discs", "--json"))["items"][0]["digest"] == it["old"]
    back = json.loads((folder / "operating_point.json").read_bytes())
    assert back["promise"] == calibrated["operating_point"]["promise"]
