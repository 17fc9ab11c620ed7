"""The parts of a run: published whole or not at all, resumed, scanned, and seen through the bands in force.

A shard has three parts: timings, candidates, and last its images, which commit it. Parts are the only truth about
finished work. They are the same bytes whoever made them: rows are in the plan's order, and nothing in them depends
on when or where they were made (timings excepted).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from segsvc.card import RunSpec, describe
from segsvc.errors import ConfigError, RunError
from segsvc.operating_point import OperatingPoint
from segsvc.plan import Shard
from segsvc.stores import PartFolder
from segsvc.tables import CANDIDATES_SCHEMA, IMAGES_SCHEMA, PLAN_SCHEMA, SCHEMAS, TIMINGS_SCHEMA
from segsvc.types import ImageRef, ImageResult, ImageStatus, Unit

_CURSOR, _SKIPPED, _LAST = b"segsvc.cursor", b"segsvc.skipped", b"segsvc.last"
_PART = re.compile(r"[a-z]+/part-[0-9]{5,}\.parquet")
UNREAD = frozenset({ImageStatus.FAILED, ImageStatus.QUARANTINED})


def part_name(kind: str, number: int) -> str:
    """The name of a part within OUT, such as `images/part-00007.parquet`."""
    return f"{kind}/part-{number:05d}.parquet"


def part_number(name: str) -> int:
    """The shard's number in a part's name."""
    return int(name.rsplit("part-", 1)[1].removesuffix(".parquet"))


def without_gap(numbers: Sequence[int]) -> int:
    """How many of these ascending numbers follow each other from 0 on: parts are put several at once."""
    return next((place for place, number in enumerate(numbers) if place != number), len(numbers))


def _parquet_bytes(table: pa.Table, *, dictionaries: bool = True) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", version="2.6", write_page_checksum=True, use_dictionary=dictionaries)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _plan_table(shard: Shard) -> pa.Table:
    """A part of the plan, built by columns."""
    refs = [unit.ref for unit in shard.units]
    columns = {
        "ordinal": [unit.ordinal for unit in shard.units], "image_id": [ref.image_id for ref in refs],
        "image_uri": [ref.uri for ref in refs], "image_version": [ref.version for ref in refs],
        "size_bytes": [ref.size_bytes for ref in refs], "group": [ref.group for ref in refs],
        "meta": [sorted(ref.meta.items()) for ref in refs]}
    return pa.Table.from_pydict(columns, PLAN_SCHEMA.with_metadata({
        _CURSOR: shard.cursor.encode(), _LAST: str(shard.is_last).lower().encode(),
        _SKIPPED: json.dumps(dict(sorted(shard.skipped.items()))).encode()}))


def _table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema)


@dataclass(frozen=True, slots=True)
class UnitRows:
    """What one image adds to the parts of its shard: a row of images, rows of candidates and of timings."""

    image: Mapping[str, Any]
    candidates: Sequence[Mapping[str, Any]]
    timings: Sequence[Mapping[str, Any]]

    @property
    def status(self) -> ImageStatus:
        return ImageStatus(self.image["status"])


class RunFolder:
    """OUT: what is published there, and the ways to add to it."""

    def __init__(self, folder: PartFolder) -> None:
        self._folder = folder

    @property
    def uri(self) -> str:
        return self._folder.uri

    @property
    def in_flight(self) -> int:
        """How many reads and puts are worth having under way at once."""
        return self._folder.in_flight

    # -- documents ---------------------------------------------------------------------------------------------------

    def begin(self, spec: RunSpec) -> None:
        """Writes spec.json first of all. Raises ConfigError where OUT holds another run or something else."""
        there = self._folder.read("spec.json")
        if there is None:
            if not self._folder.is_empty() and (there := self._folder.read("spec.json")) is None:  # not begun meanwhile
                raise ConfigError(f"OUT: expected an empty folder or an earlier run, got {self.uri} with other files "
                                  "in it. Choose another --out.")
            if there is None and not self._folder.put("spec.json", spec.to_json().encode(), if_absent=True):
                there = self._folder.read("spec.json")
        if there is not None and there != spec.to_json().encode():
            raise ConfigError(f"OUT: {self.uri} holds another run: {_differences(there, spec)}. Choose another --out, "
                              "or give the same command to resume that run.")

    def spec(self) -> RunSpec:
        """The run's spec. Raises ConfigError where there is no run here."""
        raw = self._folder.read("spec.json")
        if raw is None:
            raise ConfigError(f"OUT: expected a run's folder, got {self.uri} without spec.json")
        try:
            return RunSpec.model_validate_json(raw)
        except ValidationError as error:
            raise ConfigError(f"{self.uri}/spec.json: {describe(error)}") from error

    def operating_points(self) -> list[OperatingPoint]:
        """Those in force over time, oldest first; the last one gives the bands."""
        raw = self._folder.read("bands.json")
        if raw is None:
            return []
        try:
            return [OperatingPoint.model_validate(point) for point in json.loads(raw)["operating_points"]]
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            reason = describe(error) if isinstance(error, ValidationError) else str(error)
            raise ConfigError(f"{self.uri}/bands.json: expected a list of operating points: {reason}") from error

    def add_operating_point(self, point: OperatingPoint) -> None:
        """Puts a point in force; the earlier ones stay on record."""
        points = [*self.operating_points(), point]
        document = {"operating_points": [each.model_dump(mode="json") for each in points]}
        self.put_json("bands.json", document)

    def put_json(self, name: str, document: Mapping[str, Any]) -> None:
        """Replaces a JSON document, whole."""
        text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        self.put(name, text.encode())

    def put(self, name: str, data: bytes) -> None:
        """Replaces a file, whole."""
        self._folder.put(name, data)

    def delete(self, name: str) -> None:
        """Removes a file, if it is there."""
        self._folder.delete(name)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON document, None where there is none or it is unreadable."""
        raw = self._folder.read(name)
        try:
            document = json.loads(raw) if raw is not None else None
        except ValueError:
            return None
        return document if isinstance(document, dict) else None

    # -- plan --------------------------------------------------------------------------------------------------------

    def publish_plan(self, shard: Shard) -> None:
        """Freezes a shard of the plan. Raises RunError if another listing has frozen it otherwise."""
        data = _parquet_bytes(_plan_table(shard), dictionaries=False)  # URIs, ids and versions are all different
        name = part_name("plan", shard.number)
        if not self._folder.put(name, data, if_absent=True) and self._folder.read(name) != data:
            raise RunError(f"{self.uri}/{name}: another run planned other images there at the same time. "
                           "Start again on a new OUT.")

    def planned(self, number: int) -> Shard | None:
        """A frozen shard of the plan; None where it is not yet planned."""
        raw = self._folder.read(part_name("plan", number))
        if raw is None:
            return None
        table = self._parsed(raw, part_name("plan", number))
        metadata = table.schema.metadata or {}
        try:
            cursor, skipped = metadata.get(_CURSOR, b"").decode(), json.loads(metadata.get(_SKIPPED, b"{}"))
        except ValueError as error:
            raise RunError(f"{self.uri}/{part_name('plan', number)}: expected a cursor and counts, got: {error}") from error
        units = tuple(
            Unit(row["ordinal"], ImageRef(row["image_uri"], row["image_version"], row["size_bytes"], row["group"],
                                          dict(row["meta"])))
            for row in table.to_pylist())
        return Shard(number, units, cursor, skipped, metadata.get(_LAST) == b"true")

    def last_planned(self) -> Shard | None:
        """The last frozen shard of the plan; None where nothing is planned."""
        numbers = self.numbers("plan")
        return self.planned(numbers[-1]) if numbers else None

    def numbers(self, kind: str) -> list[int]:
        """The shards that have a part of that kind, ascending."""
        return sorted(part_number(name) for name in self._folder.names(kind) if _PART.fullmatch(name))

    # -- shards ------------------------------------------------------------------------------------------------------

    def tag(self, number: int) -> str | None:
        """What tells a published shard from one that replaced it; None where it is not published."""
        return self._folder.tag(part_name("images", number))

    def publish(self, number: int, rows: Sequence[UnitRows], *, replacing: str | None = None) -> None:
        """Publishes a shard: timings and candidates, then images, the commit.

        One that is committed stays as it is, unless it is the one tagged `replacing`, whose failed images were taken up
        again.
        """
        if self.tag(number) != replacing:
            return
        timings = _table([row for unit in rows for row in unit.timings], TIMINGS_SCHEMA)
        candidates = _table([row for unit in rows for row in unit.candidates], CANDIDATES_SCHEMA)
        images = _table([unit.image for unit in rows], IMAGES_SCHEMA)
        with ThreadPoolExecutor(2) as both:  # in this order of commit, but at once
            for put in [both.submit(self._folder.put, part_name(kind, number), _parquet_bytes(table))
                        for kind, table in (("timings", timings), ("candidates", candidates))]:
                put.result()
        self._folder.put(part_name("images", number), _parquet_bytes(images), if_absent=replacing is None, if_tag=replacing)

    def part(self, kind: str, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One part. Raises RunError where it is gone or damaged."""
        name = part_name(kind, number)
        raw = self._folder.read(name)
        if raw is None:
            raise RunError(f"{self.uri}/{name}: expected a published part, there is none")
        return self._parsed(raw, name, columns)

    def _parsed(self, raw: bytes, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        try:
            # Not read_table, which catches Ctrl-C in a thread of its own and can abort the process at its end.
            with pq.ParquetFile(io.BytesIO(raw), page_checksum_verification=True) as file:
                table = file.read(columns=list(columns) if columns is not None else None)
            came = {field.name: field.type for field in table.schema}
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            raise RunError(f"{self.uri}/{name}: expected a Parquet file, got a damaged one ({error})") from error
        schema = SCHEMAS[name.split("/", maxsplit=1)[0]]
        wrong = [wanted for wanted in (columns or schema.names) if came.get(wanted) != schema.field(wanted).type]
        if wrong:
            raise RunError(f"{self.uri}/{name}: expected the columns {schema.names}, {wrong} are missing or of other types")
        return table

    def kept_rows(self, number: int) -> list[UnitRows | None]:
        """The rows of a published shard, one entry an image in the plan's order; None for one that is failed."""
        of_image: dict[str, list[Mapping[str, Any]]] = {}
        for row in self.part("candidates", number).to_pylist():
            of_image.setdefault(row["image_id"], []).append(row)
        timings: dict[str, list[Mapping[str, Any]]] = {}
        for row in self.part("timings", number).to_pylist():
            timings.setdefault(row["image_id"], []).append(row)
        kept: list[UnitRows | None] = []
        for image in self.part("images", number).to_pylist():
            own = of_image.get(image["image_id"], [])
            mine, of_image[image["image_id"]] = own[: image["n_candidates"]], own[image["n_candidates"]:]
            closed = ImageStatus(image["status"]) in UNREAD
            kept.append(None if closed else UnitRows(image, mine, timings.pop(image["image_id"], [])))
        return kept

    def unread(self, number: int) -> int:
        """How many images of a published shard are failed or quarantined."""
        status = self.part("images", number, ["status"])["status"]
        return int(pc.sum(pc.is_in(status, pa.array([each.value for each in UNREAD]))).as_py() or 0)

    def claim(self) -> bool:
        """Whether this run alone may now work on OUT; held until released or until its process ends."""
        return self._folder.claim()

    def release(self) -> None:
        self._folder.release()

    def tidy(self) -> None:
        """Removes what writers that died have left."""
        self._folder.sweep()


def _differences(there: bytes, spec: RunSpec) -> str:
    try:
        before = json.loads(there)
        asked = spec.model_dump(mode="json")
        other = [f"{key} {before.get(key)!r} there, {asked.get(key)!r} asked"
                 for key in sorted({*before, *asked}) if before.get(key) != asked.get(key)]
    except (ValueError, AttributeError, TypeError):
        return "its spec.json cannot be read"
    return "; ".join(other) or "its spec.json was written otherwise"


def unit_rows(result: ImageResult, *, model: str, model_digest: str) -> UnitRows:
    """The rows that an image's result becomes."""
    timings = [{"image_id": result.ref.image_id, "stage": stage, "seconds": seconds}
               for stage, seconds in sorted(result.timings_s.items())]
    return UnitRows(_image_row(result), _candidate_rows(result, model=model, model_digest=model_digest), timings)


def _image_row(result: ImageResult) -> dict[str, Any]:
    """The row of `images` that says how an image ended."""
    found, ref = result.segmentation, result.ref
    return {
        "image_id": ref.image_id, "image_uri": ref.uri, "image_version": ref.version, "status": result.status.value,
        "width_px": found.width_px if found is not None else None,
        "height_px": found.height_px if found is not None else None,
        "frames": found.frames if found is not None else None,
        "error_kind": result.error_kind.value if result.error_kind else None, "error": result.error,
        "n_candidates": len(found.candidates) if found is not None else 0,
        "n_below_floor": found.counts.below_floor if found is not None else 0,
        "n_below_min_area": found.counts.below_min_area if found is not None else 0,
        "group": ref.group, "meta": sorted(ref.meta.items()),
    }


def _candidate_rows(result: ImageResult, *, model: str, model_digest: str) -> list[dict[str, Any]]:
    """The rows of `candidates` of one image, in the order of its segmentation."""
    if result.segmentation is None:
        return []
    image_id = result.ref.image_id
    return [{
        "candidate_id": found.candidate_id(image_id, model_digest), "image_id": image_id,
        "image_uri": result.ref.uri, "image_version": result.ref.version, "frame": found.frame, "model": model,
        "model_digest": model_digest, "class_name": found.class_name, "kind": found.kind.value, "score": found.score,
        "mean_score": found.mean_score, "x0": found.box.x0, "y0": found.box.y0, "x1": found.box.x1,
        "y1": found.box.y1, "area_px": found.area_px,
        "mask_rle": found.mask_rle.decode("ascii") if found.mask_rle is not None else None, "text": found.text,
        "touches_edge": found.touches_edge,
    } for found in result.segmentation.candidates]
