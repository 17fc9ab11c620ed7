"""What INPUT means, in which order, what is passed over, and that a resumed listing ends like one in one go."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from segsvc.errors import ConfigError
from segsvc.plan import Input, InputKind, Shard, listing, read_input, shards
from segsvc.stores import Skip
from segsvc.stores.file import to_path, to_uri
from segsvc.types import ImageRef
from tests.listings import assert_resumes_anywhere, bucket_in_memory, entries, make, planned, skipped


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with bucket_in_memory(monkeypatch) as store:
        yield store


def relative(source: Input, folder: Path, *, exclude: str | None = None) -> list[bytes]:
    """The paths, relative to the folder, of the images that are listed."""
    root = os.fsencode(folder) + b"/"
    return [to_path(entry.found.uri).removeprefix(root) for entry in listing(source, exclude=exclude)
            if isinstance(entry.found, ImageRef)]


# -- folders ---------------------------------------------------------------------------------------------------------


NAMES = [b"a-b/1.png", b"a/2.png", b"a/B.png", b"a/b/c.png", b"a0.png", b"a.png", b"B.png", b"b:c.png", b"b c.png", b"~.png",
         b"z\xff.png", b"\xc3\xa9.png", b"a+b.png", b"line\nbreak.png", b"%41.png", b"a/b.png", b"a b/x.png", b"A/z.png"]


def test_a_folder_is_listed_in_the_order_of_the_bytes_of_relative_paths(tmp_path: Path) -> None:
    make(tmp_path, *NAMES)
    source = read_input(str(tmp_path))
    assert source.kind is InputKind.LISTING
    assert relative(source, tmp_path) == sorted(NAMES)
    assert sorted(NAMES).index(b"a-b/1.png") < sorted(NAMES).index(b"a/2.png") < sorted(NAMES).index(b"a0.png")
    assert_resumes_anywhere(source, size=1)
    assert_resumes_anywhere(source, size=4)


def test_a_folder_is_the_same_input_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "in/a.png")
    monkeypatch.chdir(tmp_path)
    inputs = {read_input(text) for text in ("in", "./in/", str(tmp_path / "in"), to_uri(os.fsencode(tmp_path / "in")))}
    assert inputs == {Input(InputKind.LISTING, to_uri(os.fsencode(tmp_path / "in")))}


def test_every_uri_leads_back_to_its_file(tmp_path: Path) -> None:
    make(tmp_path, *NAMES)
    for entry in listing(read_input(str(tmp_path))):
        assert isinstance(entry.found, ImageRef)
        assert entry.found.uri.startswith("file:///")
        assert entry.found.uri.isascii()
        status = os.stat(to_path(entry.found.uri))  # noqa: PTH116
        assert entry.found.version == f"{status.st_size}-{status.st_mtime_ns}"
        assert entry.found.size_bytes == status.st_size


def test_hidden_files_documents_and_links_out_of_the_folder_are_passed_over_and_counted(tmp_path: Path) -> None:
    folder = make(tmp_path / "in", "a.png", ".hidden.png", ".git/x.png", ".git/y.png", "notes.txt", "data.JSON", "noending",
                  "sub/b.png")
    make(tmp_path / "else", "c.png", "deep/d.png")
    (folder / "out.png").symlink_to(tmp_path / "else" / "c.png")
    (folder / "outdir").symlink_to(tmp_path / "else")
    (folder / "gone-outside.png").symlink_to(tmp_path / "else" / "nothing.png")
    source = read_input(str(folder))
    assert relative(source, folder) == [b"a.png", b"noending", b"sub/b.png"]
    assert skipped(source) == {"hidden": 2, "not_an_image_by_its_ending": 2, "link_out_of_the_folder": 3}


def test_links_within_the_folder_are_followed_to_files_and_loops_end(tmp_path: Path) -> None:
    folder = make(tmp_path / "in", "a.png", "sub/b.png")
    (folder / "again.png").symlink_to("a.png")
    (folder / "sub" / "loop").symlink_to("..")
    (folder / "ring1.png").symlink_to("ring2.png")
    (folder / "ring2.png").symlink_to("ring1.png")
    (folder / "broken.png").symlink_to("nothing.png")
    source = read_input(str(folder))
    assert relative(source, folder) == [b"a.png", b"again.png", b"broken.png", b"ring1.png", b"ring2.png", b"sub/b.png"]
    versions = {entry.found.uri.rsplit("/", 1)[1]: entry.found.version for entry in listing(source)
                if isinstance(entry.found, ImageRef)}
    assert {name for name, version in versions.items() if version == "missing"} == {"broken.png", "ring1.png", "ring2.png"}
    assert skipped(source) == {"link_out_of_the_folder": 1}


def test_a_pipe_does_not_block_and_is_counted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    make(tmp_path, "a.png")
    source = read_input(str(tmp_path))
    assert relative(source, tmp_path) == [b"a.png"]
    assert skipped(source) == {"not_a_regular_file": 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_within_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    folder = make(tmp_path, "a.png", "closed/b.png", "d.png")
    (folder / "closed").chmod(0)
    try:
        source = read_input(str(folder))
        assert relative(source, folder) == [b"a.png", b"d.png"]
        assert skipped(source) == {"folder_without_permission": 1}
        with pytest.raises(ConfigError, match="without permission"):
            read_input(str(folder / "closed"))
    finally:
        (folder / "closed").chmod(0o755)


def test_a_folder_that_vanishes_or_cannot_be_read_while_it_is_listed_is_counted(tmp_path: Path) -> None:
    folder = make(tmp_path, "a/1.png", "b/2.png", "c/3.png")
    source = read_input(str(folder))
    entries = listing(source)
    assert isinstance(next(entries).found, ImageRef)
    (folder / "b" / "2.png").unlink()
    (folder / "b").rmdir()
    assert [entry.found if isinstance(entry.found, Skip) else "image" for entry in entries] == [Skip.CLOSED, "image"]


def test_folders_may_lie_deeper_than_python_recurses(tmp_path: Path) -> None:
    chain = [tmp_path / "/".join("d" * depth) for depth in range(1, 1201)]
    for folder in chain:
        folder.mkdir()
    (chain[-1] / "a.png").write_bytes(b"x")
    try:
        assert relative(read_input(str(tmp_path)), tmp_path) == [b"d/" * 1200 + b"a.png"]
    finally:  # pytest's own removal recurses
        (chain[-1] / "a.png").unlink()
        for folder in reversed(chain):
            folder.rmdir()


def test_out_within_the_input_is_passed_over(tmp_path: Path) -> None:
    folder = make(tmp_path, "a.png", "out/x.png", "out2/y.png", "sub/z.png")
    out = to_uri(os.fsencode(folder / "out"))
    source = read_input(str(folder))
    assert relative(source, folder, exclude=out) == [b"a.png", b"out2/y.png", b"sub/z.png"]
    assert skipped(source, exclude=out) == {"the_run's_own_output": 1}
    assert_resumes_anywhere(source, size=1, exclude=out)


def test_an_input_that_is_a_link_to_a_folder_is_that_folder(tmp_path: Path) -> None:
    make(tmp_path / "real", "a.png")
    (tmp_path / "link").symlink_to("real")
    assert relative(read_input(str(tmp_path / "link")), tmp_path / "link") == [b"a.png"]


def test_a_single_file_is_a_plan_of_one(tmp_path: Path) -> None:
    make(tmp_path, "a.png", ".hidden.png")
    for name in ("a.png", ".hidden.png"):
        (shard,) = planned(read_input(str(tmp_path / name)))
        assert (len(shard.units), shard.is_last) == (1, True)
        assert list(shards(read_input(str(tmp_path / name)), shard_size=2, limit=None, exclude=None, after=shard)) == [
            Shard(1, (), shard.cursor, {}, is_last=True)]


@pytest.mark.parametrize("text", ["", "nothing", "nothing/*/at/all/nothing", "dangling", "file:///no/such/folder"])
def test_an_input_that_is_not_there_is_refused_or_an_empty_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                text: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")
    if "*" in text:
        assert planned(read_input(text)) == []
    else:
        with pytest.raises(ConfigError, match="expected a file, folder, glob or manifest"):
            read_input(text)


def test_an_unknown_scheme_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"file://.*got 'gopher://host/x'"):
        read_input("gopher://host/x")


# -- globs -----------------------------------------------------------------------------------------------------------


def test_a_glob_names_files_here_and_below_in_the_order_of_their_bytes(tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path, *NAMES, "notes.txt", "a/notes.md")
    monkeypatch.chdir(folder)
    every = read_input("**/*.png")
    assert every.kind is InputKind.GLOB
    assert relative(every, folder) == sorted(NAMES)
    assert relative(read_input("a/*.png"), folder) == [b"a/2.png", b"a/B.png", b"a/b.png"]
    assert relative(read_input("[ab]0.pn?"), folder) == [b"a0.png"]
    assert skipped(read_input("**/*")) == {"not_an_image_by_its_ending": 2}
    assert_resumes_anywhere(every, size=1)
    assert_resumes_anywhere(read_input("**/*"), size=3)


def test_a_glob_is_the_same_input_from_another_folder_once_it_is_read(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "in [1]*", "a.png", "b.png")
    monkeypatch.chdir(folder)
    source = read_input("*.png")
    assert source.uri.startswith("file:///")
    monkeypatch.chdir("/")
    assert relative(source, folder) == [b"a.png", b"b.png"]


def test_a_glob_in_a_folder_whose_name_is_no_unicode_can_be_written_down(tmp_path: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, b"f\xff/a.png")
    monkeypatch.chdir(tmp_path)
    source = read_input(os.fsdecode(b"f\xff/*.png"))
    assert json.loads(json.dumps(source.uri).encode()) == source.uri
    assert source.uri.isascii()
    assert relative(source, tmp_path) == [b"f\xff/a.png"]


def test_what_a_run_writes_below_a_glob_does_not_change_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path, "a.png", "b.png", "out2/c.png", "out/spec.json")
    monkeypatch.chdir(folder)
    out = to_uri(os.fsencode(folder / "out"))
    before = planned(read_input("**/*"), exclude=out)
    make(folder, "out/images/part-00000.parquet", "out/d.png")
    assert planned(read_input("**/*"), exclude=out) == before
    assert [len(shard.units) for shard in before] == [2, 1]


# -- buckets ---------------------------------------------------------------------------------------------------------


KEYS = ["a/1.jpg", "a/2.png", "a/.hidden/3.jpg", "a/b/4.jpg", "a/b/c/5.jpg", "a/b/notes.txt", "a/x1.jpg", "a/x2.jpg",
        "a/xs/6.jpg", "a/é.jpg", "a//7.jpg", "a/b/", "a/.8.jpg", "ab/9.jpg", "b/new\nline.jpg", "b/list.csv",
        "b/data.json", "[1].jpg"]


def keys(source: Input, *, exclude: str | None = None) -> list[str]:
    return [each.uri.removeprefix("bucket://in/") for each in entries(source, exclude=exclude)]


def fill(store: Any, names: list[str] = KEYS) -> None:
    for name in names:
        store.put(f"bucket://in/{name}", name.encode())


def test_a_prefix_of_a_bucket_is_a_listing_and_goes_on_after_any_key(bucket: Any) -> None:
    fill(bucket)
    source = read_input("bucket://in/a")
    assert source == Input(InputKind.LISTING, "bucket://in/a")
    assert keys(source) == sorted(name for name in KEYS if name.startswith("a/") and name[-4:] in (".jpg", ".png")
                                  and "/." not in name)
    assert_resumes_anywhere(source, size=1)
    assert read_input("bucket://in/a/1.jpg").kind is InputKind.LISTING
    assert bucket.found == []


@pytest.mark.parametrize(("pattern", "expected"), [
    ("a/*.jpg", ["a/1.jpg", "a/x1.jpg", "a/x2.jpg", "a/é.jpg"]), ("a/x?.jpg", ["a/x1.jpg", "a/x2.jpg"]),
    ("a/[!x]*.jpg", ["a/1.jpg", "a/é.jpg"]), ("a/[x-z]*", ["a/x1.jpg", "a/x2.jpg"]),
    ("a/*/*.jpg", ["a/b/4.jpg", "a/xs/6.jpg"]),
    ("a/**/*.jpg", ["a//7.jpg", "a/1.jpg", "a/b/4.jpg", "a/b/c/5.jpg", "a/x1.jpg", "a/x2.jpg", "a/xs/6.jpg", "a/é.jpg"]),
    ("**/[0-9].jpg", ["a//7.jpg", "a/1.jpg", "a/b/4.jpg", "a/b/c/5.jpg", "a/xs/6.jpg", "ab/9.jpg"]),
    ("a*/9*", ["ab/9.jpg"]), ("*.jpg", ["[1].jpg"]), ("a/b/**", ["a/b/4.jpg", "a/b/c/5.jpg"]),
    ("b/new*line.jpg", ["b/new\nline.jpg"]), ("a/.hidden/*", ["a/.hidden/3.jpg"]), ("a/.*.jpg", []), ("c/*", []),
    ("a/[", []), ("a/b.?pg", [])])
def test_a_glob_over_a_bucket_is_matched_like_a_path(bucket: Any, pattern: str, expected: list[str]) -> None:
    fill(bucket)
    source = read_input(f"bucket://in/{pattern}")
    assert source == Input(InputKind.GLOB, f"bucket://in/{pattern}")
    assert keys(source) == expected
    if expected:
        assert_resumes_anywhere(source, size=1)


@pytest.mark.parametrize("by_folders", [False, True])
def test_a_glob_over_a_bucket_finds_all_whether_keys_are_ordered_by_their_bytes_or_by_folders(bucket: Any,
                                                                                              by_folders: bool) -> None:
    fill(bucket, ["p/x/0.jpg", "p/x-1.jpg", "p/x-2/3.jpg", "p/x.jpg", "p/y.jpg", "p/w/4.jpg", "p/x-.jpg"])
    bucket.by_folders = by_folders
    for pattern, expected in (("p/x-*", {"p/x-1.jpg", "p/x-.jpg"}), ("p/x*/*", {"p/x/0.jpg", "p/x-2/3.jpg"}),
                              ("p/x.*", {"p/x.jpg"}), ("p/x/?.jpg", {"p/x/0.jpg"}),
                              ("p/[w-y]/*", {"p/w/4.jpg", "p/x/0.jpg"})):
        assert set(keys(read_input(f"bucket://in/{pattern}"))) == expected
        assert_resumes_anywhere(read_input(f"bucket://in/{pattern}"), size=1)


def test_a_glob_over_a_bucket_counts_what_it_names_and_passes_over_the_runs_own_output(bucket: Any) -> None:
    fill(bucket)
    assert skipped(read_input("bucket://in/**")) == {"not_an_image_by_its_ending": 3}
    assert keys(read_input("bucket://in/a/x*/*"), exclude="bucket://in/a/xs") == []


def test_keys_that_have_magic_characters_in_them_are_what_they_say(bucket: Any) -> None:
    fill(bucket)
    assert keys(read_input("bucket://in/[1].jpg")) == ["[1].jpg"]
    assert read_input("bucket://in/[1]").kind is InputKind.LISTING
    assert read_input("bucket://in/[2]").kind is InputKind.GLOB


@pytest.mark.parametrize(("uri", "said"), [
    ("bucket://i*/a", r"expected a bucket by its name before the first of \*\?\[, got 'bucket://i\*/a'"),
    ("bucket://in/[z-a].jpg", r"expected a glob, got 'bucket://in/\[z-a\].jpg' \(bad character range")])
def test_what_is_no_glob_over_a_bucket_is_refused(bucket: Any, uri: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        planned(read_input(uri))


def test_a_glob_over_a_bucket_looks_at_no_key_that_cannot_match(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(bucket)
    seen = []
    listed = bucket.list

    def list_and_note(*arguments: Any, **named: Any) -> Iterator[Any]:
        for entry in listed(*arguments, **named):
            seen.append(entry.cursor)
            yield entry

    monkeypatch.setattr(bucket, "list", list_and_note)
    assert keys(Input(InputKind.GLOB, "bucket://in/a/x?.jpg")) == ["a/x1.jpg", "a/x2.jpg"]
    assert seen == ["a/x1.jpg", "a/x2.jpg", "a/xs/6.jpg", "a/é.jpg"]


def test_a_table_or_json_that_is_not_there_is_a_prefix(bucket: Any) -> None:
    fill(bucket, ["b/list.csv/1.jpg", "b/data.json", "b/manifest.json"])
    for name, kind in (("b/list.csv", InputKind.LISTING), ("b/data.json", InputKind.LISTING),
                       ("b/manifest.json", InputKind.LISTING)):
        assert read_input(f"bucket://in/{name}").kind is kind
    bucket.put("bucket://in/b/list.csv", b"uri\n1.jpg\n")
    assert read_input("bucket://in/b/list.csv").kind is InputKind.MANIFEST


# -- shards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "size", "limit", "sizes"), [
    (5, 2, None, [2, 2, 1]), (4, 2, None, [2, 2]), (1, 64, None, [1]), (5, 2, 4, [2, 2]), (5, 2, 3, [2, 1]),
    (5, 2, 5, [2, 2, 1]),
    (5, 2, 9, [2, 2, 1]), (5, 9, 1, [1])])
def test_shards_are_full_but_for_the_last_which_says_so(tmp_path: Path, images: int, size: int, limit: int | None,
                                                        sizes: list[int]) -> None:
    make(tmp_path, *(f"{number}.png" for number in range(images)))
    whole = planned(read_input(str(tmp_path)), size=size, limit=limit)
    assert [len(shard.units) for shard in whole] == sizes
    assert_resumes_anywhere(read_input(str(tmp_path)), size=size, limit=limit)


def test_counts_of_what_was_passed_over_grow_and_end_equal_after_any_resume(tmp_path: Path) -> None:
    make(tmp_path, "1.png", "2.txt", "3.png", "4.png", ".5.png", "6.txt", "7.png", "8.txt", ".0")
    source = read_input(str(tmp_path))
    counts: list[Mapping[str, int]] = [shard.skipped for shard in planned(source, size=2)]
    assert counts == [{"hidden": 2, "not_an_image_by_its_ending": 1}, {"hidden": 2, "not_an_image_by_its_ending": 3}]
    for size in (1, 2, 3):
        assert_resumes_anywhere(source, size=size)
        assert_resumes_anywhere(source, size=size, limit=3)


def test_a_folder_without_images_plans_nothing_but_its_counts(tmp_path: Path) -> None:
    assert planned(read_input(str(tmp_path))) == []
    make(tmp_path, "a.txt", "b.md")
    assert planned(read_input(str(tmp_path))) == [Shard(0, (), "", {"not_an_image_by_its_ending": 2}, is_last=True)]


def test_files_that_vanished_before_a_resume_end_the_plan_with_an_empty_shard(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png", "c.png")
    first = planned(read_input(str(tmp_path)), size=2)[0]
    (tmp_path / "c.png").unlink()
    (last,) = shards(read_input(str(tmp_path)), shard_size=2, limit=None, exclude=None, after=first)
    assert (last.number, last.units, last.is_last) == (1, (), True)
