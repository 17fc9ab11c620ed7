"""What is asked of an import, and what a source turns out to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from segsvc.card import Activation, ClassNode, ModelCard, Task
from segsvc.errors import ConfigError

if TYPE_CHECKING:
    import torch

NO_WEIGHTS = "0" * 64  # in the card of a draft, whose weights are not written yet
_FLAGS = {"options": "option", "anchor_sizes_px": "anchor-sizes"}  # where a setting's flag has another name


class SourceKind(StrEnum):
    """What a source is."""

    SMP = "smp"  # a folder or hub id with config.json as segmentation-models-pytorch writes it
    TIMM = "timm"  # the same of timm
    TORCHVISION = "torchvision"  # weights of torchvision's Mask R-CNN
    ONNX = "onnx"  # a graph in one file
    STATE_DICT = "state-dict"  # tensors by name; what network they are for is said by flags


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a card says of a model that its weights do not: what it is for, where it comes from, whose data it has seen."""

    description: str
    source: str
    trained_on: str = ""
    not_for: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """What the user says of a source. What stays None is taken from the source, else from its library's defaults."""

    source: str
    name: str
    kind: SourceKind | None = None
    task: Task | None = None
    arch: str | None = None
    encoder: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    classes: tuple[ClassNode, ...] | None = None
    activation: Activation | None = None
    background: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    prefix: str | None = None
    anchor_sizes_px: tuple[tuple[float, ...], ...] | None = None
    anchor_ratios: tuple[float, ...] | None = None
    norm_eps: float | None = None
    licence: str = "unstated"
    provenance: Provenance | None = None
    tile_px: int | None = None
    crop_px: int | None = None

    def check_unused(self, kind: str, *names: str) -> None:
        """Raises ConfigError where a setting is given that the kind does not have: it would be taken for obeyed."""
        for name in names:
            if getattr(self, name) not in (None, False, {}):
                flag = _FLAGS.get(name, name.replace("_", "-"))
                raise ConfigError(f"--{flag}: a source of the kind {kind} does not have it: leave it out")


@dataclass(frozen=True, slots=True)
class Draft:
    """A model that is about to be written.

    card: with `NO_WEIGHTS`. network: of the source's own library, in evaluation mode and with the source's weights; it
    answers as that library does, with scores where `answers_scores`, else with raw outputs. A detector is torchvision's
    module, of whose outputs `kept` are background and the card's classes. notes: for the user.
    """

    card: ModelCard
    state: Mapping[str, torch.Tensor]
    network: torch.nn.Module
    library: str
    answers_scores: bool = False
    kept: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def named_classes(request: ImportRequest, outputs: int, known: tuple[str, ...] | None = None) -> tuple[ClassNode, ...]:
    """The classes of that many outputs: the user's, else those the source knows, else class_0, class_1 ...

    Raises ConfigError where the user names another number of them.
    """
    wanted = outputs - request.background
    if wanted < 1:
        raise ConfigError(f"--background: expected outputs for a background and at least one class, the network has "
                          f"{outputs}")
    if request.classes is not None:
        if len(request.classes) != wanted:
            also = f" beside the background ({outputs} outputs)" if request.background else ""
            raise ConfigError(f"--classes: expected {wanted} names{also}, got {len(request.classes)}: "
                              f"{', '.join(node.name for node in request.classes[:5])}"
                              f"{' ...' if len(request.classes) > 5 else ''}")
        return request.classes
    if known is not None and len(known) == outputs and len(set(known)) == outputs:
        return tuple(ClassNode(name=name) for name in known[outputs - wanted:])
    return tuple(ClassNode(name=f"class_{number}") for number in range(wanted))


def activation_of(request: ImportRequest, outputs: int, said: Activation | None = None) -> Activation:
    """How raw outputs become scores: as the user or the source says, else one by sigmoid and several by softmax."""
    if request.activation is not None and said is not None and request.activation is not said:
        raise ConfigError(f"--activation {request.activation}: the source says {said}; leave it out")
    chosen = request.activation or said or (Activation.SIGMOID if outputs == 1 else Activation.SOFTMAX)
    if chosen is Activation.SOFTMAX and outputs == 1:
        raise ConfigError("--activation softmax: expected at least two outputs, the network has 1. Use sigmoid.")
    if request.background and chosen is not Activation.SOFTMAX:
        raise ConfigError("--background: expected softmax, under which background is one of the classes, got sigmoid")
    return chosen


def parse_classes(text: str) -> tuple[ClassNode, ...]:
    """Classes out of `a,b,c`, or of a file with a line for each output of the network, in their order.

    A line is a name, or a name with its ancestors: `trailer < car < traffic`. Each ancestor has a line of its own, as it is
    a class of the model. Raises ConfigError for names that are empty, said twice or unknown, parents that contradict, and a
    file that is not there.
    """
    file = Path(text)
    if "," not in text and file.is_file():
        try:
            lines = file.read_text("utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError(f"--classes {text}: expected a text file in UTF-8: {error}") from error
        lines = [line for line in lines if line.strip()]
    elif "," not in text and file.suffix == ".txt":
        raise ConfigError(f"--classes {text}: expected names by comma, or a file with a line for each output; there is no "
                          "such file")
    else:
        lines = text.split(",")
    chains = [[name.strip() for name in line.split("<")] for line in lines]
    names = [chain[0] for chain in chains]
    if not names or any(not name for chain in chains for name in chain):
        raise ConfigError(f"--classes {text}: expected names, got an empty one")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"--classes: expected each name once, got {twice!r} twice")
    parents: dict[str, str] = {}
    for chain in chains:
        for child, parent in pairwise(chain):
            if parents.setdefault(child, parent) != parent:
                raise ConfigError(f"--classes: {child!r} has the parent {parents[child]!r} in one line, {parent!r} in "
                                  "another")
            if parent not in names:
                raise ConfigError(f"--classes: {parent!r} is a parent but has no line: each output of the network has one")
    _check_no_circle(parents)
    return tuple(ClassNode(name=name, parent=parents.get(name)) for name in names)


def _check_no_circle(parents: Mapping[str, str]) -> None:
    for name in parents:
        seen, at = {name}, parents.get(name)
        while at is not None:
            if at in seen:
                raise ConfigError(f"--classes: {at!r} is its own ancestor")
            seen.add(at)
            at = parents.get(at)
