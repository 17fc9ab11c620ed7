"""What a source is, told by its content: a folder with config.json, a hub id, or a file with weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segsvc.errors import ConfigError
from segsvc.exchange.request import SourceKind
from segsvc.models.checkpoint import is_safetensors, read_regular

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.safetensors", "pytorch_model.bin", "model.bin")  # in order of choice
_MOST_CONFIG_BYTES = 2**20
_FILES = frozenset({".bin", ".ckpt", ".onnx", ".pkl", ".pt", ".pth", ".safetensors"})
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")
_MASK_HEAD = "roi_heads.mask_predictor."
_BOX_HEAD = "roi_heads.box_predictor."


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """A folder of weights and what its library wrote about them."""

    path: Path
    kind: SourceKind
    config: Mapping[str, Any]
    weights: Path


def is_hub_id(source: str) -> bool:
    """Whether it is no path that is there, and the name of a repository: OWNER/NAME; names of files are none."""
    return (_HUB_ID.fullmatch(source) is not None and ".." not in source and not Path(source).exists()
            and Path(source).suffix.lower() not in _FILES)


def read_folder(folder: Path) -> SourceFolder:
    """The folder's kind, config and weights.

    Raises ConfigError where config.json is missing, no JSON object, or of no library that is known, where there are no
    weights, and for a link that leads out of the folder.
    """
    config = read_config(folder)
    if isinstance(config.get("_model_class"), str):
        kind = SourceKind.SMP
    elif isinstance(config.get("architecture"), str):
        kind = SourceKind.TIMM
    else:
        raise ConfigError(f"{folder / CONFIG}: expected _model_class (segmentation-models-pytorch) or architecture (timm), "
                          f"got {', '.join(sorted(map(str, config))[:5]) or 'no fields'}. Give the file with the weights, "
                          "and say by --arch and --encoder what it is.")
    weights = next((folder / name for name in WEIGHTS if (folder / name).exists()), None)
    if weights is None:
        raise ConfigError(f"{folder}: expected weights beside {CONFIG} ({', '.join(WEIGHTS[:1] + WEIGHTS[2:3])}), got none")
    check_below(weights, folder)
    return SourceFolder(folder, kind, config, weights)


def read_config(folder: Path) -> Mapping[str, Any]:
    """config.json of a folder. Raises ConfigError where it is not there, too large or deep, or no JSON object."""
    path = folder / CONFIG
    if not path.exists():
        there = ", ".join(sorted(each.name for each in folder.iterdir())[:5]) or "nothing"
        raise ConfigError(f"{folder}: expected a folder with {CONFIG}, as save_pretrained writes it, got {there}. A file "
                          "with weights alone is given by its own path.")
    check_below(path, folder)
    try:
        config = json.loads(read_regular(path, most_bytes=_MOST_CONFIG_BYTES))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: expected a JSON object, got: {str(error)[:160]}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: expected a JSON object, got {type(config).__name__}")
    return config


def check_below(path: Path, folder: Path) -> None:
    """Raises ConfigError for a link out of the folder, but for those of the hub's cache (snapshots/X -> blobs)."""
    real = path.resolve()
    cache = folder.parent.parent / "blobs" if folder.parent.name == "snapshots" else None
    if not real.is_relative_to(folder.resolve()) and (cache is None or not real.is_relative_to(cache.resolve())):
        raise ConfigError(f"{path}: expected a file of the folder, got a link out of it. Copy the file into it.")


def is_onnx(raw: bytes) -> bool:
    """Whether a file begins as ONNX does: with the version of its format, a small number."""
    return raw[:1] == b"\x08" and not is_safetensors(raw)


def has_masks_of_torchvision(names: Mapping[str, object]) -> bool:
    """Whether tensors by these names are of torchvision's Mask R-CNN. Raises ConfigError for its Faster R-CNN."""
    masks, boxes = (any(part in name for name in names) for part in (_MASK_HEAD, _BOX_HEAD))
    if boxes and not masks:
        raise ConfigError("expected a Mask R-CNN, got a detector without masks (no roi_heads.mask_predictor): its boxes "
                          "alone are no instances")
    return masks
