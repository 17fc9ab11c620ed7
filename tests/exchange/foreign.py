"""Small models as other libraries write them: real libraries, seeded random weights."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from timm.models._hub import save_for_hf

ENCODER = "tu-test_efficientnet"
DECODER = {"decoder_channels": (16, 16, 8, 8, 8)}


def unet(*, classes: int = 3, seed: int = 0, **options: Any) -> torch.nn.Module:
    """A U-Net on timm's smallest encoder, with norms that have seen images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: torch.nn.Module = smp.Unet(ENCODER, encoder_weights=None, classes=classes, **{**DECODER, **options})
        network.train()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on softmax without a dimension, which the library itself writes
            network(torch.randn(4, network.config["in_channels"], 64, 64))
    return network.eval()


def smp_folder(folder: Path, *, changes: dict[str, Any] | None = None, **options: Any) -> Path:
    """What save_pretrained writes; `changes` to its config.json afterwards."""
    unet(**options).save_pretrained(folder)
    change_config(folder, changes or {})
    return folder


def change_config(folder: Path, changes: dict[str, Any]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def classifier(*, classes: int = 4, seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: torch.nn.Module = timm.create_model("test_efficientnet", num_classes=classes)
    return network.eval()


def timm_folder(folder: Path, *, changes: dict[str, Any] | None = None) -> Path:
    """What timm pushes to a hub, with names of its four classes."""
    save_for_hf(classifier(), str(folder), model_config={"label_names": ["ant", "bee", "cat", "dog"]},
                safe_serialization=True)
    change_config(folder, changes or {})
    return folder


def saved(content: object, path: Path, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path
