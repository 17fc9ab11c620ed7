"""Models as folders: found by name, path or URI, their cards read, their weights held to their sha256."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from segsvc.card import ModelCard, describe
from segsvc.errors import ConfigError, ImageError, UnknownName
from segsvc.operating_point import OperatingPoint
from segsvc.settings import settings
from segsvc.stores import MISSING, store_of
from segsvc.types import stable_id

if TYPE_CHECKING:
    import torch

KEPT = ".versions"  # beside models: a folder for each name, with the versions that are not in force
NEXT = "next"  # in there: which of them is being put in force
PACKAGED = Path(__file__).parent.parent / "packaged_models"
WEIGHTS = "model.safetensors"
_FETCHED = (WEIGHTS, "operating_point.json", "metrics.json", "card.json")  # of a model in a store; the card last
_Document = TypeVar("_Document", ModelCard, OperatingPoint)


@dataclass(frozen=True, slots=True)
class Model:
    """A model's folder, its card and, where it has one, its operating point.

    origin: what it was asked for by: another machine may know it by that too.
    """

    folder: Path
    card: ModelCard
    operating_point: OperatingPoint | None
    origin: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def digest(self) -> str:
        """sha256 of card and weights; the operating point is no part of it."""
        return self.card.digest

    @property
    def place(self) -> str:
        """Where it is kept: below its URI in a store, else in its folder."""
        return self.origin.rstrip("/") if "://" in self.origin else str(self.folder)

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    def check_weights(self) -> None:
        """Raises ConfigError where the weights are not those that the card names."""
        try:
            with self.weights.open("rb") as file:
                came = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ConfigError(f"model {self.name}: expected its weights at {self.weights}: {error.strerror}") from error
        if came != self.card.weights_sha256:
            raise ConfigError(f"model {self.name}: expected weights with sha256 {self.card.weights_sha256}, got {came} "
                              f"({self.weights}). Fetch or copy the model again.")


def folders() -> tuple[Path, ...]:
    """Where models are looked for by name, first to last: the user's folder, then the packaged ones."""
    return settings().models_dir, PACKAGED


def model_names() -> tuple[str, ...]:
    """The names of all models that can be used here, sorted."""
    found = set()
    for folder in folders():
        try:
            found |= {entry.name for entry in folder.iterdir() if _has_card(entry)}
        except OSError:  # no such folder, or none that we may look into
            continue
    return tuple(sorted(found))


def _has_card(folder: Path) -> bool:
    try:
        return (folder / "card.json").is_file()
    except OSError:  # a name that is too long, a folder without permission
        return False


def find_model(name: str) -> Model:
    """The model of that name, in that folder, or below that URI of a store: it is copied into the cache then.

    Raises UnknownName with the known names, ConfigError where it is damaged.
    """
    return replace(_find(name), origin=name)


def is_place(name: str) -> bool:
    """Whether a model is meant by its folder or URI, and not by its name."""
    return "/" in name or name in (".", "..")


def _find(name: str) -> Model:
    if "://" in name:
        return read_model(_fetched(name))
    if is_place(name):
        folder = next(filter(_has_card, (Path(name), *_next_in_force(Path(name)))), None)
        if folder is None:
            raise ConfigError(f"model: expected a folder with card.json, got {name!r}")
        return read_model(folder)
    for folder in (settings().models_dir / name, *_next_in_force(settings().models_dir / name), PACKAGED / name):
        if _has_card(folder):
            return read_model(folder)
    if _has_card(Path(name)):
        return read_model(Path(name))
    raise UnknownName("model", name, model_names())


def _next_in_force(place: Path) -> tuple[Path, ...]:
    """The version that was being put in force there when that was cut short: its place was free then."""
    kept = place.parent / KEPT / place.name
    try:
        return (kept / (kept / NEXT).read_text("utf-8"),)
    except (OSError, ValueError):  # as a rule: there is none
        return ()


def kept_versions(place: Path) -> tuple[Path, ...]:
    """The folders of the versions that are not in force of the model at a place, sorted."""
    try:
        return tuple(sorted(folder for folder in (place.parent / KEPT / place.name).iterdir() if _has_card(folder)))
    except OSError:
        return ()


def _fetched(uri: str) -> Path:
    """The model's files in the cache, fetched where another version of them, or none, is there."""
    store, uri = store_of(uri), uri.rstrip("/")
    found = {name: store.find(f"{uri}/{name}") for name in _FETCHED}
    if found["card.json"].version == MISSING:
        raise ConfigError(f"model: expected a folder with card.json, got {uri!r}")
    there = {name: ref for name, ref in found.items() if ref.version != MISSING}
    place = settings().cache_dir / "models" / stable_id(uri, *(f"{name} {ref.version}" for name, ref in there.items()))
    if _has_card(place):
        return place
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=place.parent) as temporary:
            whole = Path(temporary, "whole")
            whole.mkdir()
            for name, ref in there.items():
                with closing(store.open(ref)) as blob:
                    (whole / name).write_bytes(blob.read_all())
            with suppress(OSError):  # another process was quicker: the same files are there
                whole.rename(place)
    except ImageError as error:
        raise ConfigError(f"model {uri}: {error}") from error
    except OSError as error:
        raise ConfigError(f"cache_dir: expected a folder that can be written, got {place.parent}: {error.strerror}"
                          ) from error
    return place


def find_same_model(name: str, digest: str) -> Model | None:
    """The model of that name, if it is still here and the same, be it a version that was replaced; else None."""
    try:
        model = find_model(name)
        if model.digest == digest:
            return model
    except ConfigError:
        pass
    for folder in kept_versions(Path(name) if "/" in name else settings().models_dir / name):
        try:
            if (kept := read_model(folder)).digest == digest:
                return kept
        except ConfigError:  # damaged: it is not the one
            continue
    return None


def read_model(folder: Path) -> Model:
    """The model in a folder; its weights are looked at only by `check_weights`."""
    card = _read(folder / "card.json", ModelCard)
    point_file = folder / "operating_point.json"
    point = _read(point_file, OperatingPoint) if point_file.is_file() else None
    if point is not None and point.model_digest not in (None, card.digest):
        point = None  # it was made for other weights or another card: it says nothing about this model
    return Model(folder.resolve(), card, point)


def _read(path: Path, kind: type[_Document]) -> _Document:
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error)}") from error
    except OSError as error:
        raise ConfigError(f"{path}: expected a readable file: {error.strerror}") from error


def load_weights(model: Model) -> dict[str, torch.Tensor]:
    """The state dict as float32, after its sha256 was checked. safetensors holds no code."""
    import safetensors
    import safetensors.torch

    model.check_weights()
    try:
        state = safetensors.torch.load_file(model.weights)
    except (safetensors.SafetensorError, OSError) as error:
        raise ConfigError(f"model {model.name}: expected safetensors at {model.weights}, got: {error}") from error
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
