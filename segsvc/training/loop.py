"""The training loop: the same for every task, for one process or several, and the same bytes after an interruption.

All that is drawn is drawn from the seed and the place of the example, so that nothing but the step must be known to go on.
What is kept of a model is a running average of its weights; the one that was best on validation counts.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch

from segsvc.readahead import in_order
from segsvc.training.group import Alone, Group
from segsvc.training.norms import SynchronisedNorms, norms_of
from segsvc.training.state import Best, Point, Progress, Standing

Sample = Any  # what a lesson draws is understood by itself alone
_AVERAGED_OVER = 0.02  # of all steps: the horizon of the running average
_THAWED_AFTER = 0.3  # of all steps: when a frozen encoder begins to learn ...
_THAWED_RATE = 0.1  # ... and at which share of the rate
_SAY_EVERY_S = 5.0
_MOMENTUM = 0.1  # of batch statistics: some encoders bring 0.01, with which a short course keeps those of ImageNet


class Lesson(Protocol):
    """What a task brings to the loop.

    sees_batches: whether the network is given the examples of a batch together.
    """

    sees_batches: bool

    @property
    def size(self) -> int:
        """How many images there are to learn from."""

    def sample(self, index: int, random: np.random.Generator) -> Sample:
        """An example made of image `index`, varied by what is drawn. Called by several threads."""

    def losses(self, network: torch.nn.Module, samples: Sequence[Sample]) -> torch.Tensor:
        """(n,) the loss of each example; none depends on the others of its batch."""

    def validate(self, network: torch.nn.Module) -> Mapping[str, float]:
        """Figures on validation. `score` is the one that counts: higher is better. None without validation images."""


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast: `steps` of `batch` examples each, a look at validation after every `round_steps`."""

    steps: int
    batch: int
    round_steps: int
    patience_rounds: int
    learning_rate: float
    weight_decay: float = 0.01
    warm_up: float = 0.1  # of all steps
    clip: float = 1.0
    freeze_encoder: bool = False
    freeze_norms: bool = False  # batch normalisation keeps the statistics that it came with
    seed: int = 0
    threads: int = 1
    readers: int = 2


