"""Tensors by name, fitted to a network: prefixes found, shapes compared, then loaded as the network's own library does."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from segsvc import plugins
from segsvc.card import ModelCard
from segsvc.errors import ConfigError
from segsvc.models import Family

_COUNTED = "num_batches_tracked"  # which old checkpoints and frozen layers do not have

State = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The network with the tensors loaded, in evaluation mode, and what is to be said of how they were found."""

    network: torch.nn.Module
    notes: tuple[str, ...]


def fitted(card: ModelCard, tensors: Mapping[str, torch.Tensor], *, prefix: str | None, left_out: tuple[str, ...] = ()
           ) -> Fitted:
    """The network of a card's family with those tensors.

    prefix: what the names begin with; None looks for it. left_out: beginnings of names that the network needs not have.
    Shapes are compared before anything of their size is made. Raises ConfigError: which tensors, expected and got.
    """
    family: Family = plugins.load(plugins.PluginKind.MODEL, card.family)
    outline = _outline(family, card)
    chosen, notes = without_prefix(tensors, set(outline.state_dict()), prefix)
    kept = {name: value for name, value in chosen.items() if not name.startswith(left_out)} if left_out else chosen
    if len(kept) < len(chosen):
        notes = (*notes, f"{len(chosen) - len(kept)} tensors of {', '.join(left_out)} were left out: they are not needed")
    load(outline, kept, what=_described(card))
    network = family.build(card) if _is_meta(outline) else outline
    load(network, kept, what=_described(card))
    return Fitted(network.eval(), notes)


def load(network: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, what: str) -> None:
    """Loads all tensors into the network, by its own rules for old names. Raises ConfigError where they do not fit."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on the meta device nothing is copied, and it says so of each tensor
            network.load_state_dict(dict(tensors))
    except (RuntimeError, KeyError) as error:
        raise ConfigError(_difference(network, tensors, what)) from error


def outputs_of(tensors: Mapping[str, torch.Tensor], name: str) -> int | None:
    """How many outputs the layer has whose weight ends in that name; None where there is no such one, or several."""
    found = [value for each, value in tensors.items() if each == name or each.endswith("." + name)]
    return int(found[0].shape[0]) if len(found) == 1 and found[0].ndim > 1 else None


def without_prefix(tensors: Mapping[str, torch.Tensor], wanted: set[str], prefix: str | None
                   ) -> tuple[State, tuple[str, ...]]:
    """The tensors below the prefix, named without it, and what is to be said of that.

    prefix: None looks for the one under which the most of the wanted names lie. Raises ConfigError where none lies there.
    """
    given = prefix
    if prefix is None:
        prefix = _found_prefix(tensors, wanted)
    below = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    if not below:
        raise ConfigError(f"--prefix {given}: none of {len(tensors)} tensors begins so; they are called "
                          f"{', '.join(sorted(tensors)[:3])} ...")
    notes: tuple[str, ...] = ()
    if prefix:
        others = sorted(set(tensors) - {prefix + name for name in below})
        notes = (f"names without their prefix {prefix!r}" + (
            f"; {len(others)} tensors that do not have it were left out: {', '.join(others[:3])}" if others else ""),)
    return below, notes


def _found_prefix(tensors: Mapping[str, torch.Tensor], wanted: set[str]) -> str:
    votes: Counter[str] = Counter()
    for name in tensors:
        steps = name.split(".")
        for at in range(min(len(steps), 6)):
            if ".".join(steps[at:]) in wanted:
                votes["".join(f"{step}." for step in steps[:at])] += 1
    return max(votes, key=lambda each: (votes[each], -len(each), each)) if votes else ""


def _outline(family: Family, card: ModelCard) -> torch.nn.Module:
    """The network without memory for its tensors; with it where its library cannot build it otherwise."""
    try:
        with torch.device("meta"):
            return family.build(card)
    except (ConfigError, RuntimeError, NotImplementedError):
        return family.build(card)


def _is_meta(network: torch.nn.Module) -> bool:
    return any(value.is_meta for value in network.state_dict().values())


def _described(card: ModelCard) -> str:
    return f"{card.arch} with {card.encoder}" if card.encoder else card.arch


def _difference(network: torch.nn.Module, tensors: Mapping[str, torch.Tensor], what: str) -> str:
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    got = {name: tuple(value.shape) for name, value in tensors.items()}
    both = expected.keys() & got.keys()
    wrong = [name for name in expected if name in both and expected[name] != got[name]]
    missing = [name for name in expected if name not in both and not name.endswith(_COUNTED)]
    unexpected = [name for name in got if name not in both]
    shown = [*wrong, *missing[:2], *unexpected[:1], *missing[2:], *unexpected[1:]][:3]
    listed = "; ".join(f"{name}: expected {expected.get(name, 'none')}, got {got.get(name, 'none')}" for name in shown)
    counts = f"{len(wrong)} of another shape, {len(missing)} missing, {len(unexpected)} not expected"
    return (f"the tensors do not fit {what} ({counts}): {listed}. See that --arch, --encoder, --classes and --prefix are "
            "those it was made with.")
