"""Models of segmentation-models-pytorch: folders that save_pretrained wrote, and tensors whose network the user names."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from segsvc.card import Activation, Extraction, ModelCard, Normalisation, Task, describe
from segsvc.errors import ConfigError
from segsvc.exchange.request import NO_WEIGHTS, Draft, ImportRequest, activation_of, named_classes
from segsvc.exchange.sources import SourceFolder
from segsvc.exchange.state_dicts import fitted, outputs_of, without_prefix
from segsvc.models.checkpoint import is_safetensors, read_regular, read_state

LIBRARY = "segmentation-models-pytorch"
_ACTIVATIONS = {"sigmoid": Activation.SIGMOID, "softmax": Activation.SOFTMAX, "softmax2d": Activation.SOFTMAX}
_HEAD = "segmentation_head.0.weight"
_OF_THE_IMAGE = ("classification_head.",)  # a second head, for the image as a whole
_NOT_OPTIONS = ("_model_class", "encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params")
_ADDED = frozenset({"id2label", "label2id", "dataset"})  # by people: the library itself does not know them
CITYSCAPES = ("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
              "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")


def draft_of_folder(request: ImportRequest, folder: SourceFolder) -> Draft:
    """The model of a folder with config.json; decoder and encoder are as it says."""
    request.check_unused(LIBRARY, "arch", "encoder", "options", "crop_px", "anchor_sizes_px", "anchor_ratios", "norm_eps")
    config = folder.config
    outputs, channels = _count(config, "classes", 1), _count(config, "in_channels", 3)
    said = config.get("activation")
    if said is not None and (not isinstance(said, str) or said not in _ACTIVATIONS):
        raise ConfigError(f"config.json: expected activation null, {', '.join(_ACTIVATIONS)}, got {str(said)[:60]!r}: its "
                          "outputs are no scores")
    activation = activation_of(request, outputs, _ACTIVATIONS[said] if said is not None else None)
    card = _card(request, arch=str(config["_model_class"]).lower(), encoder=str(config.get("encoder_name", "resnet34")),
                 options=_options(config), channels=channels, outputs=outputs, activation=activation,
                 known=_known_names(config, request.source, outputs))
    tensors = read_state(folder.weights).tensors
    fit = fitted(card, tensors, prefix=request.prefix, left_out=_OF_THE_IMAGE)
    itself = folder.weights.name == "model.safetensors" and not config.get("aux_params") and not _ADDED & set(config)
    if itself and request.prefix is None and is_safetensors(read_regular(folder.weights)):  # as it reads them
        return Draft(card, fit.network.state_dict(), _from_pretrained(folder.path), LIBRARY,
                     answers_scores=said is not None, notes=fit.notes)
    return Draft(card, fit.network.state_dict(), _named(card, tensors, request.prefix), LIBRARY,
                 notes=fit.notes)


def draft_of_tensors(request: ImportRequest, tensors: Mapping[str, torch.Tensor]) -> Draft:
    """The model of tensors by name; the network is the user's --arch and --encoder."""
    request.check_unused(LIBRARY, "crop_px", "anchor_sizes_px", "anchor_ratios", "norm_eps")
    if request.arch is None or request.encoder is None:
        raise ConfigError("--arch and --encoder: expected both, as tensors alone do not say what network they are for, e.g. "
                          f"--arch unet --encoder resnet34. They are called {', '.join(list(tensors)[:3])} ...")
    outputs = outputs_of(tensors, _HEAD)
    if outputs is None:
        raise ConfigError(f"expected weights of {LIBRARY} with a tensor {_HEAD}, got {', '.join(list(tensors)[:3])} ... For "
                          "a classifier of timm, give --task classification.")
    channels = len(request.mean) if request.mean is not None else 3
    card = _card(request, arch=request.arch.lower(), encoder=request.encoder, options=dict(request.options),
                 channels=channels, outputs=outputs, activation=activation_of(request, outputs), known=None)
    fit = fitted(card, tensors, prefix=request.prefix, left_out=_OF_THE_IMAGE)
    return Draft(card, fit.network.state_dict(), _named(card, tensors, request.prefix), LIBRARY, notes=fit.notes)


