"""Foreign checkpoints read without running anything in them, and our weights written as safetensors.

The one module that may call `torch.load`, always with `weights_only=True`: it builds tensors and plain containers and
refuses every other name in a pickle.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 (what torch.load raises; nothing is unpickled with it)
from typing import TYPE_CHECKING

from segsvc.errors import ConfigError

if TYPE_CHECKING:
    import torch

LITE0_ARCH = "tf_efficientnet_lite0"

_UNREADABLE = (UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError,
               ArithmeticError, ImportError, MemoryError, struct.error)
MOST_BYTES = 8 * 2**30  # of a foreign file: read whole
_NAMED = re.compile(r"GLOBAL ([\w.]+)")  # in what PyTorch says of a pickle that it refuses
_SAVE_AGAIN = "Where it was made, torch.save(model.state_dict(), ...) writes the tensors alone."
_ZIP = b"PK\x03\x04"
_HEADER_BYTES = 8  # of safetensors: the length of the JSON that follows
_NESTED = ("state_dict", "model_state_dict", "model")  # where trainers keep the weights: Lightning's name first


@dataclass(frozen=True, slots=True)
class ForeignState:
    """The tensors of a foreign file by name, on the CPU; `inside` is the entry that held them, None where the file did."""

    tensors: dict[str, torch.Tensor]
    inside: str | None = None


def read_regular(path: Path, *, most_bytes: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file. Raises ConfigError for anything else (a folder, a pipe, a device), or a larger one."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:  # a pipe would wait for its writer
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{path}: expected a regular file, got another kind")
            if found.st_size > most_bytes:
                raise ConfigError(f"{path}: expected at most {most_bytes} bytes, got {found.st_size}")
            return file.read(most_bytes)
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable file: {error.strerror}") from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def is_safetensors(raw: bytes) -> bool:
    """Whether a file says that it is safetensors: the length of a header, and the brace that begins it."""
    return raw[_HEADER_BYTES: _HEADER_BYTES + 1] == b"{"


def read_state(path: Path) -> ForeignState:
    """The weights in a foreign file: safetensors, a bare state dict, or a trainer's checkpoint that holds one.

    Nothing in it is run. Raises ConfigError as `read_checkpoint`, and for tensors that are no plain ones.
    """
    raw = read_regular(path)
    if is_safetensors(raw):
        return ForeignState(_plain(_from_safetensors(raw, str(path)), str(path)))
    content = _loaded(raw, str(path))
    if isinstance(content, Mapping):
        for name in _NESTED:
            if isinstance(inside := content.get(name), Mapping):
                return ForeignState(_plain(_tensors(inside, str(path)), str(path)), name)
    return ForeignState(_plain(_tensors(content, str(path)), str(path)))


def _from_safetensors(raw: bytes, where: str) -> dict[str, torch.Tensor]:
    import safetensors
    import safetensors.torch

    try:
        state: dict[str, torch.Tensor] = safetensors.torch.load(raw)
    except (safetensors.SafetensorError, *_UNREADABLE) as error:
        raise ConfigError(f"{where}: expected safetensors, got {len(raw)} bytes that are none: {_first_line(error)}"
                          ) from error
    return _tensors(state, where)


def _plain(state: dict[str, torch.Tensor], where: str) -> dict[str, torch.Tensor]:
    import torch

    for name, value in state.items():
        if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_complex():
            raise ConfigError(f"{where}: expected plain tensors of numbers, got {name!r}: {value.dtype}, {value.layout} on "
                              f"{value.device.type}")
    return state


def read_checkpoint(source: Path | bytes) -> dict[str, torch.Tensor]:
    """The state dict in a PyTorch checkpoint, in the order of the file, on the CPU; nothing in it is run.

    source: the file's path, or its bytes. Raises ConfigError where it cannot be read, holds anything but tensors and
    plain containers (a pickle can name any function to call), or is no mapping of names to tensors.
    """
    where = str(source) if isinstance(source, Path) else "the checkpoint"
    try:
        raw = source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:
        raise ConfigError(f"{where}: expected a readable checkpoint: {error.strerror}") from error
    return _tensors(_loaded(raw, where), where)


def _loaded(raw: bytes, where: str) -> object:
    """What a checkpoint holds: tensors and plain containers, or ConfigError."""
    import torch

    if not raw:
        raise ConfigError(f"{where}: expected a PyTorch checkpoint, got an empty file. Copy or save it again.")
    if raw[: len(_ZIP)] == _ZIP:
        _check_archive(raw, where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old formats and pickle protocols: what is refused is refused all the same
            content: object = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)  # noqa: TID251
    except _UNREADABLE as error:
        raise ConfigError(f"{where}: expected a PyTorch checkpoint of tensors alone, got {len(raw)} bytes that are "
                          f"refused ({type(error).__name__}: {_refusal(error)}). Nothing in it was run. "
                          f"{_SAVE_AGAIN}") from error
    return content


def _refusal(error: BaseException) -> str:
    """What was refused. PyTorch's own text is left out where it tells how to run what is in the file."""
    if (named := _NAMED.search(str(error))) is not None:
        return f"it names {named[1]}, which is no tensor"
    return _first_line(error) if "weights_only" not in str(error) else "it is no pickle of tensors alone"


def _check_archive(raw: bytes, where: str) -> None:
    """Raises ConfigError for an archive that says it holds more than its bytes: PyTorch stores tensors as they are."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, *_UNREADABLE) as error:
        raise ConfigError(f"{where}: expected a PyTorch checkpoint, got {len(raw)} bytes that are no whole archive: "
                          f"{_first_line(error)}. Copy or save it again.") from error
    if any("/code/" in member.filename for member in members):
        raise ConfigError(f"{where}: expected a PyTorch checkpoint of tensors alone, got a TorchScript archive, which holds "
                          f"code. {_SAVE_AGAIN}")
    packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
    size_bytes = sum(member.file_size for member in members)
    if packed or size_bytes > len(raw):
        raise ConfigError(f"{where}: expected a PyTorch checkpoint, whose members are stored as they are, got an archive of "
                          f"{len(raw)} bytes with {len(packed)} compressed members that would become {size_bytes} bytes")


def _tensors(state: object, where: str) -> dict[str, torch.Tensor]:
    import torch

    if not isinstance(state, Mapping) or not state:
        came = "an empty one" if isinstance(state, Mapping) else type(state).__name__
        raise ConfigError(f"{where}: expected a mapping of names to tensors, got {came}")
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
                raise ConfigError(f"tensor {name}: expected finite weights of {value.dtype}, got some beyond it")
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
