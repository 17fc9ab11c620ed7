"""The JSON documents of labels out of reviews, of improving a model, and of a model's versions."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from segsvc.card import Document, describe
from segsvc.errors import ConfigError

VersionState = Literal["in_force", "kept", "candidate"]
IMPROVEMENT, TEST_SET = "improvement.json", "test_set.json"


class TestSet(Document):
    """test_set.json: the sha256 of the images that are compared on and never learnt from; how often they were."""

    __test__ = False  # no test of pytest's

    sha256: tuple[str, ...] = ()
    comparisons: int = 0

    @classmethod
    def read(cls, path: Path) -> TestSet:
        """The one in a file; an empty one where there is none. Raises ConfigError for a damaged one."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except ValidationError as error:
            raise ConfigError(f"{path}: {describe(error)}. Its images must never be learnt from: restore it from a copy."
                              ) from error
        except OSError as error:
            raise ConfigError(f"{path}: expected a readable file: {error.strerror}") from error


class Improvement(Document):
    """improvement.json: how a version came about, and why it is in force or is not.

    old, new: digests. figure: what is counted of an image (`segsvc.improving.comparing`); old_mean, new_mean: means over
    units; lower: the least by which the new one is better, with `confidence`. comparisons: how many were made on this test
    set. old_flag_at, new_flag_at: from which scores candidates counted. promised: whether the new one has a calibration.
    """

    format: Literal[1] = 1
    name: str
    in_force: bool
    reason: str
    old: str
    new: str
    data: str
    figure: Literal["object_dice", "accuracy"]
    unit: Literal["image", "group"]
    units: int
    images: int
    old_mean: float
    new_mean: float
    difference: float
    lower: float
    margin: float
    confidence: float
    better_units: int
    worse_units: int
    comparisons: int
    old_flag_at: dict[str, float]
    new_flag_at: dict[str, float]
    promised: bool
    notes: list[str]
    made_at: datetime

    @classmethod
    def read(cls, folder: Path) -> Improvement | None:
        """The one of a model's folder; None where it has none that can be read."""
        try:
            return cls.model_validate_json((folder / IMPROVEMENT).read_bytes())
        except (OSError, ValidationError):
            return None


class VerdictLabelsDocument(Document):
    """What `segsvc datasets from-review --json` prints. left_out: why images with decisions are no labels, and how many."""

    run_id: str
    dataset: str
    as_of: str
    decided_by: list[str]
    images: int
    objects: int
    rejected: int
    left_out: dict[str, int]


class ImproveDocument(Document):
    """What `segsvc improve --json` prints: the new version, where it is, and what its improvement.json holds."""

    model: str
    folder: str
    report: str
    improvement: Improvement


class ModelVersion(Document):
    """A version of a model. state: in_force, kept (it was), or candidate."""

    digest: str
    state: VersionState
    folder: str
    operating_point: str
    improvement: Improvement | None


class VersionsDocument(Document):
    """What `segsvc models versions --json` prints, and `restore --json` of the one that it put in force."""

    name: str
    items: list[ModelVersion]
