"""Drift from outside: a run on images unlike the calibration's says that the promise is in doubt, wherever one looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import segsvc as library
from segsvc.card import ModelCard
from segsvc.operating_point import Basis, ClassThresholds, OperatingPoint
from segsvc.quality.profile import Stored, profile_of
from segsvc.types import Runtime
from tests.conftest import Answer, Program, write_model
from tests.scenes import scene, write_scenes

IMAGES = 60
DOUBT = "the promise is in doubt: these images are unlike the calibration's ("


@pytest.fixture(scope="module")
def place(environment: dict[str, str], bright: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A folder with a model that was calibrated on 60 generated scenes, and 60 others as they are and blurred."""
    program = Program(environment, tmp_path_factory.mktemp("drift"))
    card = write_model(program.folder, name="calibrated")
    write_scenes(program.folder / "calibration", IMAGES)
    answer = program("run", "calibration", "--model", "calibrated", "--out", "looked")
    assert answer.code == 0, answer.stderr
    run = library.open_run(str(program.folder / "looked"))
    candidates = run.candidates()
    stored = Stored(run.images()["n_candidates"].to_numpy(), np.array(candidates["class_name"].to_pylist(), np.str_),
                    *(candidates[name].to_numpy() for name in ("score", "mean_score", "area_px")))
    point = OperatingPoint(
        basis=Basis.CALIBRATED, classes={"bright": ClassThresholds(flag_at=0.95, accept_at=0.999)},
        model_digest=card.digest, runtime=Runtime.OPENVINO,
        profile=profile_of(np.arange(IMAGES), stored, classes=["bright"], seed=0))
    (program.folder / "calibrated" / "operating_point.json").write_text(point.to_json())
    write_scenes(program.folder / "like", IMAGES, first_seed=1000)
    write_changed(program.folder / "blurred", lambda pixels: cv2.GaussianBlur(pixels, (0, 0), 2))
    return program


def write_changed(folder: Path, change: Any) -> None:
    folder.mkdir()
    for number in range(IMAGES):
        cv2.imwrite(str(folder / f"scene-{number:05d}.png"), change(scene(1000 + number)))


def run(place: Program, source: str, *flags: str) -> tuple[Answer, dict[str, Any], Path]:
    """A run, what its run.json holds, and its folder."""
    out = place.folder / f"out-{source}"
    answer = place("run", source, "--model", "calibrated", "--out", out, "--shard-size", "16", *flags)
    assert answer.code == 0, answer.stderr
    return answer, json.loads((out / "run.json").read_text()), out


def test_like_images_are_said_to_be_like_the_calibrations(place: Program) -> None:
    answer, document, out = run(place, "like")
    drift = document["drift"]
    assert (drift["in_doubt"], drift["images"]) == (False, IMAGES)
    for text in (answer.stdout, (out / "report.html").read_text()):
        assert "othing seen against the promise" in text
        assert "in doubt" not in text
    assert document["operating_point"]["profile"] is None  # which bands.json holds
    assert json.loads((out / "bands.json").read_text())["operating_points"][0]["profile"]["images"] == IMAGES


def test_other_images_put_the_promise_in_doubt_wherever_it_is_said(place: Program) -> None:
    answer, document, out = run(place, "blurred")
    drift = document["drift"]
    assert drift["in_doubt"]
    assert drift["statistic"] > drift["threshold"]
    assert drift["says"].startswith(DOUBT)
    assert f"drift       {drift['says']}\n" in answer.stdout
    page = (out / "report.html").read_text()
    assert DOUBT[1:].replace("'", "&#39;") in page
    assert 'class="card point doubtful"' in page

    again, same, _ = run(place, "blurred", "--json")  # a finished run says the same
    assert same["drift"] == drift == json.loads(again.stdout)["drift"]

    by_hand = place("band", out, "--flag-at", "0.95", "--json")
    assert by_hand.code == 0, by_hand.stderr
    assert json.loads(by_hand.stdout)["drift"] is None  # nothing is promised
    assert json.loads((out / "run.json").read_text())["drift"] is None
    assert "in doubt" not in (out / "report.html").read_text()


def test_another_magnification_is_noticed(place: Program) -> None:
    write_changed(place.folder / "nearer", lambda pixels: cv2.resize(pixels[:80, :106], (160, 120)))
    _, document, _ = run(place, "nearer")
    assert document["drift"]["in_doubt"]


def test_on_another_runtime_nothing_is_promised_and_nothing_compared(place: Program) -> None:
    answer, document, _ = run(place, "calibration", "--runtime", "torch-cpu")
    assert document["drift"] is None
    assert not [line for line in answer.stdout.splitlines() if line.startswith("drift")]
