"""segsvc: images to candidates, with thresholds that say what they rest on.

    import segsvc
    model = segsvc.load("nuclei")            # a name or a folder
    result = model.segment("cells.tif")      # a path, bytes, or an array (H, W[, C]) uint8 or uint16
    run = segsvc.open_run("OUT")             # .images(), .candidates(): Arrow tables with band and probability
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segsvc.errors import ConfigError, ImageError, ImageErrorKind, RunError, SegsvcError, UnknownName
from segsvc.types import Band, Box, Candidate, CandidateKind, ImageStatus, Segmentation

if TYPE_CHECKING:
    from segsvc.loaded import LoadedModel
    from segsvc.views import OpenRun

__version__ = "0.1.0"

__all__ = [
    "Band",
    "Box",
    "Candidate",
    "CandidateKind",
    "ConfigError",
    "ImageError",
    "ImageErrorKind",
    "ImageStatus",
    "RunError",
    "Segmentation",
    "SegsvcError",
    "UnknownName",
    "load",
    "open_run",
]


def load(name: str, *, threads: int | None = None) -> LoadedModel:
    """The model of that name (or in that folder), ready to segment. `threads`: by default all cores.

    Raises UnknownName with the known names, ConfigError where the model is damaged.
    """
    from segsvc.loaded import load_model

    return load_model(name, threads=threads)


def open_run(out: str) -> OpenRun:
    """A run's folder to look into: `.images()` and `.candidates()` are Arrow tables with band and probability.

    Raises ConfigError where there is no run.
    """
    from segsvc.results import RunFolder
    from segsvc.stores import store_of
    from segsvc.views import OpenRun

    return OpenRun(RunFolder(store_of(str(out)).folder(str(out))))
