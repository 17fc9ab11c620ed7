from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
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

from segsvc.card import Basis, OperatingPoint
from segsvc.errors import ConfigError
from segsvc.models.checkpoint import save_model
from segsvc.models.library import PACKAGED, Model, load_weights, read_model
from segsvc.packages import LITE0_WEIGHTS
from segsvc.settings import settings
from segsvc.training import nuclei
from segsvc.types import SCORE_ONE


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
    assert "learnt from" in point().note


def test_five_seeds_reach_the_figures_and_the_packaged_one_is_among_them_as_measured_here() -> None:
    figures = json.loads((PACKAGED / "nuclei" / "metrics.json").read_text())
    seeds = figures["seeds"]
    assert len({seed["seed"] for seed in seeds}) == 5
    assert all(seed["at_half"]["dice"] >= 0.94 for seed in seeds)
    assert all(seed["at_flag"]["recall"] >= 0.99 and seed["at_flag"]["precision"] >= 0.80 for seed in seeds)
    pixels, truth = held_out()
    own = next(seed for seed in seeds if seed["seed"] == packaged().card.seed)
    assert own["at_half"]["dice"] == pytest.approx(dice(scores(pixels) >= 0.5, truth), abs=0.001)


@pytest.fixture
def torch_as_it_was() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("torch_as_it_was")
def test_two_trainings_of_one_seed_give_the_same_bytes(tmp_path: Path) -> None:
    learnt, _ = nuclei.read_halves(settings().assets_dir)
    recipe = replace(nuclei.Recipe(), steps=2, batch=2, crop_px=64, empty_share=0.5)
    digests = []
    for run in range(2):
        state = nuclei.train(nuclei.Sampler(learnt, [learnt.pixels], recipe, 3),
                             settings().assets_dir / LITE0_WEIGHTS.name, recipe=recipe, seed=3)
        digests.append(save_model(state, tmp_path / f"{run}.safetensors", half=True))
    assert digests[0] == digests[1]


def test_another_seed_draws_other_crops() -> None:
    learnt, _ = nuclei.read_halves(settings().assets_dir)
    recipe = replace(nuclei.Recipe(), batch=2, crop_px=64)
    drawn = [nuclei.Sampler(learnt, [learnt.pixels], recipe, seed).batch()[0] for seed in (3, 3, 4)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_crops_are_of_the_asked_size_and_truth_is_a_share() -> None:
    learnt, _ = nuclei.read_halves(settings().assets_dir)
    recipe = replace(nuclei.Recipe(), batch=40, crop_px=64, empty_share=0.3)
    pixels, truth = nuclei.Sampler(learnt, [learnt.pixels], recipe, 1).batch()
    assert pixels.shape == truth.shape == (40, 1, 64, 64)
    assert pixels.dtype == truth.dtype == np.float32
    assert np.isfinite(pixels).all()
    assert truth.min() >= 0 and truth.max() <= 1
    assert 4 <= sum(not crop.any() for crop in truth) <= 24


def test_the_halves_share_no_px_and_missing_files_are_named(tmp_path: Path) -> None:
    learnt, kept = nuclei.read_halves(settings().assets_dir)
    assert learnt.pixels.shape == kept.pixels.shape == (512, 256)
    assert np.array_equal(kept.pixels, held_out()[0])
    with pytest.raises(ConfigError, match=r"img2d\.tif"):
        nuclei.read_halves(tmp_path)


def test_one_vast_region_finds_nothing_and_half_a_nucleus_is_found() -> None:
    labels = np.zeros((40, 40), np.uint16)
    labels[4:8, 4:12] = 1
    labels[20:24, 4:12] = 2
    extraction = packaged().card.extraction.model_copy(update={"extent_min": 0.5, "floor": 0.5, "min_area_px": 1})
    vast = nuclei.measure_objects(np.full((40, 40), SCORE_ONE, np.uint16), labels, extraction)
    assert (vast.nuclei, vast.finds, vast.scores) == (2, (frozenset(),), (1.0,))
    half = np.zeros((40, 40), np.uint16)
    half[4:8, 4:8] = SCORE_ONE  # 16 of 32 px
    half[20:24, 4:7] = SCORE_ONE  # 12 of 32 px
    found = nuclei.measure_objects(half, labels, extraction)
    assert found.finds == (frozenset({1}), frozenset())
    assert found.summary() == {"nuclei": 2, "candidates": 2, "recall": 0.5, "precision": 0.5}
    assert found.summary(accept_at=2.0) == {"nuclei": 2, "candidates": 0, "recall": 0.0, "precision": 0.0}


def test_thresholds_are_as_low_as_the_wanted_precision_allows() -> None:
    labels = np.zeros((64, 64), np.uint16)
    labels[8:28, 8:28], labels[40:60, 40:60] = 1, 2
    chances = np.where(labels > 0, 0.9, 0.05)
    chances[30:36, 0:40] = 0.3  # 240 px beside 800: above 0.3 precision is 1, from 0.3 on 0.77
    chances[2, 2] = 0.6  # a speck of one px
    scores = np.rint(chances * SCORE_ONE).astype(np.uint16)
    extraction, thresholds = nuclei.choose(scores, scores, labels)
    assert extraction.extent_min == extraction.floor == thresholds.flag_at == pytest.approx(0.31, abs=0.011)
    assert extraction.min_area_px == 16
    assert thresholds.accept_at == thresholds.flag_at
