"""Several processes that learn as one: to the last digits what one process learns from the whole batch."""

from __future__ import annotations

import copy
import multiprocessing
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from segsvc.training.loop import Course, Training
from segsvc.training.norms import RunningEvenly, SynchronisedNorms
from segsvc.training.state import Progress, Weights
from tests.training.gloo import joined

COURSE = Course(steps=9, batch=4, round_steps=3, patience_rounds=10, learning_rate=0.02, seed=5)


class Brightness:
    """A lesson: how bright an image is; with `alone` each image is seen without the others of its batch."""

    def __init__(self, *, alone: bool) -> None:
        self.sees_batches = not alone
        self._images = np.random.default_rng(1).random((6, 3, 8, 8))

    @property
    def size(self) -> int:
        return len(self._images)

    def sample(self, index: int, random: np.random.Generator) -> tuple[torch.Tensor, float]:
        image = self._images[index] * random.uniform(0.5, 1.5)
        return torch.from_numpy(image), float(image.mean())

    def losses(self, network: torch.nn.Module, samples: Sequence[tuple[torch.Tensor, float]]) -> torch.Tensor:
        wanted = torch.tensor([each for _, each in samples], dtype=torch.float64)
        if self.sees_batches:
            return (network(torch.stack([image for image, _ in samples]))[:, 0] - wanted) ** 2
        answers = []
        with RunningEvenly(network) as running:
            for image, _ in samples:
                answers.append(network(image[None])[0, 0])
                running.saw_one()
        return (torch.stack(answers) - wanted) ** 2

    def validate(self, network: torch.nn.Module) -> Mapping[str, float]:
        with torch.inference_mode():
            answers = network(torch.from_numpy(self._images))[:, 0]
        return {"score": -float(((answers - torch.from_numpy(self._images.mean(axis=(1, 2, 3)))) ** 2).mean())}


class Forked(torch.nn.Module):
    """A network with a part that only bright images reach, so that some processes have no gradient for it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
                                        torch.nn.Conv2d(4, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(),
                                        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        self.head, self.extra = torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.stem(images)
        answer: torch.Tensor = self.head(found)
        return answer + self.extra(found) if float(images.detach().mean()) > 0.6 else answer


def learnt(folder: Path, *, alone: bool, rank: int = 0, size: int = 1) -> Weights:
    network = (Forked() if alone else Forked().stem.append(torch.nn.Linear(4, 1))).double()
    progress = Progress(folder / f"{size}.safetensors", {})
    if size == 1:
        return Training(network, Brightness(alone=alone), COURSE, progress=progress).learn()[0].weights
    with joined(folder, rank=rank, size=size) as group:
        best, _ = Training(network, Brightness(alone=alone), COURSE, progress=progress, group=group).learn()
    return best.weights


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes learnt of each lesson: `alone-rank.npz`."""
    folder = tmp_path_factory.mktemp("two")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write, args=(folder, rank, 2)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return folder


def write(folder: Path, rank: int, size: int) -> None:
    for alone in (False, True):
        (folder / str(alone)).mkdir(exist_ok=True)
        weights = learnt(folder / str(alone), alone=alone, rank=rank, size=size)
        np.savez(folder / f"{alone}-{rank}.npz", **{name: values.numpy() for name, values in weights.items()})


@pytest.mark.parametrize("alone", [False, True])
def test_two_processes_learn_what_one_does_from_the_whole_batch(tmp_path: Path, by_two: Path, alone: bool) -> None:
    one = learnt(tmp_path, alone=alone)
    first, second = ({name: torch.from_numpy(values) for name, values in np.load(by_two / f"{alone}-{rank}.npz").items()}
                     for rank in range(2))
    for name, values in one.items():
        assert torch.equal(first[name], second[name]), name
        if "num_batches" not in name:  # each process counts its own passes
            assert torch.allclose(values, first[name], rtol=0, atol=1e-6), name
    assert max(float((values - other[1]).abs().max()) for values, other in zip(
        one.values(), Forked().double().state_dict().items(), strict=False)) > 0.05


def test_running_statistics_do_not_depend_on_the_order_of_the_examples() -> None:
    images = torch.from_numpy(np.random.default_rng(2).random((3, 3, 8, 8)))
    found = []
    for order in ((0, 1, 2), (2, 0, 1)):
        network = Forked().double().train()
        with RunningEvenly(network) as running:
            for number in order:
                network(images[number][None])
                running.saw_one()
        norm = network.stem[1]
        assert isinstance(norm, torch.nn.BatchNorm2d)
        assert norm.momentum == 0.1
        found.append(copy.deepcopy(norm.state_dict()))
    for name in ("running_mean", "running_var"):
        assert torch.allclose(found[0][name], found[1][name], rtol=0, atol=1e-12)
    assert not torch.allclose(found[0]["running_mean"], torch.zeros(4, dtype=torch.float64), atol=1e-3)


@pytest.mark.parametrize("affine", [True, False])
def test_a_synchronised_norm_of_one_process_is_the_norm_itself(affine: bool) -> None:
    class One:
        rank, size = 0, 1

        def mean_(self, tensors: Sequence[torch.Tensor]) -> None:
            """They are the mean."""

        def of_first(self, value: float) -> float:
            return value

    images = torch.from_numpy(np.random.default_rng(2).normal(3, 2, (4, 5, 6, 7)))
    answers = []
    for one in (False, True):
        norm = torch.nn.BatchNorm2d(5, affine=affine, dtype=torch.float64)
        given = images.clone().requires_grad_()
        if one:
            with SynchronisedNorms(One()):
                answer = norm(given)
        else:
            answer = norm(given)
        (answer ** 3).sum().backward()
        assert given.grad is not None
        gradients = [each.grad for each in norm.parameters() if each.grad is not None]
        answers.append([answer.detach(), given.grad, *norm.state_dict().values(), *gradients])
    for plain, synchronised in zip(*answers, strict=True):
        assert torch.allclose(plain.double(), synchronised.double(), rtol=1e-9, atol=1e-9)
