"""CSV and Parquet: the same columns and rows."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from segsvc.tables import CANDIDATES_VIEW_SCHEMA
from segsvc.writers.csv import PLUGIN as CSV
from segsvc.writers.parquet import PLUGIN as PARQUET
from tests.exports import hostile_export, no_parts_export, plain_export

NAMES = CANDIDATES_VIEW_SCHEMA.names


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


@pytest.mark.parametrize("make", [plain_export, hostile_export])
def test_both_hold_the_same_rows(make: Any, tmp_path: Path) -> None:
    CSV.encode(make(), tmp_path / "out.csv")
    PARQUET.encode(make(), tmp_path / "out.parquet")
    from_csv = csv_rows(tmp_path / "out.csv")
    from_parquet = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert len(from_csv) == len(from_parquet) > 20
    for ours, theirs in zip(from_csv, from_parquet, strict=True):
        assert list(ours) == list(theirs)
        for name, value in theirs.items():
            if value is None:
                assert ours[name] == ""
            elif isinstance(value, bool):
                assert ours[name] == str(value).lower()
            elif isinstance(value, float):
                assert float(ours[name]) == value
            else:
                assert ours[name] == str(value)


def test_a_manifests_columns_follow_under_their_own_names(tmp_path: Path) -> None:
    PARQUET.encode(plain_export(), tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.schema.names == [*NAMES, "group", "street", "meta.score", "camera"]
    first, last = table.to_pylist()[0], table.to_pylist()[-1]
    assert (first["group"], first["street"], first["meta.score"], first["camera"]) == ("g1", "Main St", "7", None)
    assert (last["group"], last["street"], last["meta.score"], last["camera"]) == (None, None, None, "right")


def test_values_stay_exact_whatever_a_spreadsheet_makes_of_them(tmp_path: Path) -> None:
    CSV.encode(hostile_export(), tmp_path / "out.csv")
    rows = csv_rows(tmp_path / "out.csv")
    assert {row["../x"] for row in rows} == {"=cmd|' /C calc'!A0"}
    assert {row["a\nb"] for row in rows} == {"line\r\nline"}
    assert {row["meta.candidate_id"] for row in rows} == {"<b>"}
    assert {row["class_name"] for row in rows} == set(hostile_export().classes)


def test_a_missing_text_and_an_empty_one_stay_apart(tmp_path: Path) -> None:
    CSV.encode(plain_export(), tmp_path / "out.csv")
    assert CSV.decode(tmp_path / "out.csv").column("text").null_count == CSV.decode(tmp_path / "out.csv").num_rows


def test_without_candidates_there_is_the_header(tmp_path: Path) -> None:
    CSV.encode(no_parts_export(), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == ",".join(NAMES) + "\n"
    PARQUET.encode(no_parts_export(), tmp_path / "out.parquet")
    assert parquet.read_table(tmp_path / "out.parquet").schema.names == NAMES
