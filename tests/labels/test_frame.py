"""What a sample is drawn from, and that everything in it has the same chance."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from segsvc.errors import ConfigError
from segsvc.labels.frame import draw_number, drawn, write_frame
from segsvc.types import ImageRef


def _refs(n: int, *, images_a_group: int = 1) -> list[ImageRef]:
    return [ImageRef(f"s3://bucket/{number:05d}.jpg", "1", 10, f"street {number // images_a_group}", {"site": "north"})
            for number in range(n)]


def test_every_image_is_drawn_equally_often_over_the_seeds(tmp_path: Path) -> None:
    frame = write_frame(tmp_path / "frame.parquet", _refs(12), grouped_by=None, n=3)
    counts = Counter(ref.uri for seed in range(1200) for ref, _ in drawn(frame, seed, 0, 3))
    expected = 1200 * 3 / 12
    chi_square = sum((counts[ref.uri] - expected) ** 2 / expected for ref in _refs(12))
    assert chi_square < 31.3  # of 11 degrees of freedom, once in a thousand


def test_what_is_drawn_on_follows_what_was_drawn(tmp_path: Path) -> None:
    frame = write_frame(tmp_path / "frame.parquet", _refs(50), grouped_by=None, n=20)
    whole = drawn(frame, 5, 0, 20)
    assert [*drawn(frame, 5, 0, 8), *drawn(frame, 5, 8, 12)] == whole
    assert [unit for _, unit in whole] == sorted((ref.uri for ref in _refs(50)), key=lambda uri: draw_number(5, uri))[:20]


def test_groups_come_whole_and_in_one_draw(tmp_path: Path) -> None:
    frame = write_frame(tmp_path / "frame.parquet", _refs(40, images_a_group=4), grouped_by="group", n=3)
    found = drawn(frame, 0, 0, 3)
    assert (frame.units, len(found), len({unit for _, unit in found})) == (10, 12, 3)
    assert all(ref.group == unit for ref, unit in found)


def test_a_frame_is_written_whole_or_not_at_all_and_knows_its_digest(tmp_path: Path) -> None:
    place = tmp_path / "frames" / "frame.parquet"
    with pytest.raises(ConfigError, match="expected at most 5 images, as the frame has 5, got 6"):
        write_frame(place, _refs(5), grouped_by=None, n=6)
    with pytest.raises(ConfigError, match="expected images, got none"):
        write_frame(place, [], grouped_by=None, n=1)
    with pytest.raises(ConfigError, match=r"expected a value in that column for every image, got none .* \(its columns: "
                                          r"group, site\)"):
        write_frame(place, _refs(5), grouped_by="street", n=1)
    assert list(place.parent.iterdir()) == []
    frame = write_frame(place, _refs(5), grouped_by=None, n=1)
    rows = pq.read_table(place).to_pylist()
    lines = "".join(f"{ImageRef(row['image_uri'], row['image_version'], 0).image_id}\n{row['unit']}\n" for row in rows)
    assert frame.sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_an_image_that_is_named_twice_is_drawn_once(tmp_path: Path) -> None:
    refs = _refs(3)
    frame = write_frame(tmp_path / "frame.parquet", [*refs, refs[0]], grouped_by=None, n=3)
    assert (frame.images, frame.units) == (4, 3)
    assert sorted(ref.uri for ref, _ in drawn(frame, 0, 0, 3)) == [ref.uri for ref in refs]


def test_a_frame_that_is_gone_is_said(tmp_path: Path) -> None:
    frame = write_frame(tmp_path / "frame.parquet", _refs(3), grouped_by=None, n=1)
    (tmp_path / "frame.parquet").unlink()
    with pytest.raises(ConfigError, match="expected the list of what the set was drawn from in"):
        drawn(frame, 0, 0, 1)
