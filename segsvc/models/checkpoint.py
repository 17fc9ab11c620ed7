"""Foreign checkpoints read without running anything in them, and our weights written as safetensors.

The one module that may call `torch.load`, always with `weights_only=True`: it builds tensors and plain containers and
refuses every other name in a pickle.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 (what torch.load raises; nothing is unpickled with it)
from typing import TYPE_CHECKING

from segsvc.errors import ConfigError

if TYPE_CHECKING:
    import torch

LITE0_ARCH = "tf_efficientnet_lite0"

_UNREADABLE = (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError,
               ArithmeticError, ImportError, struct.error)


def read_checkpoint(source: Path | bytes) -> dict[str, torch.Tensor]:
    """The state dict in a PyTorch checkpoint, in the order of the file, on the CPU; nothing in it is run.

    source: the file's path, or its bytes. Raises ConfigError where it cannot be read, holds anything but tensors and
    plain containers (a pickle can name any function to call), or is no mapping of names to tensors.
    """
    import torch

    where = str(source) if isinstance(source, Path) else "the checkpoint"
    try:
        raw = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise ConfigError(f"{where}: expected a readable checkpoint: {error.strerror}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old formats and pickle protocols: what is refused is refused all the same
            state = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)  # noqa: TID251
    except _UNREADABLE as error:
        raise ConfigError(f"{where}: expected a PyTorch checkpoint of tensors alone, got {len(raw)} bytes that are "
                          f"refused ({type(error).__name__}: {_first_line(error)}). Nothing in it was run.") from error
    if not isinstance(state, Mapping) or not state:
        raise ConfigError(f"{where}: expected a mapping of names to tensors, got {type(state).__name__}")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ConfigError(f"{where}: expected names and tensors, got {name!r}: {type(value).__name__}")
    return dict(state)


def imagenet_lite0(source: Path | bytes) -> dict[str, torch.Tensor]:
    """The state dict of timm's `tf_efficientnet_lite0` from the checkpoint efficientnet-lite0-57934424.pth.

    The checkpoint names its tensors otherwise but holds them in the same order, so that they are taken over one by one.
    Raises ConfigError that names the tensor, the expected and the actual shape where they do not fit.
    """
    import timm

    came = read_checkpoint(source)
    wanted: dict[str, torch.Tensor] = timm.create_model(LITE0_ARCH, pretrained=False).state_dict()
    if len(came) != len(wanted):
        raise ConfigError(f"{LITE0_ARCH}: expected a checkpoint of {len(wanted)} tensors, got {len(came)}")
    state = {}
    for (name, like), (foreign, value) in zip(wanted.items(), came.items(), strict=True):
        if value.shape != like.shape or value.is_floating_point() != like.is_floating_point():
            raise ConfigError(f"{LITE0_ARCH}: for {name} expected {_described(like)}, got {_described(value)} "
                              f"({foreign})")
        state[name] = value.to(like.dtype).clone()
    return state


def save_model(state: Mapping[str, torch.Tensor], path: Path, *, half: bool) -> str:
    """Writes the tensors as safetensors, whole or not at all, and gives the sha256 of the file.

    The bytes depend on names, shapes, types and values alone, not on the order or memory layout of `state`. half:
    floats are rounded to float16, integers stay. Raises ConfigError for a value that is not finite as stored.
    """
    import safetensors.torch
    import torch

    tensors = {}
    for name in sorted(state):
        value = state[name].detach().cpu()
        if value.is_floating_point():
            value = value.to(torch.float16 if half else value.dtype)
            if not bool(torch.isfinite(value).all()):
                raise ConfigError(f"{path}: expected finite weights of {value.dtype}, got some beyond it in {name}")
        tensors[name] = value.contiguous().clone()  # its own memory: safetensors refuses tensors that share
    raw: bytes = safetensors.torch.save(tensors)
    write_whole(path, raw)
    return hashlib.sha256(raw).hexdigest()


def write_whole(path: Path, raw: bytes) -> None:
    """Writes a file so that it is there whole or as it was before. Raises ConfigError where the folder refuses it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"{path}: expected a place that can be written: {error.strerror}. "
                          "Choose another folder or free some space.") from error


def _described(value: torch.Tensor) -> str:
    return f"{tuple(value.shape)} {'floats' if value.is_floating_point() else 'integers'}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:160]
