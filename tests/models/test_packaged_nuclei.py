from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import segmentation_models_pytorch as smp
import tifffile
import torch

import segsvc
from segsvc.card import Task
from segsvc.errors import ConfigError
from segsvc.imaging import masks
from segsvc.metrics_document import MetricsDocument
from segsvc.models.library import PACKAGED, Model, load_weights, read_model
from segsvc.operating_point import Basis, OperatingPoint
from segsvc.settings import settings
from segsvc.training import nuclei, nuclei_data
from segsvc.training.augment import Domain
from segsvc.training.recipe import TrainingRequest
from segsvc.training.trainer import train


@cache
def packaged() -> Model:
    return read_model(PACKAGED / "nuclei")


def point() -> OperatingPoint:
    found = packaged().operating_point
    assert found is not None
    return found


@cache
def network() -> torch.nn.Module:
    """The network as the card names it, built without any code of the training."""
    card = packaged().card
    built: torch.nn.Module = smp.create_model(card.arch, encoder_name=card.encoder, encoder_weights=None,
                                              in_channels=card.channels, classes=len(card.classes))
    built.load_state_dict(load_weights(packaged()))
    return built.eval()


def scores(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Scores of stored pixels (h, w), sides multiples of 32, normalised as the card's text says."""
    rule = packaged().card.normalisation
    low, high = np.percentile(pixels, (rule.low_percentile, rule.high_percentile))
    scaled = (pixels - low) / ((high - low) or 1.0)
    tile = torch.from_numpy(((scaled - rule.mean[0]) / rule.std[0]).astype(np.float32))[None, None]
    with torch.inference_mode():
        answer: npt.NDArray[np.float32] = network()(tile).sigmoid()[0, 0].numpy()
    return answer


@cache
def held_out() -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]:
    pixels, labels = (tifffile.imread(settings().assets_dir / name) for name in ("img2d.tif", "mask2d.tif"))
    return pixels[:, 256:], labels[:, 256:] > 0


def dice(said: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    return float(2 * (said & truth).sum() / (said.sum() + truth.sum()))


def test_the_weights_are_those_of_the_card_in_float16_and_under_25_mb() -> None:
    model = packaged()
    model.check_weights()
    assert model.weights.stat().st_size < 25_000_000
    assert model.card.licence == "Apache-2.0"
    assert model.card.extraction.floor <= point().classes["nucleus"].flag_at


def test_on_the_half_it_never_saw_dice_at_one_half_is_at_least_94_percent() -> None:
    pixels, truth = held_out()
    assert dice(scores(pixels) >= 0.5, truth) >= 0.94


def test_at_its_flag_threshold_px_recall_is_99_and_precision_80_percent_or_more() -> None:
    pixels, truth = held_out()
    said = scores(pixels) >= point().classes["nucleus"].flag_at
    assert (said & truth).sum() / truth.sum() >= 0.99
    assert (said & truth).sum() / said.sum() >= 0.80


@pytest.mark.parametrize(("factor", "at_least"), [(0.5, 0.90), (2.0, 0.91)])
def test_it_works_at_other_magnifications(factor: float, at_least: float) -> None:
    pixels, truth = held_out()
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=how)
    expected = cv2.resize(truth.astype(np.float32), None, fx=factor, fy=factor, interpolation=how) > 0.5
    assert dice(scores(scaled) >= 0.5, expected) >= at_least


def test_an_image_of_8_bits_gives_the_same_scores_as_one_of_16() -> None:
    pixels, _ = held_out()
    assert np.abs(scores(pixels.astype(np.uint8)) - scores(pixels)).max() < 1e-5
    assert np.abs(scores(pixels * np.uint16(256)) - scores(pixels)).max() < 1e-3


def test_images_of_nothing_but_noise_or_one_value_hold_no_nuclei() -> None:
    draw = np.random.default_rng(5)
    noise = draw.poisson(20, (256, 256)).astype(np.uint16)
    smooth = cv2.GaussianBlur(draw.normal(100, 10, (256, 256)).astype(np.float32), (0, 0), 1.0)
    for empty in (noise, smooth, np.full((64, 96), 7, np.uint8)):
        assert (scores(empty) >= 0.5).mean() < 0.001


def test_the_operating_point_is_measured_and_belongs_to_this_model() -> None:
    assert point().basis is Basis.MEASURED
    assert point().model_digest == packaged().digest
    assert "had not learnt" in point().note
    assert read_model(PACKAGED / "nuclei-instances").operating_point is None


@pytest.mark.parametrize(("name", "figure", "demanded", "seeds"), [("nuclei", "dice", 0.94, 5),
                                                                  ("nuclei-instances", "ap50", 0.82, 3)])
