"""Files that were made to do harm, or are broken: each gets one message, nothing in them is run, and nothing is written."""

from __future__ import annotations

import builtins
import gzip
import io
import json
import os
import pickle  # noqa: TID251 (writes hostile files; nothing is unpickled here)
import resource
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from segsvc.errors import ConfigError
from segsvc.exchange.importing import import_model
from segsvc.exchange.request import ImportRequest
from tests.exchange.foreign import saved, smp_folder, timm_folder, unet

CANARY = "canary"
MOST_GROWN_BYTES = 1 << 30


class Calls:
    """Unpickled by a careless reader, it calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


class Nested:
    """Its reduce builds an object, and the state that it is given holds the call."""

    def __init__(self, inner: Calls) -> None:
        self.inner = inner

    def __reduce__(self) -> tuple[Any, tuple[Any, ...], Any]:
        return dict, (), {"deep": [(self.inner,)]}


def canary(folder: Path) -> Calls:
    return Calls(os.mkdir, str(folder / CANARY))


def shell(folder: Path) -> Calls:
    return Calls(os.system, f"mkdir {folder / CANARY}")


def python(folder: Path) -> Calls:
    return Calls(builtins.exec, f"import os; os.mkdir({str(folder / CANARY)!r})")


def put(folder: Path, raw: bytes, name: str = "weights.pth") -> Path:
    (folder / name).write_bytes(raw)
    return folder / name


def safetensors_file(folder: Path, header: object, data: bytes = b"", *, size: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return put(folder, struct.pack("<Q", len(text) if size is None else size) + text + data, "weights.safetensors")


def tensor(start: int, end: int, *, shape: list[int] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape or [(end - start) // 4], "data_offsets": [start, end]}


def archive(folder: Path, *members: tuple[str, bytes], packed: bool = False) -> Path:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        for name, raw in members:
            file.writestr(name, raw)
    return put(folder, buffer.getvalue())


def whole(folder: Path) -> bytes:
    return saved(unet().state_dict(), folder / "whole.tmp").read_bytes()


def said_larger(folder: Path) -> Path:
    """A stored member of whose size the directory says 2 GiB."""
    path = archive(folder, ("archive/data.pkl", b"\x80\x02}."))
    raw = bytearray(path.read_bytes())
    at = raw.index(b"PK\x01\x02")
    raw[at + 24: at + 28] = struct.pack("<I", 2**31)
    return put(folder, bytes(raw))


def with_config(folder: Path, **changes: Any) -> Path:
    return smp_folder(folder / "source", changes=changes)


def with_raw_config(folder: Path, raw: bytes) -> Path:
    source = smp_folder(folder / "source")
    (source / "config.json").write_bytes(raw)
    return source


def with_huge_config(folder: Path) -> Path:
    source = smp_folder(folder / "source")
    os.truncate(source / "config.json", 100_000_000)
    return source


def with_link(folder: Path, name: str, to: str) -> Path:
    source = smp_folder(folder / "source")
    (source / name).unlink()
    (source / name).symlink_to(to)
    return source


def with_pipe(folder: Path) -> Path:
    source = smp_folder(folder / "source")
    (source / "model.safetensors").unlink()
    os.mkfifo(source / "model.safetensors")
    return source


def with_pickle(folder: Path) -> Path:
    source = smp_folder(folder / "source")
    (source / "model.safetensors").unlink()
    (source / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": canary(folder)}))
    return source


def without_weights(folder: Path) -> Path:
    source = smp_folder(folder / "source")
    (source / "model.safetensors").unlink()
    return source


def tar_of_old(folder: Path) -> Path:
    """A checkpoint as PyTorch wrote them before version 0.2."""
    with tarfile.open(folder / "weights.tar", "w") as file:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            raw = pickle.dumps(canary(folder), protocol=2)
            member.size = len(raw)
            file.addfile(member, io.BytesIO(raw))
    return folder / "weights.tar"


def of_numpy(folder: Path, name: str) -> Path:
    """An array of objects, which numpy pickles."""
    objects = np.empty(1, object)
    objects[0] = canary(folder)
    (np.save if name.endswith(".npy") else np.savez)(folder / name, objects)
    return folder / name


STATE: dict[str, Callable[[], Any]] = {
    "expanded": lambda: torch.zeros(1).expand(10**6, 10**6), "sparse": lambda: torch.eye(3).to_sparse(),
    "complex": lambda: torch.zeros(2, dtype=torch.complex64), "meta": lambda: torch.zeros(10**9, device="meta")}

MAKERS: dict[str, Callable[[Path], Path]] = {
    **{f"pickle_{protocol}_{name}": lambda folder, protocol=protocol, make=make: put(
        folder, pickle.dumps(make(folder), protocol=protocol)) for protocol in range(6)
       for name, make in (("mkdir", canary), ("shell", shell), ("exec", python))},
    "pickle_nested": lambda folder: put(folder, pickle.dumps({"state_dict": Nested(shell(folder))})),
    "pickle_of_text": lambda folder: put(folder, f"cos\nmkdir\n(S'{folder / CANARY}'\ntR.".encode()),
    "checkpoint_zip": lambda folder: saved({"w": torch.zeros(1), "b": canary(folder)}, folder / "weights.pth"),
    "checkpoint_legacy": lambda folder: saved({"w": canary(folder)}, folder / "weights.pth", legacy=True),
    "lightning_hparams": lambda folder: saved(
        {"state_dict": unet().state_dict(), "hyper_parameters": python(folder)}, folder / "last.ckpt"),
    "lightning_nested": lambda folder: saved(
        {"state_dict": unet().state_dict(), "callbacks": [Nested(canary(folder))]}, folder / "last.ckpt"),
    "whole_module": lambda folder: saved(unet(), folder / "model.pt"),
    "zip_empty": archive,
    "zip_of_text": lambda folder: archive(folder, ("hello.txt", b"hello")),
    "zip_bomb": lambda folder: archive(folder, ("archive/data.pkl", bytes(200_000_000)), packed=True),
    "zip_bomb_by_header": said_larger,
    "zip_out_of_folder": lambda folder: archive(folder, ("../../data.pkl", pickle.dumps(canary(folder)))),
    "zip_second_pickle": lambda folder: archive(folder, ("archive/data.pkl", b"\x80\x02}."), ("archive/version", b"3\n"), (
        "archive/constants.pkl", pickle.dumps(canary(folder), protocol=2))),
    "zip_of_code": lambda folder: archive(folder, ("archive/data.pkl", b"\x80\x02}."), (
        "archive/code/__torch__.py", f"import os; os.mkdir({str(folder / CANARY)!r})".encode())),
    "tar_of_old": tar_of_old,
    "numpy_objects": lambda folder: of_numpy(folder, "weights.npy"),
    "numpy_archive": lambda folder: of_numpy(folder, "weights.npz"),
    "pickle_packed": lambda folder: put(folder, gzip.compress(pickle.dumps(canary(folder)))),
    "zip_truncated": lambda folder: put(folder, whole(folder)[:-2000]),
    "zip_head": lambda folder: put(folder, whole(folder)[:100]),
    "empty": lambda folder: put(folder, b""),
    "text": lambda folder: put(folder, b"<html>Not found</html>"),
    "huge_hole": lambda folder: (put(folder, b"PK\x03\x04"), os.truncate(folder / "weights.pth", 2**40))[0],
    "safetensors_header_2_60": lambda folder: safetensors_file(folder, {}, size=2**60),
    "safetensors_overlap": lambda folder: safetensors_file(folder, {"a": tensor(0, 8), "b": tensor(4, 12)}, bytes(12)),
    "safetensors_beyond": lambda folder: safetensors_file(folder, {"a": tensor(0, 2**50)}, bytes(8)),
    "safetensors_overflow": lambda folder: safetensors_file(
        folder, {"a": tensor(0, 8, shape=[2**40, 2**40])}, bytes(8)),
    "safetensors_dtype": lambda folder: safetensors_file(folder, {"a": tensor(0, 8, dtype="X9")}, bytes(8)),
    "safetensors_deep": lambda folder: safetensors_file(folder, b'{"a":' + b"[" * 100_000),
    "safetensors_empty": lambda folder: safetensors_file(folder, {}),
    **{f"tensor_{name}": lambda folder, make=make: saved({"w": make()}, folder / "weights.pth")
       for name, make in STATE.items()},
    "config_link": lambda folder: with_link(folder, "config.json", "/etc/passwd"),
    "weights_link": lambda folder: with_link(folder, "model.safetensors", "../../../../../etc/passwd"),
    "weights_device": lambda folder: with_link(folder, "model.safetensors", "/dev/zero"),
    "weights_pipe": with_pipe,
    "weights_pickle": with_pickle,
    "weights_none": without_weights,
    "config_huge": with_huge_config,
    "config_deep": lambda folder: with_raw_config(folder, b'{"_model_class": ' + b"[" * 100_000),
    "config_list": lambda folder: with_raw_config(folder, b"[]"),
    "config_target": lambda folder: with_raw_config(folder, b'{"_target_": "os.system", "command": "true"}'),
    "config_class": lambda folder: with_config(folder, _model_class="os.system"),
    "config_class_inside": lambda folder: with_config(folder, _model_class="__class__"),
    "config_also_target": lambda folder: with_config(folder, _target_="os.system"),
    "config_encoder_from_hub": lambda folder: with_config(folder, encoder_name="tu-hf-hub:someone/something"),
    "config_activation": lambda folder: with_config(folder, activation="os.system"),
    "config_classes": lambda folder: with_config(folder, classes=10**12),
    "config_channels": lambda folder: with_config(folder, decoder_channels=[10**9] * 5),
    "config_wide": lambda folder: with_config(folder, decoder_channels=[60_000] * 5),
    "config_depth": lambda folder: with_config(folder, encoder_depth=50_000),
    "config_types": lambda folder: with_config(folder, decoder_channels="wide", encoder_depth=None),
    "timm_from_hub": lambda folder: timm_folder(folder / "source", changes={"architecture": "hf-hub:someone/something"}),
    "timm_arguments": lambda folder: timm_folder(folder / "source", changes={"model_args": {"block_fn": "os.system"}}),
    "timm_size": lambda folder: timm_folder(folder / "source", changes={"pretrained_cfg": {"input_size": [3] * 3 + [9]}}),
    "timm_mean": lambda folder: timm_folder(folder / "source", changes={"pretrained_cfg": {"mean": "a", "std": [0, 0, 0]}}),
    "timm_cfg": lambda folder: timm_folder(folder / "source", changes={"pretrained_cfg": "os.system"}),
    "timm_names": lambda folder: timm_folder(folder / "source", changes={"label_names": ["", "b", "c", "d"]}),
    "hub_id_upwards": lambda folder: Path("../evil"),
    "hub_id_dots": lambda folder: Path("someone/.."),
    "url": lambda folder: Path("https:/localhost/model.pth"),
    "null_in_name": lambda folder: Path("some\0where"),
}


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("name", MAKERS)
def test_a_hostile_or_broken_source_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "models").mkdir()
    source = MAKERS[name](tmp_path / "given")
    before = peak_bytes()
    request = ImportRequest(source=str(source), name="model", arch=None if source.is_dir() else "unet",
                            encoder=None if source.is_dir() else "tu-test_efficientnet")
    with pytest.raises(ConfigError) as caught:
        import_model(request, tmp_path / "models" / "model", lambda text: None)
    assert 20 < len(str(caught.value)) < 900
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "given" / CANARY).exists()
    assert list((tmp_path / "models").iterdir()) == []
    assert peak_bytes() - before < MOST_GROWN_BYTES


def test_the_canary_does_sing_where_it_is_let(tmp_path: Path) -> None:
    for make in (canary, shell, python):
        pickle.loads(pickle.dumps(make(tmp_path)))  # noqa: S301
        (tmp_path / CANARY).rmdir()
