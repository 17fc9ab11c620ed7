"""Classifiers of timm: folders as its hub has them, and tensors whose network the user names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
import torch
from pydantic import ValidationError

from segsvc.card import Extraction, ModelCard, Normalisation, Resize, Task, describe
from segsvc.errors import ConfigError
from segsvc.exchange.request import NO_WEIGHTS, Draft, ImportRequest, activation_of, named_classes
from segsvc.exchange.smp import normalisation_of
from segsvc.exchange.sources import SourceFolder
from segsvc.exchange.state_dicts import fitted, outputs_of, without_prefix
from segsvc.models.checkpoint import read_state
from segsvc.models.timm_names import known_networks

LIBRARY = "timm"
_PLAIN_ARGUMENTS = frozenset({"num_classes", "in_chans", "global_pool"})  # global_pool as the arch has it: compared below


def draft_of_folder(request: ImportRequest, folder: SourceFolder) -> Draft:
    """The model of a folder with config.json: its architecture, normalisation, size of input and names of classes."""
    request.check_unused(LIBRARY, "arch", "encoder", "options", "background", "anchor_sizes_px", "anchor_ratios", "norm_eps")
    arch = str(folder.config["architecture"])
    said = folder.config.get("pretrained_cfg", folder.config)
    if not isinstance(said, dict):
        raise ConfigError(f"config.json: expected pretrained_cfg to be an object, got {type(said).__name__}")
    arguments = folder.config.get("model_args") or {}
    strange = sorted(set(arguments) - _PLAIN_ARGUMENTS) if isinstance(arguments, dict) else ["model_args"]
    if strange:
        raise ConfigError(f"config.json: expected model_args of {', '.join(sorted(_PLAIN_ARGUMENTS))}, got {strange[0]!r}: "
                          "such a network cannot be built here")
    names = folder.config.get("label_names", said.get("label_names"))
    known = tuple(map(str, names)) if isinstance(names, list) and len(names) <= 100_000 else None
    return _draft(request, arch, said, read_state(folder.weights).tensors, known=known)


def draft_of_tensors(request: ImportRequest, tensors: Mapping[str, torch.Tensor]) -> Draft:
    """The model of tensors by name; the network is the user's --arch."""
    request.check_unused(LIBRARY, "encoder", "options", "background", "anchor_sizes_px", "anchor_ratios", "norm_eps")
    if request.arch is None:
        raise ConfigError("--arch: expected the name of a network of timm, as tensors alone do not say it, e.g. --arch "
                          f"resnet50. They are called {', '.join(list(tensors)[:3])} ...")
    return _draft(request, request.arch, {}, tensors, known=None)


def _draft(request: ImportRequest, arch: str, said: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], *,
           known: tuple[str, ...] | None) -> Draft:
    if request.task not in (None, Task.CLASSIFICATION):
        raise ConfigError(f"--task {request.task}: {LIBRARY} has networks for the task classification")
    if not timm.is_model(arch):  # nor any "hf-hub:...", which would be fetched from the net
        raise ConfigError(f"timm has no arch {arch[:80]!r}. Known: {known_networks(arch)}.")
    config = {**_defaults(arch), **said}
    last = config.get("classifier")
    outputs = outputs_of(tensors, f"{last}.weight") if isinstance(last, str) else None
    if outputs is None and request.classes is None:
        raise ConfigError(f"--classes: expected the names of the classes, as {arch} does not say which tensor is its last "
                          f"layer ({last!r}) or the weights do not have it")
    outputs = outputs if outputs is not None else len(request.classes or ())
    channels = len(request.mean) if request.mean is not None else _channels(config)
    try:
        card = ModelCard(
            name=request.name, family="classifier", task=Task.CLASSIFICATION, arch=arch,
            classes=named_classes(request, outputs, known), activation=activation_of(request, outputs),
            channels=1 if channels == 1 else 3, weights_sha256=NO_WEIGHTS, normalisation=normalisation_of(
                request, channels, _normalisation(config, channels)),
            resize=_resize(request, config), tile_px=512, overlap_px=0, licence=request.licence,
            extraction=Extraction(extent_min=0.05, floor=0.05, top_k=5 if outputs > 5 else None))
    except ValidationError as error:
        raise ConfigError(f"the model's card: {describe(error)}") from error
    fit = fitted(card, tensors, prefix=request.prefix)
    return Draft(card, fit.network.state_dict(), _network(card, tensors, request.prefix), LIBRARY, notes=fit.notes)


def _defaults(arch: str) -> Mapping[str, Any]:
    found = timm.get_pretrained_cfg(arch, allow_unregistered=True)
    return found.to_dict() if found is not None else {}


def _channels(config: Mapping[str, Any]) -> int:
    size = _input_size(config)
    if size[0] not in (1, 3):
        raise ConfigError(f"expected a network of 1 or 3 channels, got input_size {size}")
    return size[0]


def _input_size(config: Mapping[str, Any]) -> tuple[int, int, int]:
    size = config.get("input_size", (3, 224, 224))
    if not isinstance(size, (list, tuple)) or len(size) != 3 or not all(
            isinstance(each, int) and 1 <= each <= 4096 for each in size):
        raise ConfigError(f"config.json: expected input_size (channels, height, width), got {str(size)[:80]}")
    if size[1] != size[2]:
        raise ConfigError(f"expected a network of square input, got {size[2]} x {size[1]} px")
    return size[0], size[1], size[2]


def _normalisation(config: Mapping[str, Any], channels: int) -> Normalisation | None:
    if "mean" not in config or "std" not in config:
        return None
    try:
        mean, std = (tuple(map(float, config[name])) for name in ("mean", "std"))
        normalisation = Normalisation(mean=mean, std=std)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.json: expected mean and std, numbers for each channel, got "
                          f"{str(config['mean'])[:60]} and {str(config['std'])[:60]}") from error
    return normalisation if len(mean) == len(std) == channels else None


def _resize(request: ImportRequest, config: Mapping[str, Any]) -> Resize:
    """timm's: the shorter side is input / crop_pct, rounded down, then the centre is cut out."""
    crop_px = request.crop_px or _input_size(config)[1]
    share, way = config.get("crop_pct") or 0.875, config.get("interpolation", "bicubic")
    if not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise ConfigError(f"config.json: expected crop_pct in (0, 1], got {str(share)[:60]!r}")
    if config.get("crop_mode", "center") != "center":
        raise ConfigError(f"config.json: expected crop_mode 'center', got {str(config['crop_mode'])[:60]!r}")
    return Resize(shorter_side_px=int(crop_px / share), crop_px=crop_px,
                  interpolation="bilinear" if way == "bilinear" else "bicubic")


def _network(card: ModelCard, tensors: Mapping[str, torch.Tensor], prefix: str | None) -> torch.nn.Module:
    network: torch.nn.Module = timm.create_model(card.arch, num_classes=len(card.classes), in_chans=card.channels)
    network.load_state_dict(without_prefix(tensors, set(network.state_dict()), prefix)[0])
    return network.eval()