class Training:
    """A network while it learns. The same data, course and seed give the same bytes on one machine."""

    def __init__(self, network: torch.nn.Module, lesson: Lesson, course: Course, *, progress: Progress,
                 encoder: Sequence[str] = (), group: Group | None = None,
                 say: Callable[[str], None] = lambda line: None) -> None:
        """encoder: beginnings of the names of the parameters that `course.freeze_encoder` holds at first."""
        torch.set_num_threads(course.threads)
        torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a tenth of a step
        self._network = network.to(memory_format=torch.channels_last)
        for norm in norms_of(self._network):
            if norm.momentum is not None:
                norm.momentum = max(norm.momentum, _MOMENTUM)
        self._average = copy.deepcopy(self._network).requires_grad_(False).eval()
        self._lesson, self._course, self._progress = lesson, course, progress
        self._encoder, self._group = tuple(encoder), group or Alone()
        self._optimiser = _optimiser(self._network, course, self._encoder)
        self._device = next(network.parameters()).device
        self._said_by = say

    def learn(self) -> tuple[Best, tuple[Point, ...]]:
        """The weights that were best on validation, and the rounds that led there; goes on where it was interrupted."""
        course = self._course
        standing = self._progress.restore(self._network, self._average, self._optimiser)
        samples, clock = self._samples(standing.step), _Clock(course.steps, standing.step)
        lost: list[float] = []
        while standing.step < course.steps and not standing.stopped:
            lost.append(self._step(standing.step, list(islice(samples, course.batch // self._group.size))))
            standing = replace(standing, step=standing.step + 1)
            if standing.step % course.round_steps and standing.step < course.steps:
                self._say(clock.line(standing.step))
                continue
            standing = self._rounded(standing, math.fsum(lost) / len(lost))
            if self._group.rank == 0:
                self._progress.keep(standing, self._network, self._average, self._optimiser)
            last = standing.curve[-1]
            shown = {"loss": last.loss, **{name: value for name, value in last.figures.items() if name != "score"}}
            self._say(", ".join([clock.place(last.step), *(f"{name} {value:.4f}" for name, value in shown.items())]))
            lost = []
        if standing.best is None:
            raise ValueError(f"expected at least one step, got {course.steps}")
        return standing.best, standing.curve

    def _samples(self, first_step: int) -> Iterator[Sample]:
        """This process's examples, batch by batch, drawn ahead by threads."""
        course, size = self._course, self._lesson.size
        share = course.batch // self._group.size

        def places() -> Iterator[int]:
            for step in range(first_step, course.steps):
                start = step * course.batch + self._group.rank * share
                yield from range(start, start + share)

        def draw(place: int) -> Sample:
            epoch, within = divmod(place, size)
            order = np.random.default_rng((course.seed, 0, epoch)).permutation(size)
            return self._lesson.sample(int(order[within]), np.random.default_rng((course.seed, 1, place)))

        return in_order(draw, places(), at_once=max(2 * share, 2 * course.readers) if course.readers else 1)

    def _step(self, step: int, samples: Sequence[Sample]) -> float:
        course = self._course
        frozen = course.freeze_encoder and step < _THAWED_AFTER * course.steps
        self._network.train()
        for name, parameter in self._network.named_parameters():
            if name.startswith(self._encoder):
                parameter.requires_grad_(not frozen)
        for name, module in self._network.named_modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and (
                    course.freeze_norms or (frozen and f"{name}.".startswith(self._encoder))):
                module.eval()
        for kind in self._optimiser.param_groups:
            kind["lr"] = _rate(course, step) * kind["share"]
        torch.manual_seed(int(np.random.default_rng((course.seed, 2, step, self._group.rank)).integers(2**62)))
        self._optimiser.zero_grad(set_to_none=True)
        together = self._group.size > 1 and self._lesson.sees_batches
        with SynchronisedNorms(self._group) if together else nullcontext():
            with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self._device.type == "cuda"):
                loss = self._lesson.losses(self._network, samples).mean()
            loss.backward()  # type: ignore[no-untyped-call]
        learnt, mean_loss = self._shared(loss.detach())
        torch.nn.utils.clip_grad_norm_(learnt, course.clip)
        self._optimiser.step()
        self._add_to_average(step)
        return mean_loss

    def _shared(self, loss: torch.Tensor) -> tuple[list[torch.nn.Parameter], float]:
        """Makes gradients and running statistics those of the whole batch; the parameters that learn, and the loss."""
        parameters, group = list(self._network.parameters()), self._group
        if group.size > 1:
            loss, used = loss.clone(), torch.tensor([float(each.grad is not None) for each in parameters])
            group.mean_([loss, used])
            for each, share in zip(parameters, used.tolist(), strict=True):
                if share and each.grad is None:  # the examples here left out a part of the network
                    each.grad = torch.zeros_like(each)
            group.mean_([each.grad for each in parameters if each.grad is not None])
            group.mean_([running for norm in norms_of(self._network) if norm.training
                         for running in (norm.running_mean, norm.running_var) if running is not None])
        return [each for each in parameters if each.grad is not None], float(loss)

    def _add_to_average(self, step: int) -> None:
        horizon = max(1.0, _AVERAGED_OVER * self._course.steps)
        decay = min(1 - 1 / horizon, (1 + step) / (10 + step))
        with torch.no_grad():
            new = self._network.state_dict()
            for name, kept in self._average.state_dict().items():
                kept.copy_(kept.lerp(new[name], 1 - decay) if kept.is_floating_point() else new[name])

    def _rounded(self, standing: Standing, loss: float) -> Standing:
        """The standing after a look at validation. Without one the last weights are the best."""
        figures = dict(self._lesson.validate(self._average)) if self._group.rank == 0 else {}
        score = self._group.of_first(figures.get("score", float(standing.step)))
        curve = (*standing.curve, Point(standing.step, loss, figures))
        if standing.best is None or score > standing.best.score:
            weights = {name: value.detach().cpu().clone() for name, value in self._average.state_dict().items()}
            return replace(standing, curve=curve, best=Best(score, standing.step, weights), rounds_without_gain=0)
        idle = standing.rounds_without_gain + 1
        return replace(standing, curve=curve, rounds_without_gain=idle, stopped=idle >= self._course.patience_rounds)

    def _say(self, line: str) -> None:
        if line and self._group.rank == 0:
            self._said_by(line)


def _optimiser(network: torch.nn.Module, course: Course, encoder: tuple[str, ...]) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019); kernels decay, biases and norms do not."""
    kinds: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        late = course.freeze_encoder and name.startswith(encoder)
        kinds.setdefault((late, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW([
        {"params": parameters, "weight_decay": course.weight_decay if decays else 0.0,
         "share": _THAWED_RATE if late else 1.0} for (late, decays), parameters in kinds.items()], lr=course.learning_rate)


def _rate(course: Course, step: int) -> float:
    """A linear warm-up, then half a cosine down to nearly nothing."""
    warm = max(1.0, course.warm_up * course.steps)
    if step < warm:
        return course.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1.0, course.steps - warm)
    return course.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


class _Clock:
    """What is said of the time that is left."""

    def __init__(self, steps: int, done: int) -> None:
        self._steps, self._first, self._begun = steps, done, time.monotonic()
        self._said = self._begun

    def place(self, step: int) -> str:
        left_s = (time.monotonic() - self._begun) / max(1, step - self._first) * (self._steps - step)
        minutes, seconds = divmod(round(left_s), 60)
        return f"step {step} of {self._steps}, at most {minutes} min {seconds:02d} s left"

    def line(self, step: int) -> str:
        """The place, now and then; else nothing."""
        if time.monotonic() - self._said < _SAY_EVERY_S:
            return ""
        self._said = time.monotonic()
        return self.place(step)
