"""A model's versions: one is in force in the model's folder, the others are kept beside it and can be put back.

`NAME/` is the one in force, as a rule in the user's models folder; `.versions/NAME/` beside it keeps the others, each in a
folder that is called as its digest begins. One takes the place of another by two renames: whoever is stopped between them
leaves the file `next`, by which the version that was to come is found (`segsvc.models.library`), and the next command here
ends what was begun.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from segsvc.errors import ConfigError, UnknownName
from segsvc.models.checkpoint import write_whole
from segsvc.models.library import KEPT, NEXT, PACKAGED, Model, kept_versions, model_names, read_model
from segsvc.settings import settings

HISTORY = "history.json"  # versions that were in force, the latest last
_SHOWN = 12  # characters of a digest
_IN_FORCE, _KEPT, _CAME_ALONG = range(3)  # where a version is


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a model. was_in_force: it has been, or came along; else it is a candidate."""

    model: Model
    in_force: bool
    was_in_force: bool

    @property
    def label(self) -> str:
        return self.model.digest[:_SHOWN]


def place_of(name: str) -> Path:
    """The folder of a model's version in force, by its name among the user's models or by its path. Raises ConfigError."""
    if "://" in name:
        raise ConfigError(f"model {name}: expected a name, or a folder on this machine, where versions can be kept")
    return Path(name).absolute() if "/" in name or name in (".", "..") else settings().models_dir / name


def kept_place(place: Path) -> Path:
    """Where the other versions are kept of the model whose version in force is at `place`, as for all functions here."""
    return place.parent / KEPT / place.name


def in_force(place: Path) -> Model | None:
    """The version in force: at its place, else the model of that name which came along; None where there is neither."""
    return next((model for number, model in _placed(place) if number != _KEPT), None)


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Holds a model's versions for this process. Raises ConfigError where another has them, or none can be written."""
    kept = kept_place(place)
    try:
        kept.mkdir(parents=True, exist_ok=True)
        lock = (kept / ".lock").open("w")
    except OSError as error:
        raise ConfigError(f"model {place.name}: expected a folder that can be written for its versions, got {kept}: "
                          f"{error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"model {place.name}: expected no other command that changes its versions, got one at work. "
                              "Wait until it is done.") from error
        _settle(place)
        yield


def versions(place: Path) -> tuple[Version, ...]:
    """All versions: the one in force first, then by their digests. Raises UnknownName where there is none."""
    history = _history(place)
    found = {model.digest: Version(model, in_force=where == _IN_FORCE,
                                   was_in_force=where != _KEPT or model.digest[:_SHOWN] in history)
             for where, model in reversed(list(_placed(place)))}
    if not found:
        raise UnknownName("model", place.name, model_names())
    return tuple(sorted(found.values(), key=lambda each: (not each.in_force, each.model.digest)))


def keep(place: Path, folder: Path) -> Path:
    """Takes a model's folder, on the same disk, among the versions that are kept; where it is then."""
    target = kept_place(place) / read_model(folder).digest[:_SHOWN]
    if target.exists():  # the same card and weights: what is new of it, its thresholds, counts
        shutil.rmtree(target)
    return folder.rename(target)


def put_in_force(place: Path, version: Path) -> None:
    """Puts a version that is kept in force; the one before is kept."""
    (version.parent / NEXT).write_text(version.name, "utf-8")
    labels = [version.name]
    if (place / "card.json").is_file():
        labels.insert(0, keep(place, place).name)
    elif (before := in_force(place)) is not None:
        labels.insert(0, before.digest[:_SHOWN])
    write_whole(version.parent / HISTORY, (json.dumps([*_history(place), *labels], indent=1) + "\n").encode())
    _settle(place)


def restore(place: Path, wanted: str | None) -> Version:
    """Puts a version in force again: the one before, or the one whose digest begins so. Raises ConfigError."""
    versions(place)  # a name that is not known leaves nothing
    with alone(place):
        chosen = _chosen(place, wanted, versions(place))
        if chosen.in_force:
            raise ConfigError(f"model {place.name}: expected a version that is not in force, {chosen.label} is")
        folder = chosen.model.folder
        if folder.parent == PACKAGED.resolve():
            with tempfile.TemporaryDirectory(dir=kept_place(place), prefix=".copying-") as temporary:
                folder = keep(place, Path(shutil.copytree(folder, Path(temporary, "model"))))
        put_in_force(place, kept_place(place) / folder.name)
    return Version(read_model(place), in_force=True, was_in_force=True)


def _chosen(place: Path, wanted: str | None, known: tuple[Version, ...]) -> Version:
    if wanted is None:
        now = next((each.label for each in known if each.in_force), None)
        wanted = next((label for label in reversed(_history(place)) if label != now
                       and any(each.label == label for each in known)), None)
        if wanted is None:
            raise ConfigError(f"model {place.name}: expected a version that was in force before, there is none")
    fitting = [each for each in known if each.model.digest.startswith(wanted)]
    if len(fitting) != 1:
        raise ConfigError(f"model {place.name}: expected the beginning of one version's digest, got {wanted!r}. There are: "
                          f"{', '.join(each.label for each in known)}.")
    return fitting[0]


def _placed(place: Path) -> Iterator[tuple[int, Model]]:
    """The versions and where they are."""
    packaged = PACKAGED / place.name
    has_own = (place / "card.json").is_file()
    if has_own:
        yield _IN_FORCE, read_model(place)
    for folder in kept_versions(place):
        yield _KEPT, read_model(folder)
    if place.parent == settings().models_dir and (packaged / "card.json").is_file():
        yield _CAME_ALONG if has_own else _IN_FORCE, read_model(packaged)


def _settle(place: Path) -> None:
    """Ends a change of versions that was begun."""
    kept = kept_place(place)
    if not (kept / NEXT).is_file():
        return
    coming = kept / (kept / NEXT).read_text("utf-8")
    if coming.is_dir() and not place.exists():
        coming.rename(place)
    (kept / NEXT).unlink()


def _history(place: Path) -> list[str]:
    try:
        said = json.loads((kept_place(place) / HISTORY).read_bytes())
    except (OSError, ValueError):
        return []
    return [str(label) for label in said] if isinstance(said, list) else []