def test_the_seeds_reach_the_figure_on_average_and_the_packaged_one_is_among_them(
        name: str, figure: str, demanded: float, seeds: int) -> None:
    folder = PACKAGED / name
    figures = [json.loads(line) for line in (folder / "seeds.jsonl").read_text().splitlines()]
    assert [each["seed"] for each in figures] == list(range(seeds))
    assert np.mean([each[figure] for each in figures]) >= demanded
    own = MetricsDocument.model_validate_json((folder / "metrics.json").read_bytes())
    assert (own.data.split, own.model.digest) == ("test", read_model(folder).digest)
    assert own.figures[figure].value == pytest.approx(figures[read_model(folder).card.seed or 0][figure], abs=0.002)


def test_what_metrics_json_says_of_dice_is_what_the_weights_do() -> None:
    pixels, truth = held_out()
    own = MetricsDocument.model_validate_json((PACKAGED / "nuclei" / "metrics.json").read_bytes())
    assert own.figures["dice"].value == pytest.approx(dice(scores(pixels) > 0.5, truth), abs=0.001)


@pytest.mark.usefixtures("in_process")
def test_instances_find_nearly_all_nuclei_of_the_half_that_was_held_out_each_by_itself() -> None:
    pixels, _ = held_out()
    labels = tifffile.imread(settings().assets_dir / "mask2d.tif")[:, 256:]
    model = segsvc.load("nuclei-instances")
    candidates = tuple(model.segment(np.ascontiguousarray(pixels)))
    found = set()
    for each in candidates:
        assert each.mask_rle is not None
        box = each.box
        mask = masks.decode(each.mask_rle, height_px=box.height_px, width_px=box.width_px)
        below, counts = np.unique(labels[box.y0: box.y1, box.x0: box.x1][mask], return_counts=True)
        best = int(below[counts.argmax()])
        if best and counts.max() >= 0.5 * (labels == best).sum():
            found.add(best)
    assert len(found) >= 0.9 * len(np.unique(labels[labels > 0]))
    assert len(candidates) <= 1.15 * len(np.unique(labels[labels > 0]))


@pytest.mark.parametrize("name", ["nuclei", "nuclei-instances"])
def test_the_folders_say_what_was_learnt_from_and_nothing_of_any_machine(name: str) -> None:
    learnt = json.loads((PACKAGED / name / "trained_on.json").read_text())["sha256"]
    assert hashlib.sha256((settings().assets_dir / "img2d.tif").read_bytes()).hexdigest() in learnt
    for path in (PACKAGED / name).iterdir():
        assert b"file:///" not in path.read_bytes() or path.suffix == ".safetensors", path
    assert "Diagnosis" in read_model(PACKAGED / name).card.not_for


def test_the_data_sets_are_the_same_bytes_each_time_and_share_no_px_between_splits(tmp_path: Path) -> None:
    for run in ("one", "two"):
        nuclei_data.write(settings().assets_dir, tmp_path / run)
    one, two = (sorted(path.relative_to(tmp_path / run) for path in (tmp_path / run).rglob("*.*"))
                for run in ("one", "two"))
    assert one == two
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in one)
    right = cv2.imread(str(tmp_path / "one" / "semantic" / "test" / "images" / "right.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(right, held_out()[0])
    with pytest.raises(ConfigError, match=r"img2d\.tif"):
        nuclei_data.write(tmp_path, tmp_path / "three")


def test_a_model_that_was_trained_by_the_command_is_packaged_with_thresholds_of_models_that_had_not_seen_the_data(
        tmp_path: Path) -> None:
    nuclei_data.write(settings().assets_dir, tmp_path / "data")
    for path in [*(tmp_path / "data").rglob("photo-*"), *(tmp_path / "data").rglob("noise-*")]:
        path.unlink()  # the strips are enough here
    trained = train(TrainingRequest(
        dataset=str(tmp_path / "data" / "semantic"), task=Task.SEMANTIC, out=tmp_path / "trained", domain=Domain.ANY,
        epochs=1, threads=2), print)
    document = nuclei.make(nuclei.MODELS[0], tmp_path / "data", tmp_path / "made", seed=0, trained=trained)
    model = read_model(tmp_path / "made" / "nuclei")
    model.check_weights()
    assert model.operating_point is not None
    assert model.card.extraction.floor == model.operating_point.classes["nucleus"].flag_at
    assert document.model.digest == model.digest
    assert str(tmp_path) not in (model.folder / "report.html").read_text() + (model.folder / "metrics.json").read_text()
