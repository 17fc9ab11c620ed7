"""The parts of a run: the same bytes whoever makes them, whole or not at all, and seen through bands."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from segsvc.card import RunSpec
from segsvc.errors import ConfigError, ImageErrorKind, RunError
from segsvc.operating_point import Basis, ClassThresholds, OperatingPoint
from segsvc.plan import Shard
from segsvc.results import RunFolder, UnitRows, part_name, part_number, unit_rows
from segsvc.stores.file import FileFolder
from segsvc.tables import CANDIDATES_SCHEMA, CANDIDATES_VIEW_SCHEMA, IMAGES_SCHEMA
from segsvc.types import (
    Box,
    Candidate,
    CandidateKind,
    ExtractionCounts,
    ImageRef,
    ImageResult,
    ImageStatus,
    Runtime,
    Segmentation,
    Unit,
)
from segsvc.views import OpenRun, with_bands

SPEC = RunSpec(input="file:///in", limit=None, shard_size=2, model="bright", model_digest="d" * 64, runtime=Runtime.OPENVINO)


def run_folder(path: Path) -> RunFolder:
    return RunFolder(FileFolder(os.fsencode(path)))


def candidate(score: float = 0.9, *, class_name: str = "bright", x0: int = 0, mask: bytes | None = b"04") -> Candidate:
    return Candidate(0, class_name, CandidateKind.REGION, Box(x0, 0, x0 + 2, 2), 4, score, score / 2, mask)


def read(name: str, *found: Candidate, timings_s: Mapping[str, float] | None = None) -> ImageResult:
    """An image that was read."""
    ref = ImageRef(f"file:///in/{name}.png", "1-2", 9, "g1", {"street": "Elm", "area": "north"})
    segmentation = Segmentation(40, 30, 1, found, ExtractionCounts(len(found), 2, 1))
    status = ImageStatus.DONE if found else ImageStatus.EMPTY
    return ImageResult(ref, status, segmentation, None, None, timings_s or {"model": 0.5, "read": 0.25})


def failed(name: str) -> ImageResult:
    ref = ImageRef(f"file:///in/{name}.png", "1-2", 9)
    return ImageResult(ref, ImageStatus.FAILED, None, ImageErrorKind.CORRUPT, "cut short", {"read": 0.125})


def rows(*results: ImageResult) -> list[UnitRows]:
    return [unit_rows(result, model="bright", model_digest="d" * 64) for result in results]


def shard(number: int, *names: str, is_last: bool = False) -> Shard:
    units = tuple(Unit(10 * number + at, ImageRef(f"file:///in/{name}.png", "1-2", 9, None, {"b": "2", "a": "1"}))
                  for at, name in enumerate(names))
    return Shard(number, units, f"cursor {number}", {"hidden": number}, is_last)


def parts_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("part-*.parquet"))}


# -- parts -----------------------------------------------------------------------------------------------------------


def test_parts_are_the_same_bytes_whoever_makes_them_but_for_the_timings(tmp_path: Path) -> None:
    one, two = run_folder(tmp_path / "one"), run_folder(tmp_path / "two")
    one.publish_plan(shard(0, "a", "b"))
    two.publish_plan(shard(0, "a", "b"))
    one.publish(0, rows(read("a", candidate()), failed("b")))
    two.publish(0, rows(read("a", candidate(), timings_s={"read": 7.0}), failed("b")))
    made, again = parts_of(tmp_path / "one"), parts_of(tmp_path / "two")
    assert sorted(made) == ["candidates/part-00000.parquet", "images/part-00000.parquet", "plan/part-00000.parquet",
                            "timings/part-00000.parquet"]
    assert {name for name in made if made[name] != again[name]} == {"timings/part-00000.parquet"}


def test_a_published_shard_stays_as_it_is_unless_it_is_replaced(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    assert folder.tag(0) is None
    folder.publish(0, rows(read("a", candidate())))
    before = parts_of(tmp_path)
    folder.publish(0, rows(read("a")))
    assert parts_of(tmp_path) == before
    tag = folder.tag(0)
    assert tag is not None
    folder.publish(0, rows(read("a")), replacing="another version")
    assert folder.tag(0) == tag
    folder.publish(0, rows(read("a")), replacing=tag)
    assert folder.part("images", 0)["status"].to_pylist() == ["empty"]
    assert folder.part("candidates", 0).num_rows == 0


def test_what_is_published_comes_back_with_every_column(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    folder.publish(0, rows(read("a", candidate(0.75), candidate(0.5, x0=5, mask=None)), failed("b"), read("c")))
    images, candidates = folder.part("images", 0), folder.part("candidates", 0)
    assert images.schema.equals(IMAGES_SCHEMA)
    assert candidates.schema.equals(CANDIDATES_SCHEMA)
    first, second, third = images.to_pylist()
    assert (first["status"], first["n_candidates"], first["n_below_floor"], first["n_below_min_area"]) == ("done", 2, 2, 1)
    assert (first["width_px"], first["height_px"], first["frames"], first["group"]) == (40, 30, 1, "g1")
    assert first["meta"] == [("area", "north"), ("street", "Elm")]
    assert (second["status"], second["error_kind"], second["error"], second["width_px"]) == (
        "failed", "corrupt", "cut short", None)
    assert (third["status"], third["n_candidates"]) == ("empty", 0)
    row = candidates.to_pylist()[0]
    assert row["image_id"] == first["image_id"]
    assert (row["score"], row["mean_score"], row["mask_rle"], row["x1"], row["kind"]) == (0.75, 0.375, "04", 2, "region")
    assert candidates["mask_rle"].to_pylist() == ["04", None]


def test_a_plan_comes_back_as_it_was_frozen_and_cannot_be_frozen_otherwise(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    assert folder.planned(0) is None
    assert folder.last_planned() is None
    for each in (shard(0, "a", "b"), shard(1, "c", is_last=True)):
        folder.publish_plan(each)
        folder.publish_plan(each)
        assert folder.planned(each.number) == each
    assert folder.last_planned() == shard(1, "c", is_last=True)
    with pytest.raises(RunError, match="another run planned other images"):
        folder.publish_plan(shard(1, "d", is_last=True))


def test_shards_are_counted_by_number_beyond_five_digits_and_foreign_files_are_no_parts(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    for number in (99_999, 100_000, 7, 100_001):
        folder.put(part_name("plan", number), b"")
    for name in ("plan/notes.parquet", "plan/part-1.parquet", "plan/part-xxxxx.parquet", "plan/part-00001.parquet.bak"):
        folder.put(name, b"")
    assert folder.numbers("plan") == [7, 99_999, 100_000, 100_001]
    assert part_number(part_name("images", 123_456)) == 123_456


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "other columns"])
def test_a_damaged_part_is_an_error_that_names_it(tmp_path: Path, damage: str) -> None:
    folder = run_folder(tmp_path)
    folder.publish(3, rows(read("a", candidate())))
    path = tmp_path / "images" / "part-00003.parquet"
    whole = path.read_bytes()
    other = (tmp_path / "timings" / "part-00003.parquet").read_bytes()
    path.write_bytes({"empty": b"", "cut": whole[:-50], "noise": b"\x17" * 400, "other columns": other}[damage])
    with pytest.raises(RunError, match=r"images/part-00003\.parquet: expected"):
        folder.part("images", 3)
    with pytest.raises(RunError, match=r"images/part-00003\.parquet: expected"):
        folder.part("images", 3, ["status"])


def test_bytes_that_changed_on_the_disk_are_noticed_wherever_the_data_are(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    folder.publish(0, rows(*(read(str(at), candidate(at / 50), candidate(x0=9)) for at in range(50))))
    whole = folder.part("candidates", 0)
    path = tmp_path / "candidates" / "part-00000.parquet"
    stored = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(200):
        changed = bytearray(stored)
        changed[int(random.integers(0, len(stored)))] ^= int(random.integers(1, 256))
        path.write_bytes(changed)
        try:
            came = folder.part("candidates", 0)
        except RunError:
            continue
        assert came.equals(whole)  # what changed was but a statistic or a name of the writer


def test_a_part_that_is_gone_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"candidates/part-00002\.parquet: expected a published part, there is none"):
        run_folder(tmp_path).part("candidates", 2)


# -- again -----------------------------------------------------------------------------------------------------------


def test_the_rows_of_images_that_were_read_are_kept_and_those_of_failed_ones_are_not(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    made = rows(read("a", candidate(), candidate(x0=9)), failed("b"), read("c"))
    folder.publish(0, made)
    assert folder.unread(0) == 1
    kept = folder.kept_rows(0)
    assert kept[1] is None
    before = parts_of(tmp_path)
    folder.publish(0, [row or made[at] for at, row in enumerate(kept)], replacing=folder.tag(0))
    assert parts_of(tmp_path)["images/part-00000.parquet"] == before["images/part-00000.parquet"]
    assert parts_of(tmp_path)["candidates/part-00000.parquet"] == before["candidates/part-00000.parquet"]


def test_an_image_that_a_manifest_names_twice_keeps_its_candidates_once_each_and_its_seconds_once(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    twice = read("a", candidate(), candidate(x0=9))
    made = rows(twice, failed("b"), twice)
    folder.publish(0, made)
    kept = folder.kept_rows(0)
    assert [len(row.candidates) if row is not None else None for row in kept] == [2, None, 2]
    before = parts_of(tmp_path)
    folder.publish(0, [row or made[at] for at, row in enumerate(kept)], replacing=folder.tag(0))
    assert parts_of(tmp_path)["candidates/part-00000.parquet"] == before["candidates/part-00000.parquet"]
    assert sum(folder.part("timings", 0)["seconds"].to_pylist()) == pytest.approx(2 * 0.75 + 0.125)


# -- OUT -------------------------------------------------------------------------------------------------------------


def test_a_run_begins_in_an_empty_folder_and_goes_on_in_its_own(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "new" / "out")
    folder.begin(SPEC)
    folder.begin(SPEC)
    assert folder.spec() == SPEC
    assert (tmp_path / "new" / "out" / "spec.json").read_text() == SPEC.to_json()


def test_another_run_on_the_same_out_is_refused_with_what_differs(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    folder.begin(SPEC)
    with pytest.raises(ConfigError) as caught:
        folder.begin(SPEC.model_copy(update={"limit": 5, "runtime": Runtime.TORCH_CPU}))
    assert "limit None there, 5 asked; runtime 'openvino' there, 'torch-cpu' asked" in str(caught.value)
    assert "shard_size" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not json", b"[1]", b"\xff"])
def test_a_spec_that_cannot_be_read_is_another_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "spec.json").write_bytes(content)
    with pytest.raises(ConfigError, match="holds another run"):
        run_folder(tmp_path).begin(SPEC)
    with pytest.raises(ConfigError, match=r"spec\.json"):
        run_folder(tmp_path).spec()


def test_a_folder_with_foreign_files_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").write_bytes(b"precious")
    with pytest.raises(ConfigError, match="expected an empty folder or an earlier run"):
        run_folder(tmp_path).begin(SPEC)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.odt"]


def test_a_folder_without_a_run_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a run's folder, got .* without spec\.json"):
        OpenRun(run_folder(tmp_path))


# -- bands -----------------------------------------------------------------------------------------------------------


def table(*scored: tuple[str, float]) -> pa.Table:
    made = rows(read("a", *(candidate(score, class_name=name) for name, score in scored)))
    return pa.Table.from_pylist(list(made[0].candidates), schema=CANDIDATES_SCHEMA)


def point(**classes: tuple[float, float | None]) -> OperatingPoint:
    return OperatingPoint(basis=Basis.BY_HAND, classes={
        name.replace("star", "*"): ClassThresholds(flag_at=flag_at, accept_at=accept_at)
        for name, (flag_at, accept_at) in classes.items()})


def bands(scored: list[tuple[str, float]], at: OperatingPoint | None) -> list[str]:
    found: list[str] = with_bands(table(*scored), at)["band"].to_pylist()
    return found


def test_scores_fall_into_the_bands_of_their_own_class_or_of_the_star() -> None:
    scored = [("car", 0.19), ("car", 0.2), ("car", 0.79), ("car", 0.8), ("tree", 0.49), ("tree", 0.5), ("tree", 1.0)]
    assert bands(scored, point(car=(0.2, 0.8), star=(0.5, None))) == [
        "rejected", "review", "review", "accepted", "rejected", "review", "review"]


def test_a_threshold_belongs_to_the_band_above_it() -> None:
    assert bands([("car", 0.5)], point(star=(0.5, 0.5))) == ["accepted"]
    assert bands([("car", 0.0), ("car", 1.0)], point(star=(0.0, 1.0))) == ["review", "accepted"]


def test_without_a_point_or_for_a_class_that_it_does_not_name_everything_is_for_review() -> None:
    scored = [("car", 0.0), ("car", 1.0), ("tree", 1.0)]
    assert bands(scored, None) == ["review"] * 3
    assert bands(scored, point(tree=(0.2, 0.3))) == ["review", "review", "accepted"]


def test_a_view_has_the_stored_columns_probability_and_band_also_without_rows() -> None:
    for scored in ([], [("car", 0.5)]):
        view = with_bands(table(*scored), point(star=(0.5, 0.9)))
        assert view.schema.equals(CANDIDATES_VIEW_SCHEMA)
        assert view.num_rows == len(scored)
        assert view["probability"].null_count == len(scored)


def test_bands_are_the_same_for_a_table_in_several_chunks() -> None:
    whole = table(("car", 0.1), ("tree", 0.9), ("car", 0.9))
    chunked = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 0), whole.slice(1, 2)])
    at = point(car=(0.2, 0.8), tree=(0.95, None))
    assert with_bands(chunked, at)["band"].to_pylist() == ["rejected", "rejected", "accepted"]


def test_operating_points_stay_on_record_and_the_last_one_gives_the_bands(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    folder.begin(SPEC)
    folder.publish(0, rows(read("a", candidate(0.6))))
    folder.publish(1, rows(read("b", candidate(0.9)), failed("c")))
    run = OpenRun(folder)
    assert run.operating_point is None
    assert run.candidates()["band"].to_pylist() == ["review", "review"]
    first = point(star=(0.7, None))
    second = point(star=(0.5, 0.8)).model_copy(update={"set_at": datetime(2026, 1, 1, tzinfo=UTC)})
    folder.add_operating_point(first)
    assert run.candidates()["band"].to_pylist() == ["rejected", "review"]
    folder.add_operating_point(second)
    assert run.candidates()["band"].to_pylist() == ["review", "accepted"]
    assert folder.operating_points() == [first, second]
    assert [part["band"].to_pylist() for _, part in run.parts(first)] == [["rejected"], ["review"]]
    assert [part["band"].to_pylist() for _, part in run.parts(None)] == [["review"], ["review"]]
    assert run.images()["status"].to_pylist() == ["done", "done", "failed"]
    assert run.timings() == {"model": 1.0, "read": 0.625}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"operating_points": [{"basis": "luck"}]}', b'{"operating_points": 3}'])
def test_damaged_bands_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bands.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"bands\.json: expected a list of operating points"):
        run_folder(tmp_path).operating_points()


def test_an_open_run_without_parts_has_empty_tables(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    folder.begin(SPEC)
    run = OpenRun(folder)
    assert run.images().schema.equals(IMAGES_SCHEMA)
    assert run.candidates().schema.equals(CANDIDATES_VIEW_SCHEMA)
    assert run.images().num_rows == run.candidates().num_rows == 0
