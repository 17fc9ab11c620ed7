"""A known model's weights, fetched or put there by hand, held to their digest, and imported."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segsvc.card import ClassNode
from segsvc.catalogue import HubFile, KnownModel, check_sha256
from segsvc.download import Progress, download
from segsvc.errors import ConfigError
from segsvc.models.library import Model, read_model

if TYPE_CHECKING:
    from segsvc.exchange.importing import Imported

LIMIT_BYTES = 2 * 2**30  # of a file whose size nobody has said


@dataclass(frozen=True, slots=True)
class Pulled:
    """A known model that is here. new: it was not before; notes: what the user should know of it then."""

    model: Model
    new: bool
    notes: tuple[str, ...] = ()


def pull_model(known: KnownModel, assets: Path, models: Path, *, sha256: str | None = None, say: Callable[[str], None],
               progress: Progress) -> Pulled:
    """Makes the model's folder below `models` out of its file below `assets`, which is fetched where it is not there.

    The digest is checked before anything else is done with the bytes: the catalogue's, or else `sha256`. Raises ConfigError
    where the file cannot be had (it says what to fetch by hand, and where to put it), is another one, or cannot be imported;
    nothing half written is left then.
    """
    wanted = _wanted(known, sha256)
    folder = models / known.name
    if (folder / "card.json").is_file():
        return Pulled(_model_there(folder, sha256), new=False)
    _check_place(folder)
    file = known.place(assets)
    if file.is_symlink() or file.exists():
        otherwise = f"Remove it, and it is fetched; or put {known.file.url} there."
        came = _checked(file, known, wanted, whose=str(file), otherwise=otherwise)
    else:
        say(f"fetching {known.file.url}")
        came = _fetched(known, wanted, assets, progress)
    try:
        done = _imported(known, file, came, folder, say)
    except ConfigError as error:
        if wanted is not None:
            raise
        raise ConfigError(f"{str(error).rstrip('.')}. Remove {file} if that is not what it should be, and it is fetched."
                          ) from error
    unknown = () if wanted is not None else (
        f"no digest is known for {known.file.origin}; the file that came has sha256 {came}",)
    return Pulled(done.model, new=True, notes=(*unknown, *done.notes))


def _wanted(known: KnownModel, sha256: str | None) -> str | None:
    """The digest that the file must have, None where none is known and none was demanded."""
    if sha256 is None:
        return known.sha256
    check_sha256(sha256, "--sha256")
    if known.sha256 not in (None, sha256):
        raise ConfigError(f"--sha256 {sha256}: the catalogue knows {known.sha256} of {known.name}: leave it out")
    return sha256


def _model_there(folder: Path, sha256: str | None) -> Model:
    model = read_model(folder)
    if sha256 is not None and sha256 not in model.card.source:
        raise ConfigError(f"--sha256 {sha256}: {folder} is there already, made of another file "
                          f"({model.card.source or 'its card does not say which'}). Move it away first.")
    return model


def _check_place(folder: Path) -> None:
    """Raises ConfigError where the model's folder could not be made, before anything is fetched for it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
            raise ConfigError(f"{folder}: expected a model or nothing, got something else there. Move it away first.")
    except OSError as error:
        raise ConfigError(f"{folder}: expected a place that can be written: {error.strerror}. SEGSVC_MODELS_DIR says where "
                          "models are.") from error
    if not os.access(folder.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder}: expected a place that can be written. SEGSVC_MODELS_DIR says where models are.")


def _fetched(known: KnownModel, wanted: str | None, assets: Path, progress: Progress) -> str:
    """Brings the file to its place below `assets`, whole and checked or not at all, and gives its sha256."""
    place = known.place(assets)
    otherwise = (f"Try again, or put there by hand: {_by_hand(known, wanted)} as {place}; the same command takes it from "
                 "there.")
    try:
        assets.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{known.name}-", dir=assets) as aside:
            file = Path(aside, known.file.name)
            try:
                _bring(known, file, progress)
            except ConfigError as error:
                raise ConfigError(f"{known.name}: {error}. {otherwise}") from error
            came = _checked(file, known, wanted, whose=known.file.url, otherwise=otherwise)
            place.parent.mkdir(exist_ok=True)
            file.replace(place)
    except OSError as error:
        raise ConfigError(f"{assets}: expected a folder that can be written: {error.strerror or error}. Free some space, or "
                          "choose another one by SEGSVC_ASSETS_DIR.") from error
    return came


def _bring(known: KnownModel, file: Path, progress: Progress) -> None:
    most_bytes = known.size_bytes or LIMIT_BYTES
    if isinstance(known.file, HubFile):
        from segsvc.exchange.hub import fetch_file

        fetch_file(known.file.repository, known.file.revision, known.file.name, file.parent, most_bytes=most_bytes)
    else:
        download(known.file.url, file, most_bytes=most_bytes, progress=progress)


def _checked(file: Path, known: KnownModel, wanted: str | None, *, whose: str, otherwise: str) -> str:
    """The file's sha256. Raises ConfigError where it is no file, or another than the one that is wanted."""
    try:
        if not file.is_file():
            raise ConfigError(f"{whose}: expected a regular file, got another kind. {otherwise}")
        size_bytes = file.stat().st_size
        with file.open("rb") as stream:
            came = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{whose}: expected a readable file: {error.strerror}. {otherwise}") from error
    if wanted not in (None, came):
        of_bytes = f"{known.size_bytes} bytes with " if known.size_bytes is not None else ""
        raise ConfigError(f"{whose}: expected {of_bytes}sha256 {wanted}, got {size_bytes} bytes with sha256 {came}. "
                          f"{otherwise}")
    return came


def _by_hand(known: KnownModel, wanted: str | None) -> str:
    size = f"{known.size_bytes} bytes, " if known.size_bytes is not None else ""
    return f"{known.file.url} ({size}{f'sha256 {wanted}' if wanted is not None else 'no digest is known'})"


def _imported(known: KnownModel, file: Path, came: str, folder: Path, say: Callable[[str], None]) -> Imported:
    from segsvc.exchange.importing import import_model
    from segsvc.exchange.request import ImportRequest, Provenance

    classes = tuple(ClassNode(name=name) for name in known.names()) if known.names is not None else None
    provenance = Provenance(description=f"{known.what}.", source=f"{known.file.origin}, sha256 {came}",
                            trained_on=known.trained_on, not_for=known.not_for)
    return import_model(
        ImportRequest(source=str(file), name=known.name, task=known.task, arch=known.arch, encoder=known.encoder,
                      options=known.options, classes=classes, licence=known.licence, tile_px=known.tile_px,
                      provenance=provenance), folder, say)
