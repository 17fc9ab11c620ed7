"""What a training has come to, on disk: one safetensors file, there whole, from which it goes on to the same weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from segsvc.errors import ConfigError
from segsvc.models.checkpoint import write_whole

Weights = dict[str, torch.Tensor]
_FORMAT = "1"


@dataclass(frozen=True, slots=True)
class Point:
    """One round: the step at its end, the mean training loss in it, and the figures on validation."""

    step: int
    loss: float
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Best:
    """The averaged weights that did best on validation so far, and when that was."""

    score: float
    step: int
    weights: Weights


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a training stands after a round."""

    step: int = 0
    curve: tuple[Point, ...] = ()
    best: Best | None = None
    rounds_without_gain: int = 0
    stopped: bool = False


class Progress:
    """The file that a training writes down its standing in.

    what: says which training it is of: data, recipe and seed; a file of another is refused.
    """

    def __init__(self, path: Path, what: Mapping[str, Any]) -> None:
        self._path = path
        self._what = json.dumps(what, sort_keys=True)

    def restore(self, network: torch.nn.Module, average: torch.nn.Module, optimiser: torch.optim.Optimizer) -> Standing:
        """Puts into all three what they were when the file was written; the beginning where there is none.

        Raises ConfigError where the file is of another training or damaged.
        """
        if not self._path.exists():
            return Standing()
        try:
            with safetensors.safe_open(self._path, framework="pt") as file:
                said = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            if said.get("format") != _FORMAT or said.get("what") != self._what:
                raise ConfigError(f"{self._path}: expected the state of this training, got that of another: data, options "
                                  "or seed differ. Ask for the same ones, or train into another folder.")
            about = json.loads(said["standing"])
            network.load_state_dict(_below(tensors, "network"))
            average.load_state_dict(_below(tensors, "average"))
            _restore_optimiser(optimiser, _below(tensors, "optimiser"))
            best = about.pop("best")
            return Standing(
                step=about["step"], curve=tuple(Point(**point) for point in about["curve"]),
                best=Best(best["score"], best["step"], _below(tensors, "best")) if best is not None else None,
                rounds_without_gain=about["rounds_without_gain"], stopped=about["stopped"])
        except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise ConfigError(f"{self._path}: expected the state of a training, got: {error}. Delete it to begin anew."
                              ) from error

    def keep(self, standing: Standing, network: torch.nn.Module, average: torch.nn.Module,
             optimiser: torch.optim.Optimizer) -> None:
        """Writes the file anew. Raises ConfigError where that cannot be done."""
        parts = {"network": network.state_dict(), "average": average.state_dict(), "optimiser": _of_optimiser(optimiser),
                 "best": standing.best.weights if standing.best is not None else {}}
        tensors = {f"{part}/{name}": value.detach().cpu().contiguous().clone()
                   for part, values in parts.items() for name, value in values.items()}
        best = None if standing.best is None else {"score": standing.best.score, "step": standing.best.step}
        about = {"step": standing.step, "curve": [asdict(point) for point in standing.curve], "best": best,
                 "rounds_without_gain": standing.rounds_without_gain, "stopped": standing.stopped}
        metadata = {"format": _FORMAT, "what": self._what, "standing": json.dumps(about)}
        write_whole(self._path, safetensors.torch.save(tensors, metadata=metadata))


def _below(tensors: Mapping[str, torch.Tensor], part: str) -> Weights:
    return {name.removeprefix(f"{part}/"): value for name, value in tensors.items() if name.startswith(f"{part}/")}


def _of_optimiser(optimiser: torch.optim.Optimizer) -> Weights:
    return {f"{number}/{name}": value for number, values in optimiser.state_dict()["state"].items()
            for name, value in values.items()}


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split("/")
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
