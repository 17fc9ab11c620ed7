"""What INPUT means, in which order, what is passed over, and that a resumed listing ends like one in one go."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segsvc.errors import ConfigError
from segsvc.plan import Input, InputKind, Shard, listing, read_input, shards
from segsvc.stores import Skip
from segsvc.stores.file import to_path, to_uri
from segsvc.types import ImageRef


def make(folder: Path, *names: str | bytes) -> Path:
    """Files of those names, each with its name in it."""
    for name in names:
        path = os.path.join(os.fsencode(folder), os.fsencode(name))  # noqa: PTH118 (names of any bytes)
        Path(os.fsdecode(path)).parent.mkdir(parents=True, exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(os.fsencode(name))
    return folder


def relative(source: Input, folder: Path, *, exclude: str | None = None) -> list[bytes]:
    """The paths, relative to the folder, of the images that are listed."""
    root = os.fsencode(folder) + b"/"
    return [to_path(entry.found.uri).removeprefix(root) for entry in listing(source, exclude=exclude)
            if isinstance(entry.found, ImageRef)]


def skipped(source: Input, *, exclude: str | None = None) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in listing(source, exclude=exclude):
        if isinstance(entry.found, Skip):
            found[entry.found.value] = found.get(entry.found.value, 0) + 1
    return found


def planned(source: Input, *, size: int = 2, limit: int | None = None, exclude: str | None = None) -> list[Shard]:
    return list(shards(source, shard_size=size, limit=limit, exclude=exclude))


def assert_resumes_anywhere(source: Input, *, size: int = 2, limit: int | None = None, exclude: str | None = None) -> None:
    """However many shards were planned before, what is planned after them is the same."""
    whole = planned(source, size=size, limit=limit, exclude=exclude)
    assert [shard.number for shard in whole] == list(range(len(whole)))
    assert [shard.is_last for shard in whole] == [False] * (len(whole) - 1) + [True]
    ordinals = [unit.ordinal for shard in whole for unit in shard.units]
    assert ordinals == list(range(len(ordinals)))
    for at, shard in enumerate(whole[:-1]):
        rest = list(shards(source, shard_size=size, limit=limit, exclude=exclude, after=shard))
        assert rest == whole[at + 1:]


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


# -- manifests -------------------------------------------------------------------------------------------------------


def entries(source: Input) -> list[ImageRef]:
    return [entry.found for entry in listing(source) if isinstance(entry.found, ImageRef)]


def write_manifest(folder: Path, ending: str, rows: list[dict[str, str]]) -> Path:
    path = folder / f"list{ending}"
    if ending == ".csv":
        import csv

        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif ending == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8-sig")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_manifest_gives_its_rows_in_its_own_order_with_their_columns_and_group(tmp_path: Path, ending: str) -> None:
    make(tmp_path, "b.png", "sub/a b.png", "c%41.png")
    rows = [{"uri": "sub/a b.png", "group": "p1", "street": 'Oak, "long"\nroad'},
            {"uri": "b.png", "group": "", "street": "Elm"},
            {"uri": to_uri(os.fsencode(tmp_path / "sub" / "a b.png")), "group": "p1", "street": "ümlaut"},
            {"uri": str(tmp_path / "c%41.png"), "group": "p2", "street": ""},
            {"uri": "gone.png", "group": "p2", "street": "x"}, {"uri": "", "group": "p3", "street": "y"}]
    source = read_input(str(write_manifest(tmp_path, ending, rows)))
    assert source.kind is InputKind.MANIFEST
    found = entries(source)
    assert [(each.group, dict(each.meta)) for each in found] == [
        (row["group"] or None, {"street": row["street"]}) for row in rows]
    assert [to_path(each.uri).rsplit(b"/", 1)[1] for each in found[:5]] == [
        b"a b.png", b"b.png", b"a b.png", b"c%41.png", b"gone.png"]
    assert found[0].image_id == found[2].image_id
    assert [each.version == "missing" for each in found] == [False, False, False, False, True, True]
    assert found[5].uri == ""
    assert_resumes_anywhere(source, size=1)
    assert_resumes_anywhere(source, size=4)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_manifest_without_uris_is_refused_with_the_columns_it_has(tmp_path: Path, ending: str) -> None:
    path = write_manifest(tmp_path, ending, [{"url": "a.png", "street": "Elm"}])
    with pytest.raises(ConfigError, match="expected a column 'uri', got url, street"):
        planned(read_input(str(path)))


def test_rows_that_name_documents_are_passed_over_and_counted(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "notes.txt")
    path = write_manifest(tmp_path, ".csv", [{"uri": "notes.txt"}, {"uri": "a.png"}, {"uri": "file:///b.json"}])
    assert skipped(read_input(str(path))) == {"not_an_image_by_its_ending": 2}
    assert_resumes_anywhere(read_input(str(path)), size=1)


def test_a_table_with_a_nameless_column_as_pandas_writes_its_index_is_read(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(",uri,street\n0,a.png,Elm\n1,b.png,Oak\n")
    assert [dict(each.meta) for each in entries(read_input(str(tmp_path / "list.csv")))] == [
        {"": "0", "street": "Elm"}, {"": "1", "street": "Oak"}]


def test_values_of_other_types_are_carried_as_text_and_nothing_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text('{"uri": "a.png", "n": 3, "x": 1.5, "ok": true, "none": null, "tags": ["a", 1]}\n')
    (one,) = entries(read_input(str(tmp_path / "list.jsonl")))
    assert dict(one.meta) == {"n": "3", "x": "1.5", "ok": "true", "tags": '["a", 1]'}


@pytest.mark.parametrize(("name", "content", "said"), [
    ("list.csv", b"", "got no column"), ("list.csv", b"uri\na.png,b\n", "line 2: expected 1 fields, got more"),
    ("list.csv", b"uri\n\xff.png\n", "expected a .csv table"), ("list.jsonl", b"{\n", "line 1: expected a JSON object, got"),
    ("list.jsonl", b'{"uri": "a"}\n[1]\n', "line 2: expected a JSON object"),
    ("list.jsonl", b'{"uri": "\\ud800"}\n', "line 1"),
    ("list.jsonl", b"[" * 100_000, "line 1"), ("list.parquet", b"PAR1 and no more", "expected a .parquet table"),
    ("list.parquet", b"", "expected a .parquet table")])
def test_a_damaged_manifest_is_refused_with_the_line_that_is_wrong(tmp_path: Path, name: str, content: bytes,
                                                                   said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        planned(read_input(str(tmp_path / name)))
    assert f"manifest {name}" in str(caught.value)
    assert said in str(caught.value)


def test_a_uri_with_a_nul_is_an_image_that_is_missing(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text('{"uri": "a\\u0000.png"}\n{"uri": "file:///a%00.png"}\n')
    assert [each.version for each in entries(read_input(str(tmp_path / "list.jsonl")))] == ["missing", "missing"]


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
