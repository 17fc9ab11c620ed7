"""What a network knows before it is trained: ImageNet, another model, or nothing."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import torch

from segsvc import plugins
from segsvc.card import ModelCard, Task
from segsvc.errors import ConfigError
from segsvc.models import Family
from segsvc.models.checkpoint import LITE0_ARCH, imagenet_lite0
from segsvc.models.library import find_model, load_weights

IMAGENET, RANDOM = "imagenet", "random"
_MOST_SAID = 160  # characters of a library's own words
LITE0_FILE = "efficientnet-lite0-57934424.pth"


@dataclass(frozen=True, slots=True)
class Start:
    """An initialised network, what it came from, and how many of its tensors came from there."""

    network: torch.nn.Module
    source: str
    taken: int
    tensors: int


def started(card: ModelCard, init: str, *, assets: Path, seed: int) -> Start:
    """The network of the card, initialised by "imagenet", "random", or the name or folder of a model.

    Tensors are taken by name and shape; a last layer for other classes stays random. Raises ConfigError where nothing of
    the source fits, or it is not here.
    """
    torch.manual_seed(seed)
    family: Family = plugins.load(plugins.PluginKind.MODEL, card.family)
    network = family.build(card)
    own = network.state_dict()
    if init == RANDOM:
        return Start(network, "random weights", 0, len(own))
    if init == IMAGENET:
        given, source = _imagenet(card, own, assets), f"{encoder_of(card)} on ImageNet"
    else:
        model = find_model(init)
        given, source = load_weights(model), f"model {model.name} ({model.digest[:12]})"
    fitting = {name: value for name, value in given.items() if name in own and value.shape == own[name].shape}
    if not any(value.is_floating_point() and value.ndim > 1 for value in fitting.values()):
        raise ConfigError(f"--init {init}: expected a model of the network {card.arch} with {encoder_of(card)}, got one of "
                          f"whose {len(given)} tensors none fits. Give --arch and --encoder of that model, or another one.")
    network.load_state_dict(fitting, strict=False)
    return Start(network, source, len(fitting), len(own))


def encoder_of(card: ModelCard) -> str:
    """The network that reads the image: a classifier is all encoder."""
    return card.encoder or card.arch


def encoder_names(card: ModelCard) -> tuple[str, ...]:
    """How the names of the encoder's parameters begin."""
    return {Task.SEMANTIC: ("encoder.",), Task.CLASSIFICATION: ("conv_stem", "bn1", "blocks", "layer", "conv1", "stem",
                                                                "stages", "features", "patch_embed")
            }.get(card.task, ("backbone.body.",))


def _imagenet(card: ModelCard, own: dict[str, torch.Tensor], assets: Path) -> dict[str, torch.Tensor]:
    """Tensors by the names of the network, out of weights that were trained on ImageNet."""
    if encoder_of(card).removeprefix("tu-") != LITE0_ARCH:
        return _from_hub(card, own)
    path = assets / LITE0_FILE
    if not path.is_file():
        raise ConfigError(f"--init imagenet: expected {path}, got no such file. Run `segsvc models pull`, or train from "
                          "--init random or a model.")
    return _placed(imagenet_lite0(path), own, card.task)


def _from_hub(card: ModelCard, own: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The encoder's weights as timm or segmentation-models-pytorch fetch them from their hub."""
    name = encoder_of(card)
    try:
        given = _fetch_timm(name.removeprefix("tu-")) if name.startswith("tu-") or card.task is not Task.SEMANTIC else \
            _fetch_smp(name)
    except (OSError, RuntimeError, ValueError, KeyError) as error:  # no such weights, no network, a damaged download
        said = textwrap.shorten(str(error) or repr(error), _MOST_SAID, placeholder=" ...").removesuffix(".")
        raise ConfigError(f"--init imagenet: expected weights of {name} from its hub, got: {said}. Use the encoder "
                          f"tu-{LITE0_ARCH}, which is here, --init random, or --init with a model.") from error
    return _placed(given, own, card.task)


def _fetch_timm(name: str) -> dict[str, torch.Tensor]:
    import timm

    state: dict[str, torch.Tensor] = timm.create_model(name, pretrained=True).state_dict()
    return state


def _fetch_smp(name: str) -> dict[str, torch.Tensor]:
    from segmentation_models_pytorch import encoders

    state: dict[str, torch.Tensor] = encoders.get_encoder(name, weights="imagenet").state_dict()
    return state


def _placed(given: dict[str, torch.Tensor], own: dict[str, torch.Tensor], task: Task) -> dict[str, torch.Tensor]:
    """The given tensors under the names that they have in the network: below whatever its encoder is called there.

    The first convolution's colours are added up for a network of grey images, which is what it answers to those.
    """
    below = {Task.SEMANTIC: "encoder.", Task.CLASSIFICATION: ""}.get(task, "backbone.")
    placed = {}
    for name, like in own.items():
        steps = name.split(".") if name.startswith(below) else []
        end = next((tail for tail in (".".join(steps[n:]) for n in range(len(steps))) if tail in given), None)
        if end is not None:
            value = given[end]
            grey = value.ndim == 4 and value.shape[1] == 3 and like.shape == (value.shape[0], 1, *value.shape[2:])
            placed[name] = value.sum(dim=1, keepdim=True) if grey else value
    return placed
