"""What may be made again is kept up to a size, whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from review_ui.picture_cache import PictureCache


def of_size(size_bytes: int):
    def write(file: BinaryIO) -> None:
        file.write(bytes(size_bytes))

    return write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path, limit_bytes=300)
    for name in ("a", "b", "c"):
        cache.keep(name, of_size(100))
    cache.find("a")
    cache.keep("d", of_size(100))
    assert names(tmp_path) == ["a", "c", "d"]
    assert cache.find("b") is None
    assert cache.size_bytes == 300


def test_the_order_of_use_outlives_the_process(tmp_path: Path) -> None:
    before = PictureCache(tmp_path, limit_bytes=300)
    for number, name in enumerate(("a", "b", "c")):
        before.keep(name, of_size(100))
        os.utime(tmp_path / name, ns=(number, number))
    before.find("a")
    assert PictureCache(tmp_path, limit_bytes=200).find("b") is None
    assert names(tmp_path) == ["a", "c"]


def test_what_is_larger_than_all_room_is_not_kept(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path, limit_bytes=300)
    cache.keep("a", of_size(100))
    assert cache.keep("b", of_size(301)) is None
    assert names(tmp_path) == ["a"]


def test_a_disk_that_is_full_leaves_nothing_half_written(tmp_path: Path) -> None:
    def write(file: BinaryIO) -> None:
        file.write(bytes(100))
        file.flush()
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = PictureCache(tmp_path, limit_bytes=300)
    assert cache.keep("a", write) is None
    assert names(tmp_path) == []


def test_an_image_that_fails_while_it_is_written_leaves_nothing(tmp_path: Path) -> None:
    def write(file: BinaryIO) -> None:
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        PictureCache(tmp_path, limit_bytes=300).keep("a", write)
    assert names(tmp_path) == []


def test_what_a_process_that_died_has_begun_is_swept(tmp_path: Path) -> None:
    (tmp_path / "x.part").write_bytes(b"half")
    assert PictureCache(tmp_path, limit_bytes=300).size_bytes == 0
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = PictureCache(tmp_path / "file" / "kept", limit_bytes=300)
    assert cache.keep("a", of_size(1)) is None
    assert cache.find("a") is None


def test_a_file_that_somebody_removed_is_not_found(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path, limit_bytes=300)
    cache.keep("a", of_size(100))
    (tmp_path / "a").unlink()
    assert cache.find("a") is None
    assert cache.size_bytes == 0
