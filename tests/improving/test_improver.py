"""The loop closed on a tiny classifier: learnt, calibrated, compared, put in force, kept, put back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from segsvc import versions
from segsvc.calibration.choosing import Targets
from segsvc.card import Task
from segsvc.errors import ConfigError
from segsvc.improving.improver import ImproveRequest, improve
from segsvc.models.library import find_model, kept_versions
from segsvc.settings import RuntimeChoice
from segsvc.training.recipe import TrainingRequest
from segsvc.training.trainer import train
from tests.training.sets import write_image


def quiet(line: str) -> None:
    """Says nothing."""


def table(folder: Path, images: int, *, first: int = 0) -> str:
    """A .csv of images that are mostly red or mostly blue."""
    lines = ["uri,labels"]
    for seed in range(first, first + images):
        pixels = np.random.default_rng((9, seed)).normal(90, 12, (32, 32, 3))
        pixels[:, :, 2 * (seed % 2)] += 70
        cv2.circle(pixels, (16, 16), 5, (90, 90, 90), -1)
        write_image(folder / f"{seed}.png", np.clip(pixels, 0, 255).astype(np.uint8))
        lines.append(f"{seed}.png,{('red', 'blue')[seed % 2]}")
    (folder / f"{images}.csv").write_text("\n".join(lines) + "\n")
    return str(folder / f"{images}.csv")


@pytest.fixture
def asked(tmp_path: Path, in_process: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> ImproveRequest:
    """A model that has hardly learnt anything, among the user's models, and what is asked of it."""
    monkeypatch.setenv("SEGSVC_MODELS_DIR", str(tmp_path / "models"))
    in_process()
    train(TrainingRequest(dataset=table(tmp_path / "first", 8, first=1000), task=Task.CLASSIFICATION, epochs=1,
                          init="random", out=tmp_path / "models" / "hue", arch="test_efficientnet"), quiet)
    return ImproveRequest(
        model=find_model("hue"), at=tmp_path / "models" / "hue", place=table(tmp_path / "set", 100), called="label:hue",
        reviewed=(), targets=Targets(0.6, 0.6, 0.9), demands_precision=False, margin=0.02, seed=0, threads=1, epochs=25,
        runtime=RuntimeChoice.TORCH_CPU)


def test_a_better_version_takes_the_place_and_one_that_is_not_shown_to_be_as_good_does_not(
        asked: ImproveRequest, tmp_path: Path) -> None:
    old = asked.model
    (old.folder / "LICENCE.md").write_text("Named by.")
    done = improve(asked, quiet)
    it = done.improvement
    assert (it.in_force, it.figure, it.old, it.new, it.data) == (
        True, "accuracy", old.digest, find_model("hue").digest, "label:hue")
    assert it.new_mean > it.old_mean
    assert it.lower >= -it.margin
    assert [each.was_in_force for each in versions.versions(asked.at)] == [True, True]
    page = done.report.read_text()
    assert "The new version is in force" in page
    folder = find_model("hue").folder
    assert done.report == folder / "comparison.html"
    learnt, tested = (json.loads((folder / name).read_bytes()) for name in ("trained_on.json", "test_set.json"))
    assert len(tested["sha256"]) == it.images
    assert not set(learnt["sha256"]) & set(tested["sha256"])
    assert set(json.loads((old.folder.parent / ".versions" / "hue" / old.digest[:12] / "trained_on.json").read_bytes())[
        "sha256"]) < set(learnt["sha256"])  # what it started from has learnt from them too
    assert find_model("hue").operating_point is not None
    assert (folder / "LICENCE.md").read_text() == "Named by."
    assert "label:hue" in find_model("hue").card.trained_on

    again = improve(replace(asked, model=find_model("hue"), place=table(tmp_path / "set", 130), seed=5, epochs=1,
                            margin=0.001), quiet)
    assert not again.improvement.in_force  # so few units cannot show that much of two that are as good
    assert "more labelled images would show more" in again.improvement.reason
    assert find_model("hue").digest == it.new
    assert {each.name for each in kept_versions(asked.at)} == {old.digest[:12], again.improvement.new[:12]}
    grown = json.loads((again.model.folder / "test_set.json").read_bytes())
    assert set(tested["sha256"]) <= set(grown["sha256"])
    assert (grown["comparisons"], again.improvement.comparisons) == (2, 2)
    assert not list(versions.kept_place(asked.at).glob(".improving-*"))
    assert versions.restore(asked.at, None).model.digest == old.digest


def test_what_cannot_be_improved_by_it_says_why_before_any_work(asked: ImproveRequest, tmp_path: Path) -> None:
    def refused(text: str, match: str, **more: object) -> None:
        place = tmp_path / "set" / "other.csv"
        place.write_text(text)
        with pytest.raises(ConfigError, match=match):
            improve(replace(asked, place=str(place), **more), quiet)  # type: ignore[arg-type]

    rows = Path(asked.place).read_text()
    refused(rows.replace(",red", ",green"), r"labels of the classes of hue \(blue, red\), got green too")
    refused("uri,labels\n0.png,red\n1.png,\n", "got none of blue: the new one would not know them")
    refused("uri,labels\n0.png,red\n1.png,blue\n", r"Label about \d+ more")
    refused(rows.replace("uri,labels\n", "uri,labels,review_run\n").replace("red\n", "red,r1\n"), "decisions of a review")
    refused(rows, "got that of another model", at=asked.at.parent / "nuclei")
    with pytest.raises(ConfigError, match="--name: expected letters"):
        replace(asked, at=asked.at.parent / "a hue")
    with pytest.raises(ConfigError, match="--margin: expected more than 0"):
        replace(asked, margin=0.0)
    assert find_model("hue").digest == asked.model.digest
