"""Where labels come from, where that is not people who looked at whole images: what was decided in the review of a run.

A COCO file says so in its `info` (`origin` "review", `run`, `as_of`, `by`), a .csv in the columns `review_run`,
`review_as_of` and `review_by`, so that tables that are joined or copied go on to say it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

REVIEW = "review"
RUN_COLUMN, AS_OF_COLUMN, BY_COLUMN = COLUMNS = ("review_run", "review_as_of", "review_by")
JOINED_BY = "|"


@dataclass(frozen=True, slots=True)
class Origin:
    """Labels are what people decided of candidates of these runs; by whom, and as it stood when (ISO 8601).

    Such images are a biased sample: nobody looked where the model saw nothing.
    """

    runs: tuple[str, ...]
    as_of: tuple[str, ...] = ()
    by: tuple[str, ...] = ()

    def as_info(self) -> dict[str, Any]:
        """The fields of COCO's `info`."""
        return {"origin": REVIEW, "run": list(self.runs), "as_of": list(self.as_of), "by": list(self.by)}

    def as_columns(self) -> dict[str, str]:
        """The columns of a .csv."""
        return dict(zip(COLUMNS, map(JOINED_BY.join, (self.runs, self.as_of, self.by)), strict=True))


def of_info(info: Any) -> Origin | None:
    """What a COCO file's `info` says; None where it says nothing of it."""
    if not isinstance(info, Mapping) or info.get("origin") != REVIEW:
        return None
    return Origin(*(_texts(info.get(name)) for name in ("run", "as_of", "by")))


def of_columns(row: dict[str, str]) -> Origin | None:
    """What a row of a .csv says; its columns are taken out of it. None where it names no run."""
    runs, as_of, by = (tuple(filter(None, row.pop(name, "").split(JOINED_BY))) for name in COLUMNS)
    return Origin(runs, as_of, by) if runs else None


def joined(origins: Iterable[Origin | None]) -> Origin | None:
    """One of several, everything named once; None where there is none."""
    known = [each for each in origins if each is not None]
    if not known:
        return None
    parts = ([getattr(each, name) for each in known] for name in ("runs", "as_of", "by"))
    return Origin(*(tuple(dict.fromkeys(text for texts in part for text in texts)) for part in parts))


def _texts(said: Any) -> tuple[str, ...]:
    return tuple(str(each) for each in (said if isinstance(said, list) else [said]) if each not in (None, ""))
