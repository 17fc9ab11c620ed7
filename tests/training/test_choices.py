"""What training chooses by itself: extraction, the numbers of a detector, recipes, what a network starts from, losses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from segsvc.card import ClassNode, Extraction, Fit, IntensityScale, ModelCard, Normalisation, Resize, Task
from segsvc.datasets import TrueObject
from segsvc.errors import ConfigError
from segsvc.imaging import masks
from segsvc.settings import settings
from segsvc.training.augment import Domain
from segsvc.training.balance import turns
from segsvc.training.choosing import EXTENTS, ExtractionChoice
from segsvc.training.classification import classification_losses, fitting_crop_px
from segsvc.training.detecting import detection_for, object_sizes
from segsvc.training.recipe import ImageFacts, Recipe, TrainingRequest, recipe_for
from segsvc.training.semantic import semantic_losses
from segsvc.training.starts import started
from segsvc.types import SCORE_ONE, Box, ScoreArray


def square(x: int, y: int, side: int, name: str = "disc") -> TrueObject:
    return TrueObject(name, Box(x, y, x + side, y + side), masks.encode(np.ones((side, side), np.bool_)))


def scores_of(*squares: tuple[TrueObject, float], around: float = 0.0) -> ScoreArray:
    """(1, 64, 64): each square with its score, and a seam of 4 px of half of it if `around`."""
    found = np.zeros((64, 64))
    for each, score in squares:
        box = each.box
        if around:
            found[max(0, box.y0 - 4): box.y1 + 4, max(0, box.x0 - 4): box.x1 + 4] = around
        found[box.y0: box.y1, box.x0: box.x1] = score
    return np.rint(found * SCORE_ONE).astype(np.uint16)[None]


def test_extraction_fits_the_objects_and_leaves_room_for_fainter_and_smaller_ones() -> None:
    choice = ExtractionChoice(("disc",))
    big, small = square(4, 4, 12), square(40, 40, 6)
    choice.add(scores_of((big, 0.9), (small, 0.8), around=0.25), [big, small])
    found = choice.choose()
    assert found.extent_min == 0.7  # with what scores below 0.25 a candidate would be larger than its object
    assert 0.7 <= found.floor < 0.8
    assert found.min_area_px == 18


def test_an_extent_at_which_objects_would_be_lost_is_not_taken() -> None:
    choice = ExtractionChoice(("disc",))
    strong, faint = square(4, 4, 12), square(40, 40, 6)
    choice.add(scores_of((strong, 0.9), (faint, 0.12)), [strong, faint])
    found = choice.choose()
    assert found.extent_min == 0.1
    assert found.floor <= 0.12


def test_without_any_object_found_extraction_stays_as_it_is() -> None:
    choice = ExtractionChoice(("disc",))
    choice.add(np.zeros((1, 64, 64), np.uint16), [square(4, 4, 12)])
    choice.add(scores_of((square(4, 4, 12), 0.9)), [replace(square(4, 4, 12), ignored=True)])
    assert choice.choose() == Extraction()
    assert min(EXTENTS) > 0


def test_empty_images_are_at_most_a_fifth_of_what_is_learnt_from() -> None:
    assert turns(np.array([True, False, True])) == (0, 0, 1, 2, 2)
    order = turns(np.array([True] * 4 + [False] * 10))
    assert sum(number >= 4 for number in order) / len(order) <= 0.2
    assert set(order) == set(range(14))
    assert turns(np.array([False, False])) == (0, 1)
    assert turns(np.array([True, True])) == (0, 1)


def test_small_objects_are_enlarged_and_anchors_span_their_sizes() -> None:
    sides = np.linspace(14, 30, 60)
    found = detection_for(object_sizes([[(round(side), round(side)) for side in sides]]))
    assert found.scale == 2.0
    flat = [size for level in found.anchor_sizes_px for size in level]
    assert flat == sorted(flat)
    assert 25 <= flat[0] <= 35
    assert 50 <= flat[-1] <= 62
    assert found.anchor_ratios == (1.0,)
    assert found.most == 240
    large = detection_for(object_sizes([[(200, 80), (60, 400)], []]))
    assert large.scale == 1.0
    assert large.anchor_ratios == (0.5, 1.0, 2.0)
    assert len(large.strides) == len(large.anchor_sizes_px)
    with pytest.raises(ValueError, match="at least one object"):
        object_sizes([[]])


@pytest.mark.parametrize(("sides", "crop_px"), [([20] * 5, 64), ([40, 50, 60], 160), ([100, 300, 500], 224), ([150], 160)])
def test_a_classifier_sees_images_about_as_large_as_they_are(sides: list[int], crop_px: int) -> None:
    assert fitting_crop_px(np.array(sides, np.float64)) == crop_px


def recipe(task: Task, *, facts: ImageFacts | None = None, n_images: int = 80, init: ModelCard | None = None,
           **more: object) -> Recipe:
    request = TrainingRequest(**{"dataset": "d", "task": task, "out": Path("m"), **more})  # type: ignore[arg-type]
    sizes = object_sizes([[(20, 20)]]) if task is Task.INSTANCE else None
    plain = ImageFacts(grey=False, deep=False, shorter_sides_px=(300,), aspects=(1.0,))
    return recipe_for(request, facts or plain, n_images=n_images, sizes=sizes, init=init)


def test_recipes_follow_the_images() -> None:
    deep = recipe(Task.SEMANTIC, facts=ImageFacts(grey=True, deep=True, shorter_sides_px=(128, 500), aspects=(1.0, 2.0)))
    assert deep.channels == 1
    assert deep.normalisation.scale is IntensityScale.PERCENTILE
    assert deep.crop_px == 128
    plain = recipe(Task.SEMANTIC)
    assert (plain.channels, plain.normalisation.scale) == (3, IntensityScale.DTYPE)
    assert plain.variation.domain is Domain.PHOTO
    assert recipe(Task.CLASSIFICATION).variation.domain is Domain.DOCUMENT
    assert recipe(Task.SEMANTIC, domain=Domain.ANY).variation.domain is Domain.ANY
    instance = recipe(Task.INSTANCE)
    assert instance.detection is not None
    assert instance.crop_px * (instance.detection.scale or 1) <= 320


def test_of_images_that_are_not_square_a_classifier_sees_all() -> None:
    wide = recipe(Task.CLASSIFICATION, facts=ImageFacts(grey=True, deep=False, shorter_sides_px=(20,) * 3,
                                                        aspects=(3.0,) * 3)).resize
    assert wide is not None
    assert (wide.fit, wide.crop_px) == (Fit.PAD, 128)
    square = recipe(Task.CLASSIFICATION, facts=ImageFacts(grey=True, deep=False, shorter_sides_px=(20,) * 3,
                                                          aspects=(1.1,) * 3)).resize
    assert square is not None
    assert (square.fit, square.crop_px) == (Fit.CROP, 64)


@pytest.mark.parametrize(("n_images", "examples"), [(10, 2400), (80, 2400), (800, 12000), (2000, 24000), (9000, 72000)])
def test_few_images_are_seen_often_and_many_at_least_eight_times(n_images: int, examples: int) -> None:
    course = recipe(Task.SEMANTIC, n_images=n_images).course
    assert course.steps * course.batch == examples
    assert course.round_steps * 20 <= course.steps


def test_epochs_are_passes_over_the_images() -> None:
    course = recipe(Task.CLASSIFICATION, n_images=100, epochs=3).course
    assert course.steps == 19  # of 16
    with pytest.raises(ConfigError, match="--epochs: expected at least 1"):
        recipe(Task.CLASSIFICATION, epochs=0)
    with pytest.raises(ConfigError, match="a classifier is all encoder"):
        recipe(Task.CLASSIFICATION, arch="a", encoder="b")


def card(task: Task, *, channels: int = 3) -> ModelCard:
    arch = "tf_efficientnet_lite0" if task is Task.CLASSIFICATION else "unet"
    return ModelCard(
        name="x", family="classifier" if task is Task.CLASSIFICATION else "smp", task=task, arch=arch, licence="x",
        encoder=None if task is Task.CLASSIFICATION else "tu-tf_efficientnet_lite0", classes=(ClassNode(name="a"),),
        channels=channels, weights_sha256="0" * 64, resize=Resize() if task is Task.CLASSIFICATION else None,
        normalisation=Normalisation(mean=(0.5,) * channels, std=(0.5,) * channels))


@pytest.mark.parametrize(("task", "channels", "taken"), [(Task.SEMANTIC, 3, 288), (Task.SEMANTIC, 1, 288),
                                                         (Task.CLASSIFICATION, 3, 294)])
def test_imagenets_weights_are_put_in_their_places(task: Task, channels: int, taken: int) -> None:
    if not (settings().assets_dir / "efficientnet-lite0-57934424.pth").exists():
        pytest.fail("expected what `segsvc models pull` fetches")
    random, start = (started(card(task, channels=channels), init, assets=settings().assets_dir, seed=0)
                     for init in ("random", "imagenet"))
    assert (random.taken, start.taken) == (0, taken)
    stem = "encoder.model.conv_stem.weight" if task is Task.SEMANTIC else "conv_stem.weight"
    assert start.network.state_dict()[stem].shape[1] == channels
    assert not torch.equal(start.network.state_dict()[stem], random.network.state_dict()[stem])


def test_weights_that_are_not_here_say_where_they_would_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Run `segsvc models pull`"):
        started(card(Task.SEMANTIC), "imagenet", assets=tmp_path, seed=0)


def test_a_model_of_which_nothing_fits_is_no_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none fits"):
        started(card(Task.CLASSIFICATION).model_copy(update={"arch": "test_vit"}), "nuclei", assets=tmp_path, seed=0)


def test_losses_are_of_each_example_alone_and_pixels_to_ignore_do_not_count() -> None:
    random = torch.Generator().manual_seed(0)
    raw = torch.randn(3, 2, 8, 8, generator=random)
    shares = (torch.rand(3, 2, 8, 8, generator=random) > 0.5).float()
    counts = torch.ones(3, 1, 8, 8, dtype=torch.bool)
    counts[1, :, :4] = False
    rare = torch.tensor([0.0, 1.0])
    losses = semantic_losses(raw, shares, counts, rare=rare)
    alone = torch.cat([semantic_losses(raw[i: i + 1], shares[i: i + 1], counts[i: i + 1], rare=rare) for i in range(3)])
    assert torch.allclose(losses, alone)
    raw[1, :, :4] = 50
    assert torch.allclose(semantic_losses(raw, shares, counts, rare=rare), losses)
    perfect = semantic_losses(20 * (2 * shares - 1), shares, torch.ones_like(counts), rare=rare)
    assert float(perfect.max()) < 0.01
    assert float(semantic_losses(-20 * (2 * shares - 1), shares, torch.ones_like(counts), rare=rare).min()) > 1


def test_classes_are_learnt_as_one_of_them_or_each_by_itself() -> None:
    raw, shown = torch.tensor([[4.0, -4.0], [-4.0, 4.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    for exclusive in (True, False):
        right, wrong = classification_losses(raw, shown, exclusive=exclusive, smooth=0.0).tolist()
        assert right < 0.05
        assert wrong > 3
    both = classification_losses(torch.full((1, 2), 5.0), torch.ones(1, 2), exclusive=False, smooth=0.0)
    assert float(both) < 0.05
