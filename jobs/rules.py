"""The rules of triggers: which objects of which buckets are looked at by which model, and where what it finds goes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from segsvc.errors import ConfigError
from segsvc.ledger.event_records import TakingRule
from segsvc.models.library import find_model, is_place
from segsvc.reach import Reach
from segsvc.stores import is_hidden, is_no_image
from segsvc.stores.s3.buckets import SCHEME, split_uri

log = logging.getLogger("jobs.rules")

_MOST_BYTES = 1 << 20
_MOST_SHOWN = 60
_Share = Annotated[float, Field(gt=0, lt=1)]
_Score = Annotated[float, Field(ge=0, le=1)]
_Text = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Gather(_Strict):
    """When objects become a run: so long after the first of them, or when they are so many, whichever is sooner."""

    seconds: Annotated[float, Field(ge=0, le=86_400)] = 60.0
    images: Annotated[int, Field(ge=1, le=100_000)] = 1000


class Rule(_Strict):
    """Objects below `prefix`, with one of these endings if any are given, are looked at by `model`; each run has a new
    folder below `out`. What sets the bands is as for a run.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    prefix: _Text
    suffixes: tuple[_Text, ...] = ()
    model: _Text
    out: _Text
    recall: _Share | None = None
    precision: _Share | None = None
    flag_at: _Score | None = None
    accept_at: _Score | None = None
    gather: Gather = Gather()

    @field_validator("out", "model")
    @classmethod
    def _absolute(cls, place: str, info: ValidationInfo) -> str:
        """A server that works on it may run in another folder."""
        is_path = "://" not in place and (info.field_name == "out" or is_place(place))
        return str(Path(place).absolute()) if is_path else place

    @field_validator("prefix")
    @classmethod
    def _names_a_bucket(cls, prefix: str) -> str:
        try:
            _, key = split_uri(prefix)
        except ConfigError as error:
            raise ValueError("expected s3://bucket/ or s3://bucket/prefix/") from error
        if any(map(is_hidden, key.split("/"))):
            raise ValueError("expected a prefix without hidden folders, which listings pass over")
        return prefix if prefix.count("/") > 2 else f"{prefix}/"

    @model_validator(mode="after")
    def _ends_somewhere_else(self) -> Self:
        if f"{self.out.rstrip('/')}/".startswith(self.prefix):
            raise ValueError(f"out: expected a place that does not lie below prefix, got {self.out!r}: what is written "
                             "there would be taken up again")
        return self

    def refusal(self, uri: str) -> str | None:
        """Why the rule does not take an object; None where it does. As in a listing, hidden ones and no images are left."""
        if not uri.startswith(self.prefix):
            return f"not below {self.prefix}"
        if any(map(is_hidden, uri[self.prefix.rfind("/") + 1:].split("/"))):
            return "hidden"
        if uri.endswith("/"):
            return "a folder"
        if is_no_image(uri):
            return "no image by its ending"
        if self.suffixes and not uri.endswith(self.suffixes):
            return f"does not end in {' or '.join(self.suffixes)}"
        return None


