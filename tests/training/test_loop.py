from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from segsvc.errors import ConfigError
from segsvc.training.loop import Course, Training
from segsvc.training.state import Best, Point, Progress, Weights

COURSE = Course(steps=12, batch=4, round_steps=3, patience_rounds=10, learning_rate=0.02, seed=5)
IMAGES = 6


class Brightness:
    """A lesson: how bright an image is. Validation is the loss on held images; `stop_after` ends the process there."""

    sees_batches = True

    def __init__(self, stop_after: int = 10**9, scores: Sequence[float] = ()) -> None:
        self._images = np.random.default_rng(1).random((IMAGES, 3, 8, 8)).astype(np.float32)
        self._stop_after, self._drawn, self._scores = stop_after, 0, list(scores)
        self.order: list[tuple[int, float]] = []

    @property
    def size(self) -> int:
        return IMAGES

    def sample(self, index: int, random: np.random.Generator) -> tuple[torch.Tensor, float]:
        gain = float(random.uniform(0.5, 1.5))
        self.order.append((index, gain))
        return torch.from_numpy(self._images[index] * np.float32(gain)), float(self._images[index].mean()) * gain

    def losses(self, network: torch.nn.Module, samples: Sequence[tuple[torch.Tensor, float]]) -> torch.Tensor:
        self._drawn += 1
        if self._drawn > self._stop_after:
            raise KeyboardInterrupt
        answers: torch.Tensor = network(torch.stack([image for image, _ in samples]))[:, 0]
        return (answers - torch.tensor([wanted for _, wanted in samples])) ** 2

    def validate(self, network: torch.nn.Module) -> Mapping[str, float]:
        if self._scores:
            return {"score": self._scores.pop(0)}
        with torch.inference_mode():
            answers = network(torch.from_numpy(self._images))[:, 0]
            return {"score": -float(((answers - torch.from_numpy(self._images.mean(axis=(1, 2, 3)))) ** 2).mean())}


def network() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Dropout(0.2),
                               torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 1))


def progress(folder: Path, what: str = "this one") -> Progress:
    return Progress(folder / "state.safetensors", {"what": what})


def learn(folder: Path, lesson: Brightness, course: Course = COURSE) -> tuple[Best, tuple[Point, ...]]:
    return Training(network(), lesson, course, progress=progress(folder)).learn()


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    one, other = (learn(tmp_path / name, Brightness())[0] for name in ("one", "other"))
    assert same(one.weights, other.weights)
    assert not same(one.weights, learn(tmp_path / "third", Brightness(), replace(COURSE, seed=6))[0].weights)


def test_it_learns(tmp_path: Path) -> None:
    best, curve = learn(tmp_path, Brightness(), replace(COURSE, steps=60, round_steps=10))
    assert [point.step for point in curve] == [10, 20, 30, 40, 50, 60]
    assert curve[-1].loss < curve[0].loss / 2
    assert best.score == max(point.figures["score"] for point in curve)


@pytest.mark.parametrize("stop_after", [1, 5, 6, 11])
def test_a_training_that_was_interrupted_ends_in_the_weights_of_one_that_was_not(tmp_path: Path, stop_after: int) -> None:
    whole, curve = learn(tmp_path / "whole", Brightness())
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "cut", Brightness(stop_after))
    resumed, resumed_curve = learn(tmp_path / "cut", Brightness())
    assert same(resumed.weights, whole.weights)
    assert resumed_curve == curve
    again, _ = learn(tmp_path / "cut", Brightness(stop_after=0))  # it is done: nothing is computed
    assert same(again.weights, whole.weights)


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own(tmp_path: Path) -> None:
    lesson = Brightness()
    learn(tmp_path, lesson, replace(COURSE, steps=9, batch=4, readers=0))
    epochs = [[index for index, _ in lesson.order[start: start + IMAGES]] for start in range(0, 36, IMAGES)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(IMAGES))] * 6
    assert len({tuple(epoch) for epoch in epochs}) > 3
    assert len({gain for _, gain in lesson.order}) == 36


def test_the_weights_that_did_best_on_validation_are_kept_and_patience_ends_it(tmp_path: Path) -> None:
    best, curve = learn(tmp_path, Brightness(scores=[0.1, 0.8, 0.3, 0.2, 0.9]), replace(
        COURSE, steps=30, patience_rounds=2))
    assert (best.step, best.score) == (6, 0.8)
    assert len(curve) == 4


def test_a_frozen_encoder_learns_later_and_slower(tmp_path: Path) -> None:
    course = replace(COURSE, freeze_encoder=True, steps=20, round_steps=5, patience_rounds=99)
    trained, began = network(), network().state_dict()
    lesson = Brightness(stop_after=6)  # 30 % of 20 steps
    with pytest.raises(KeyboardInterrupt):
        Training(trained, lesson, course, progress=progress(tmp_path), encoder=("0.", "1.")).learn()
    assert torch.equal(trained.state_dict()["0.weight"], began["0.weight"])
    assert torch.equal(trained.state_dict()["1.running_mean"], began["1.running_mean"])
    assert not torch.equal(trained.state_dict()["6.weight"], began["6.weight"])
    resumed = network()
    Training(resumed, Brightness(), course, progress=progress(tmp_path), encoder=("0.", "1.")).learn()
    assert not torch.equal(resumed.state_dict()["0.weight"], began["0.weight"])


def test_the_state_of_another_training_is_refused_and_a_damaged_one_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path, Brightness(stop_after=5))
    with pytest.raises(ConfigError, match="that of another: data, options or seed differ"):
        Training(network(), Brightness(), COURSE, progress=progress(tmp_path, "another")).learn()
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"state\.safetensors: expected the state of a training"):
        learn(tmp_path, Brightness())


class Unjudged(Brightness):
    """Without validation the last weights count."""

    def validate(self, network: torch.nn.Module) -> Mapping[str, float]:
        return {}


def test_batch_statistics_follow_the_data_even_in_a_short_course(tmp_path: Path) -> None:
    slow, lesson = network(), Unjudged()
    slow.get_submodule("1").momentum = 0.001  # type: ignore[assignment]
    course = replace(COURSE, steps=60, round_steps=20, learning_rate=1e-4)
    best, _ = Training(slow, lesson, course, progress=progress(tmp_path)).learn()
    assert best.step == 60
    trained = network()
    trained.load_state_dict(best.weights)
    inputs = torch.stack([lesson.sample(index, np.random.default_rng(index))[0] for index in range(IMAGES)])
    with torch.inference_mode():
        wanted = trained.get_submodule("0")(inputs).mean(dim=(0, 2, 3))
    assert torch.allclose(best.weights["1.running_mean"], wanted, atol=0.1)
