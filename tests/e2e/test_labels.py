"""From a run to a promise by labels alone, as the README tells it: on real nuclei, over HTTP, with a scripted person."""

from __future__ import annotations

import json
import re

import cv2
import httpx2 as httpx
import numpy as np
import numpy.typing as npt

from segsvc.assets import WINDOWS, demo_images
from segsvc.settings import Settings
from segsvc.training.nuclei_data import read_image
from tests.cli.test_serve import started
from tests.conftest import Program

WINDOW_PX = 51


def window_labels() -> dict[str, npt.NDArray[np.uint16]]:
    """What is true of the demo's windows of nuclei, by file name: (51, 51), each nucleus with a number of its own."""
    assets = Settings().assets_dir
    _, labels = read_image(assets)
    half = labels[:, labels.shape[1] // 2:]
    found = {}
    for path in demo_images(assets, WINDOWS).iterdir():
        y, x = (int(number) for number in path.stem.split("-")[1:])
        found[path.name] = half[y: y + WINDOW_PX, x: x + WINDOW_PX]
    return found


def marked(labels: npt.NDArray[np.uint16]) -> list[dict[str, object]]:
    """What a person marks who sees every nucleus: its outline."""
    found: list[dict[str, object]] = []
    for value in np.unique(labels[labels > 0]).tolist():
        outlines, _ = cv2.findContours((labels == value).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        outline = max(outlines, key=len)[:, 0].tolist()
        if len(outline) >= 3 and cv2.contourArea(np.array(outline)) > 2:
            found.append({"class_name": "nucleus", "polygon": [[x + 0.5, y + 0.5] for x, y in outline]})
    return found


def label(client: httpx.Client, truth: dict[str, npt.NDArray[np.uint16]], name: str = "windows") -> None:
    """A scripted person labels what is left of the set."""
    while items := client.post(f"/v1/label/sets/{name}/lease", json={"n": 5}).json()["items"]:
        for item in items:
            objects = marked(truth[item["image_name"]])
            done = client.post(f"/v1/images/{item['image_id']}/done?set={name}", json={
                "nothing": not objects, "objects": objects, "seconds": 2 + len(objects)})
            assert done.status_code == 201, done.text
    assert client.get(f"/v1/label/sets/{name}").json()["left"] == 0


def test_labels_become_a_promise_and_where_they_are_too_few_it_is_said_how_many_more(segsvc: Program) -> None:
    truth, windows = window_labels(), demo_images(Settings().assets_dir, WINDOWS)
    models = {"SEGSVC_MODELS_DIR": str(segsvc.folder / "models")}
    calibrate = ("calibrate", "nuclei", "--data", "label:windows", "--json", "--recall")
    first = segsvc("run", windows, "--model", "nuclei", "--out", "OUT", environment=models)
    assert first.code == 0, first.stderr
    with started(segsvc) as (_, url), httpx.Client(base_url=url.removesuffix("/review"), timeout=60) as client:
        drawn = segsvc("sample", "OUT", "--n", "40", "--name", "windows", environment=models)
        assert drawn.code == 0, drawn.stderr
        label(client, truth)
        too_few = segsvc(*calibrate, "0.9", environment=models)
        assert too_few.code == 1
        assert re.search(r"the most they show is 0\.\d+\. About \d+ more images with objects like these would do",
                         too_few.stderr)
        assert segsvc("sample", "OUT", "--n", "10", "--name", "windows", "--more", environment=models).code == 0
        label(client, truth)
        calibrated = segsvc(*calibrate, "0.7", environment=models)
        assert calibrated.code == 0, calibrated.stderr
        promise = json.loads(calibrated.stdout)["operating_point"]["promise"]
        assert (promise["recall"], promise["images"], promise["data"]) == (0.7, 50, "label:windows")
        assert segsvc("band", "OUT", "--recall", "0.7", environment=models).code == 0
        assert segsvc("review", "import", "OUT").code == 0
        run_id = client.get("/v1/review/runs").json()["items"][0]["run"]["run_id"]
        cost = client.get(f"/v1/review/runs/{run_id}/cost")
        assert cost.status_code == 200, cost.text
        assert client.get(f"/review/{run_id}/cost").status_code == 200
