"""Files on this machine: opened as the version that was planned, put whole or not at all, claimed by one process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from segsvc.errors import ConfigError, ImageError, ImageErrorKind
from segsvc.stores import is_no_image, store_of
from segsvc.stores.file import FileFolder, FileStore, to_path, to_uri
from segsvc.types import ImageRef

STORE = FileStore()


def folder(path: Path) -> FileFolder:
    return FileFolder(os.fsencode(path))


@pytest.mark.parametrize("path", [b"/a/b.png", b"/a b/%41+.png", b"/\xff\xfe", b"/a\nb", "/ünï/日本".encode(),
                                  b"/a#b?c&d=e;f:g@h"])
def test_any_path_goes_into_a_uri_and_back(path: bytes) -> None:
    uri = to_uri(path)
    assert uri.startswith("file:///")
    assert uri.isascii()
    assert not set(uri[7:]) & set(" #?\n")
    assert to_path(uri) == path


def test_a_path_without_a_scheme_is_a_file_and_other_schemes_are_refused() -> None:
    assert store_of("/a/b").scheme == "file"
    assert store_of("a:b/c").scheme == "file"
    with pytest.raises(ConfigError, match=r"expected a path or a URI of file://.*got 'ftp://x'"):
        store_of("ftp://x")


def test_a_file_is_read_by_ranges_and_whole(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(100)))
    blob = STORE.open(STORE.find(str(tmp_path / "a.bin")))
    assert blob.size_bytes == 100
    assert blob.read(10, 14) == bytes([10, 11, 12, 13])
    assert blob.read(95, 300) == bytes(range(95, 100))
    assert blob.read(-5, 2) == bytes([0, 1])
    assert blob.read(200, 300) == b""
    assert blob.read(9, 3) == b""
    assert blob.read_all() == bytes(range(100))
    blob.close()
    blob.close()
    with pytest.raises(ImageError, match="closed"):
        blob.read(0, 1)


def test_a_file_that_was_changed_after_it_was_listed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    ref = STORE.find(str(path))
    path.write_bytes(b"three")
    with pytest.raises(ImageError) as caught:
        STORE.open(ref)
    assert caught.value.kind is ImageErrorKind.CHANGED
    assert STORE.open(ImageRef(ref.uri, "", 0)).read_all() == b"three"


@pytest.mark.parametrize(("uri", "kind", "said"), [
    ("", ImageErrorKind.MISSING, "an empty one"), ("file:///no/such/file.png", ImageErrorKind.MISSING, "No such file"),
    ("file:///a%00b.png", ImageErrorKind.MISSING, "null character"),
    ("file:///dev", ImageErrorKind.UNSUPPORTED, "regular file"),
    ("file:///dev/zero", ImageErrorKind.UNSUPPORTED, "regular file"),
    ("file:///dev/null/x", ImageErrorKind.MISSING, "Not a directory"),
    ("file:///" + "a" * 300, ImageErrorKind.MISSING, "too long")])
def test_what_is_no_file_is_an_image_error_that_says_why(uri: str, kind: ImageErrorKind, said: str) -> None:
    with pytest.raises(ImageError) as caught:
        STORE.open(ImageRef(uri, "missing", 0))
    assert caught.value.kind is kind
    assert said in str(caught.value)


def test_a_pipe_and_a_ring_of_links_do_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    for name, kind in (("pipe", ImageErrorKind.UNSUPPORTED), ("one", ImageErrorKind.MISSING)):
        with pytest.raises(ImageError) as caught:
            STORE.open(ImageRef(to_uri(os.fsencode(tmp_path / name)), "", 0))
        assert caught.value.kind is kind


@pytest.mark.parametrize(("name", "is_none"), [
    ("a.txt", True), ("a.JSON", True), ("a.tar.gz", True), ("a.png", False), ("a", False), ("txt", False),
    ("dir.txt/a", False),
    ("a.", False), ("a.svs", False), ("a.dcm", False), (".txt", True)])
def test_the_ending_tells_documents_apart_and_nothing_else(name: str, is_none: bool) -> None:
    assert is_no_image(name) is is_none


# -- parts -----------------------------------------------------------------------------------------------------------


def test_a_put_is_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    place = folder(tmp_path / "new" / "out")
    assert place.is_empty()
    assert place.put("images/part.bin", b"one")
    assert place.put("images/part.bin", b"two")
    assert place.read("images/part.bin") == b"two"
    assert place.read("images/none") is None
    assert place.read("images/part.bin/below") is None
    assert [path.name for path in (tmp_path / "new" / "out" / "images").iterdir()] == ["part.bin"]
    assert not place.is_empty()


def test_a_conditional_put_keeps_what_was_there(tmp_path: Path) -> None:
    place = folder(tmp_path)
    assert place.put("a", b"first", if_absent=True)
    assert not place.put("a", b"second", if_absent=True)
    assert place.read("a") == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_names_are_sorted_and_without_what_is_hidden(tmp_path: Path) -> None:
    place = folder(tmp_path)
    for name in ("x/b", "x/a", "x/.c", "y/d"):
        place.put(name, b"")
    assert place.names("x") == ["x/a", "x/b"]
    assert place.names("nothing") == []
    place.delete("x/a")
    place.delete("x/a")
    assert place.names("x") == ["x/b"]


def test_files_get_the_permissions_that_the_user_gives_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        folder(tmp_path).put("a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_put_that_fails_leaves_no_temporary_file(tmp_path: Path) -> None:
    place = folder(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").write_bytes(b"")
    with pytest.raises(OSError, match="directory"):
        place.put("taken", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_what_writers_left_that_died_is_swept_away_and_nothing_else(tmp_path: Path) -> None:
    place = folder(tmp_path)
    place.put("images/part", b"kept")
    (tmp_path / "images" / ".segsvc-tmp-dead").write_bytes(b"half a part")
    (tmp_path / ".segsvc-tmp-dead").write_bytes(b"")
    (tmp_path / ".other").write_bytes(b"")
    living = subprocess.Popen([sys.executable, "-c", (
        "import fcntl, sys\nfile = open(sys.argv[1], 'wb')\nfcntl.flock(file, fcntl.LOCK_SH)\n"
        "print('ready', flush=True)\nsys.stdin.read()"), str(tmp_path / "images" / ".segsvc-tmp-living")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert living.stdout is not None
        assert living.stdout.readline() == "ready\n"
        place.sweep()
        assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [".segsvc-tmp-living", "part"]
    finally:
        living.communicate("")
    place.sweep()
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".other", "images", "part"]


def _try_claim(path: str, answers: multiprocessing.SimpleQueue[bool], again: multiprocessing.SimpleQueue[bool]) -> None:
    place = FileFolder(os.fsencode(path))
    answers.put(place.claim())
    again.get()
    answers.put(place.claim())
    signal.pause()


def test_a_claim_holds_against_other_processes_until_it_is_released_or_its_process_ends_however_it_ends(
    tmp_path: Path,
) -> None:
    place = folder(tmp_path)
    assert place.claim()
    assert place.claim()
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.SimpleQueue[bool] = context.SimpleQueue()
    again: multiprocessing.SimpleQueue[bool] = context.SimpleQueue()
    other = context.Process(target=_try_claim, args=(str(tmp_path), answers, again), daemon=True)
    other.start()
    try:
        assert not answers.get()
        place.release()
        again.put(True)
        assert answers.get()
        assert not place.claim()
    finally:
        other.kill()
        other.join()
    assert place.claim()
    place.release()
    assert place.is_empty()


def test_a_file_is_replaced_only_in_place_of_the_version_that_was_meant(tmp_path: Path) -> None:
    place = folder(tmp_path)
    assert place.tag("images/a") is None
    assert not place.put("images/a", b"one", if_tag="anything")
    assert place.put("images/a", b"one")
    first = place.tag("images/a")
    assert first is not None
    assert place.put("images/a", b"second", if_tag=first)
    assert not place.put("images/a", b"third", if_tag=first)
    assert place.read("images/a") == b"second"