def _card(request: ImportRequest, *, arch: str, encoder: str, options: Mapping[str, Any], channels: int, outputs: int,
          activation: Activation, known: tuple[str, ...] | None) -> ModelCard:
    if request.task not in (None, Task.SEMANTIC):
        raise ConfigError(f"--task {request.task}: {LIBRARY} has networks for the task semantic")
    if channels not in (1, 3):
        raise ConfigError(f"expected a network of 1 or 3 channels, got {channels}")
    try:
        return ModelCard(
            name=request.name, family="smp", task=Task.SEMANTIC, arch=arch, encoder=encoder, options=dict(options),
            classes=named_classes(request, outputs, known), activation=activation, background=request.background,
            channels=1 if channels == 1 else 3, weights_sha256=NO_WEIGHTS,
            normalisation=normalisation_of(request, channels), tile_px=request.tile_px or 512,
            overlap_px=min(64, (request.tile_px or 512) // 4), extraction=Extraction(), licence=request.licence)
    except ValidationError as error:
        raise ConfigError(f"the model's card: {describe(error)}") from error


def normalisation_of(request: ImportRequest, channels: int, said: Normalisation | None = None) -> Normalisation:
    """The user's --mean and --std, else the source's, else ImageNet's. Raises ConfigError for other numbers of channels."""
    if (request.mean is None) != (request.std is None):
        raise ConfigError("--mean and --std: expected both or neither")
    if request.mean is None or request.std is None:
        if channels != 3 and said is None:
            raise ConfigError(f"--mean and --std: expected {channels} value each, as the network has {channels} channel, "
                              "got none. --mean 0 --std 1 leaves values between 0 and 1 as they are.")
        return said or Normalisation()
    for name, values in (("mean", request.mean), ("std", request.std)):
        if len(values) != channels:
            raise ConfigError(f"--{name}: expected {channels} values, one a channel, got {len(values)}")
    return Normalisation(mean=request.mean, std=request.std)


def _count(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10_000:
        raise ConfigError(f"config.json: expected {name} from 1 to 10000, got {str(value)[:60]!r}")
    return value


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says of decoder and encoder, by the names that the library has now."""
    options = {name: value for name, value in config.items() if name not in _NOT_OPTIONS and name not in _ADDED}
    batchnorm = options.pop("decoder_use_batchnorm", None)  # its name before 0.5
    if batchnorm is not None:
        options.setdefault("decoder_use_norm", {True: "batchnorm", False: "identity"}.get(batchnorm, batchnorm))
    return options


def _known_names(config: Mapping[str, Any], source: str, outputs: int) -> tuple[str, ...] | None:
    labels = config.get("id2label")
    if isinstance(labels, dict) and len(labels) == outputs and all(str(number) in labels for number in range(outputs)):
        return tuple(str(labels[str(number)]) for number in range(outputs))
    city = any("cityscapes" in text or "-city-" in text for text in (source.lower(), str(config.get("dataset", "")).lower()))
    return CITYSCAPES if city and outputs == len(CITYSCAPES) else None


def _from_pretrained(folder: Path) -> torch.nn.Module:
    import segmentation_models_pytorch as smp

    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network: torch.nn.Module = smp.from_pretrained(str(folder), encoder_weights=None)
    except Exception as error:  # whatever the library raises for a folder that it cannot read
        raise ConfigError(f"{folder}: {LIBRARY} itself cannot load it: {type(error).__name__}: {str(error)[:160]}"
                          ) from error
    return network.eval()


def _named(card: ModelCard, tensors: Mapping[str, torch.Tensor], prefix: str | None) -> torch.nn.Module:
    """The network as a user of the library builds it and loads the tensors, by no code of the family's."""
    import segmentation_models_pytorch as smp

    network: torch.nn.Module = smp.MODEL_ARCHITECTURES_MAPPING[card.arch](
        encoder_name=card.encoder, encoder_weights=None, in_channels=card.channels,
        classes=len(card.classes) + card.background, **card.options)
    state, _ = without_prefix(tensors, set(network.state_dict()), prefix)
    network.load_state_dict({name: value for name, value in state.items() if not name.startswith(_OF_THE_IMAGE)})
    return network.eval()