class _File(_Strict):
    rules: Annotated[tuple[Rule, ...], Field(min_length=1, max_length=1000)]


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules in their order: the first that takes an object has it."""

    rules: tuple[Rule, ...]

    def place_of(self, uri: str) -> int | None:
        """The place of the rule that takes an object; None where none does."""
        return next((place for place, rule in enumerate(self.rules) if rule.refusal(uri) is None), None)

    def why_none(self, uri: str) -> str:
        """Why no rule takes the object."""
        return "; ".join(f"{rule.name}: {rule.refusal(uri)}" for rule in self.rules)

    def taking(self) -> tuple[TakingRule, ...]:
        """The rules as the ledger keeps them, with the digests of their models as they are now."""
        digests = {rule.model: find_model(rule.model).digest for rule in self.rules}
        return tuple(TakingRule(rule.model_dump_json(), digests[rule.model], rule.gather.seconds, rule.gather.images)
                     for rule in self.rules)

    def check(self, reach: Reach | None) -> None:
        """Raises ConfigError where a rule names a place that this server may not use, or a model that is not there."""
        for rule in self.rules:
            if reach is not None:
                reach.check(rule.prefix, f"rule {rule.name!r}, prefix")
                reach.check(rule.out, f"rule {rule.name!r}, out")
                if "/" in rule.model:
                    reach.check(rule.model, f"rule {rule.name!r}, model")
            try:
                find_model(rule.model)
            except ConfigError as error:
                raise ConfigError(f"rule {rule.name!r}, model: {error}") from error


class RulesFile:
    """A rules file that is read again when it has changed; while it is wrong, the rules before are in force."""

    def __init__(self, path: Path, reach: Callable[[], Reach | None]) -> None:
        self._path, self._reach = path, reach
        self._tag = self._now()
        self._rules = read_rules(path)
        self._rules.check(reach())

    def current(self) -> Rules:
        """The rules in force. Raises ConfigError where they name a place that may not be used any more."""
        tag = self._now()
        if tag != self._tag:
            self._tag = tag
            try:
                self._rules = read_rules(self._path)
            except ConfigError as error:
                log.warning("the rules before stay in force: %s", error)
        self._rules.check(self._reach())
        return self._rules

    def _now(self) -> tuple[int, int]:
        try:
            stat = self._path.stat()
        except OSError:
            return 0, 0
        return stat.st_mtime_ns, stat.st_size


def read_rules(path: Path) -> Rules:
    """The rules of a YAML file. Raises ConfigError that names the rule and field, what was expected, and what came."""
    what = f"rules {str(path)!r}"
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{what}: expected a YAML file, got: {error.strerror}") from error
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{what}: expected at most {_MOST_BYTES >> 20} MiB")
    try:
        document = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{what}: expected YAML, got: {' '.join(str(error).split())[:300]}") from error
    try:
        found = _File.model_validate(document).rules
    except ValidationError as error:
        wrong = [each for each in error.errors() if each["type"] != "too_short" or error.error_count() == 1]
        raise ConfigError(f"{what}: {'; '.join(_wording(each, document) for each in wrong[:5])}") from error
    doubled = [name for name, count in Counter(rule.name for rule in found).items() if count > 1]
    if doubled:
        raise ConfigError(f"{what}: expected rules with names of their own, got several called "
                          f"{', '.join(map(repr, doubled))}")
    for rule in found:
        out = f"{rule.out.rstrip('/')}/" if rule.out.startswith(SCHEME) else ""
        inside = next((other.name for other in found if out.startswith(other.prefix)), None)
        if inside is not None:
            raise ConfigError(f"{what}: rule {rule.name!r}, out: expected a place below no rule's prefix, got one below "
                              f"that of {inside!r}: what is written there would be taken up again")
    return Rules(found)


def _wording(problem: Any, document: object) -> str:
    """One thing that is wrong: the rule, the field, what was expected and what came."""
    steps: Sequence[int | str] = problem["loc"]
    where = "the document"
    if len(steps) > 1 and isinstance(steps[1], int):
        where = f"rule {_name(document, steps[1])}"
        steps = steps[2:]
    field = ".".join(map(str, steps))
    if problem["type"] == "extra_forbidden":
        known = _known(steps) if where != "the document" else ["rules"]
        return f"{where}, {field}: expected one of {', '.join(known)}, got a field that is not known"
    if problem["type"] == "missing":
        return f"{where}, {field}: expected a value, it is missing"
    if problem["type"] == "too_short" and where == "the document":
        return f"{where}, {field}: expected a rule at least, got none"
    came = f", got {problem['input']!r:.{_MOST_SHOWN}}"
    said = problem["msg"].removeprefix("Value error, ")
    said = said if said.startswith(("expected", "out: expected")) else f"expected otherwise: {said}"
    if said.startswith("out: "):
        return f"{where}, {said}"
    return f"{where}, {field}: {said}{came}" if field else f"{where}: {said}{came}"


def _known(steps: Sequence[int | str]) -> list[str]:
    return list((Gather if steps[0] == "gather" and len(steps) > 1 else Rule).model_fields)


def _name(document: object, place: int) -> str:
    try:
        name = document["rules"][place]["name"]  # type: ignore[index]
    except (KeyError, IndexError, TypeError):
        name = None
    return f"{name!r}" if isinstance(name, str) else f"number {place + 1}"
