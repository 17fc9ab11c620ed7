from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from segsvc.errors import ConfigError, RunError
from segsvc.writers.coco import PLUGIN as COCO
from segsvc.writers.csv import PLUGIN as CSV
from segsvc.writers.paths import replacing, replacing_folder
from segsvc.writers.png import PLUGIN as PNG
from tests.exports import maskless_export, plain_export


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 100 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    with replacing(target) as file:
        file.write(b"first")
    with pytest.raises(RuntimeError, match="half way"), replacing(target) as file:
        file.write(b"second")
        raise RuntimeError("half way")
    assert target.read_bytes() == b"first"
    assert names_in(tmp_path) == ["out.bin"]


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_ends_the_export_and_keeps_what_stood_there(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_bytes(b"before")
    with pytest.raises(RunError, match=r"stopped.*make room"):
        CSV.encode(plain_export(), target)
    assert target.read_bytes() == b"before"
    with pytest.raises(RunError, match=r"stopped.*make room"):
        PNG.encode(plain_export(), tmp_path / "to")
    assert names_in(tmp_path) == ["out.csv"]


@pytest.mark.parametrize("writer", [CSV, PNG], ids=["file", "folder"])
def test_a_place_that_cannot_be_written_is_a_configuration_error(writer: object) -> None:
    with pytest.raises(ConfigError, match="place that can be written"):
        writer.encode(plain_export(), Path("/proc/segsvc/to"))  # type: ignore[attr-defined]


def test_an_export_that_was_killed_is_taken_over_by_the_next(tmp_path: Path) -> None:
    to = tmp_path / "to"
    PNG.encode(plain_export(), to)
    # as a kill leaves it between the removal of the old index and the placing of the new one
    staging = to / ".segsvc-export-png"
    staging.mkdir()
    (to / "index.csv").unlink()
    (staging / "index.csv").write_text("half")
    PNG.encode(maskless_export(), to)
    PNG.encode(maskless_export(), tmp_path / "fresh")
    assert names_in(to) == names_in(tmp_path / "fresh")


def test_an_earlier_export_with_a_file_of_the_users_is_refused(tmp_path: Path) -> None:
    PNG.encode(plain_export(), tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    before = names_in(tmp_path)
    with pytest.raises(ConfigError, match=r"notes\.txt"):
        PNG.encode(maskless_export(), tmp_path)
    assert names_in(tmp_path) == before


def test_an_index_of_something_else_does_not_open_a_folder(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("file,price\n")
    with pytest.raises(ConfigError, match=r"holds 'index\.csv'"):
        PNG.encode(plain_export(), tmp_path)


def test_a_failure_in_a_new_folder_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="half way"), replacing_folder(
            tmp_path / "to", format_name="x", columns=("file",), own_names=re.compile("a")) as folder:
        (folder / "a").write_text("a")
        raise RuntimeError("half way")
    assert names_in(tmp_path) == []


def test_a_file_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    for writer in (COCO, PNG):
        with pytest.raises(ConfigError, match="which is a file"):
            writer.encode(plain_export(), tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_folder_of_images_is_told_to_name_a_file(tmp_path: Path) -> None:
    (tmp_path / "one.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"Name a file \(such as .*annotations\.json\)"):
        COCO.encode(plain_export(), tmp_path)
    COCO.encode(plain_export(), tmp_path / "annotations.json")
    assert COCO.encode(maskless_export(), tmp_path).candidates == 3
