"""The demo, to its end: the review page on its runs."""

from __future__ import annotations

import signal

import httpx2 as httpx

from segsvc.settings import Settings
from tests.conftest import Program
from tests.e2e.test_labels import label, window_labels


def test_the_demo_ends_in_the_review_page_on_its_runs_and_in_a_set_to_label(segsvc: Program) -> None:
    process = segsvc.start("demo", "--out", "demo", "--port", "0",
                           environment={"SEGSVC_MODELS_DIR": str(Settings().models_dir)})
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("http://"):
                break
        url = said[-1].strip().removesuffix("/review")
        with httpx.Client(base_url=url, timeout=60) as client:
            runs = client.get("/v1/review/runs").json()["items"]
            assert [run["run"]["model"] for run in runs] == ["nuclei", "imagenet", "nuclei"]  # the one to begin with first
            assert all(run["progress"]["left"] > 0 for run in runs)
            for run in runs:
                item = client.post(f"/v1/review/runs/{run['run']['run_id']}/lease", json={"n": 1}).json()["items"][0]
                picture = client.get(f"/v1/images/{item['image_id']}/region.jpg", params={
                    "x0": 0, "y0": 0, "x1": item["width_px"], "y1": item["height_px"], "width": 800})
                assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
                assert client.get(f"/review/{run['run']['run_id']}").status_code == 200
            label(client, window_labels(), "demo")
            calibrated = segsvc("calibrate", "nuclei", "--data", "label:demo", "--recall", "0.7",
                                environment={"SEGSVC_MODELS_DIR": str(segsvc.folder / "models")})
            assert calibrated.code == 0, calibrated.stderr
            assert segsvc("band", "demo/windows", "--recall", "0.7", environment={
                "SEGSVC_MODELS_DIR": str(segsvc.folder / "models")}).code == 0
            assert segsvc("review", "import", "demo/windows").code == 0
            slider = client.get(f"/review/{runs[-1]['run']['run_id']}/cost")
            assert (slider.status_code, 'type="range"' in slider.text) == (200, True)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate()
