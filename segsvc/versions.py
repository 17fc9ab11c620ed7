"""A model's versions in the user's models folder: one is in force under its name, the others are kept and can be put back.

`NAME/` is the one in force; `.versions/NAME/` keeps the others, each in a folder that is called as its digest begins. One
takes the place of another by two renames: whoever is stopped between them leaves the file `next`, by which the version that
was to come is found (`segsvc.models.library`), and the next command here ends what was begun.
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
from segsvc.models.library import KEPT, NEXT, PACKAGED, Model, kept_versions, read_model
from segsvc.settings import settings

HISTORY = "history.json"  # versions that were in force, the latest last
_SHOWN = 12  # characters of a digest


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a model. was_in_force: it has been, or came along; else it is a candidate."""

    model: Model
    in_force: bool
    was_in_force: bool

    @property
    def label(self) -> str:
        return self.model.digest[:_SHOWN]


def kept_place(name: str) -> Path:
    """Where the versions of a name are kept."""
    return settings().models_dir / KEPT / name


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Holds the versions of a name for this process. Raises ConfigError where another has them, or none can be written."""
    place = kept_place(name)
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = (place / ".lock").open("w")
    except OSError as error:
        raise ConfigError(f"models_dir: expected a folder that can be written, got {place}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"model {name}: expected no other command that changes its versions, got one at work. Wait "
                              "until it is done.") from error
        _settle(name)
        yield


def versions(name: str) -> tuple[Version, ...]:
    """All versions of a name: the one in force first, then by their digests. Raises UnknownName where there is none."""
    history = _history(name)
    found = {model.digest: Version(model, in_force=place == 0, was_in_force=place != 1 or model.digest[:_SHOWN] in history)
             for place, model in reversed(list(_placed(name)))}
    if not found:
        raise UnknownName("model", name, [])
    return tuple(sorted(found.values(), key=lambda each: (not each.in_force, each.model.digest)))


def keep(name: str, folder: Path) -> Path:
    """Takes a model's folder, on the same disk, among the versions that are kept; where it is then."""
    target = kept_place(name) / read_model(folder).digest[:_SHOWN]
    if target.exists():  # the same card and weights: what is new of it, its thresholds, counts
        shutil.rmtree(target)
    return folder.rename(target)


def put_in_force(name: str, version: Path) -> None:
    """Puts a version that is kept in force; the one before is kept."""
    place = settings().models_dir / name
    (version.parent / NEXT).write_text(version.name, "utf-8")
    labels = [version.name]
    if (place / "card.json").is_file():
        labels.insert(0, keep(name, place).name)
    elif (PACKAGED / name / "card.json").is_file():
        labels.insert(0, read_model(PACKAGED / name).digest[:_SHOWN])
    write_whole(version.parent / HISTORY, (json.dumps([*_history(name), *labels], indent=1) + "\n").encode())
    _settle(name)


def restore(name: str, wanted: str | None) -> Version:
    """Puts a version in force again: the one before, or the one whose digest begins so. Raises ConfigError."""
    with alone(name):
        known = versions(name)
        chosen = _chosen(name, wanted, known)
        if chosen.in_force:
            raise ConfigError(f"model {name}: expected a version that is not in force, {chosen.label} is")
        folder = chosen.model.folder
        if folder.parent == PACKAGED.resolve():
            with tempfile.TemporaryDirectory(dir=kept_place(name), prefix=".copying-") as temporary:
                folder = keep(name, Path(shutil.copytree(folder, Path(temporary, "model"))))
        put_in_force(name, kept_place(name) / folder.name)
    return Version(read_model(settings().models_dir / name), in_force=True, was_in_force=True)


def _chosen(name: str, wanted: str | None, known: tuple[Version, ...]) -> Version:
    if wanted is None:
        in_force = next((each.label for each in known if each.in_force), None)
        wanted = next((label for label in reversed(_history(name)) if label != in_force
                       and any(each.label == label for each in known)), None)
        if wanted is None:
            raise ConfigError(f"model {name}: expected a version that was in force before, there is none")
    fitting = [each for each in known if each.model.digest.startswith(wanted)]
    if len(fitting) != 1:
        raise ConfigError(f"model {name}: expected the beginning of one version's digest, got {wanted!r}. There are: "
                          f"{', '.join(each.label for each in known)}.")
    return fitting[0]


def _placed(name: str) -> Iterator[tuple[int, Model]]:
    """The models of a name and where they are: 0 in force, 1 kept, 2 came along."""
    place, packaged = settings().models_dir / name, PACKAGED / name
    has_own, came_along = (place / "card.json").is_file(), (packaged / "card.json").is_file()
    if has_own:
        yield 0, read_model(place)
    for folder in kept_versions(name):
        yield 1, read_model(folder)
    if came_along:
        yield 2 if has_own else 0, read_model(packaged)


def _settle(name: str) -> None:
    """Ends a change of versions that was begun."""
    place, kept = settings().models_dir / name, kept_place(name)
    if not (kept / NEXT).is_file():
        return
    coming = kept / (kept / NEXT).read_text("utf-8")
    if coming.is_dir() and not place.exists():
        coming.rename(place)
    (kept / NEXT).unlink()


def _history(name: str) -> list[str]:
    try:
        said = json.loads((kept_place(name) / HISTORY).read_bytes())
    except (OSError, ValueError):
        return []
    return [str(label) for label in said] if isinstance(said, list) else []
