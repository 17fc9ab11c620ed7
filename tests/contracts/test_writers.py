"""What every writer keeps to: what it keeps comes back, the same export gives the same bytes, nothing escapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from segsvc import plugins
from segsvc.errors import ConfigError
from segsvc.plugins import PluginKind
from segsvc.tables import CANDIDATES_VIEW_SCHEMA
from segsvc.writers import Export, ExportPart, Writer
from tests.exports import hostile_export, maskless_export, no_parts_export, nothing_export, plain_export

WRITERS = plugins.names(PluginKind.WRITER)


@pytest.fixture(params=WRITERS)
def writer(request: pytest.FixtureRequest) -> Writer:
    found: Writer = plugins.load(PluginKind.WRITER, request.param)
    return found


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def kept(export: Export, writer: Writer) -> pa.Table:
    table = pa.concat_tables([part.candidates for part in export.parts()])
    return table.select([name for name in CANDIDATES_VIEW_SCHEMA.names if name in writer.keeps])


@pytest.mark.parametrize("make", [plain_export, hostile_export, nothing_export])
def test_what_a_writer_keeps_comes_back(writer: Writer, make: Callable[[], Export], tmp_path: Path) -> None:
    export = make()
    count = writer.encode(export, tmp_path / "to")
    expected = kept(export, writer)
    assert writer.decode(tmp_path / "to").to_pylist() == expected.to_pylist()
    assert count.candidates == expected.num_rows
    assert count.unreadable_images == 0


def test_columns_come_back_in_their_order_and_types(writer: Writer, tmp_path: Path) -> None:
    writer.encode(plain_export(), tmp_path / "to")
    decoded = writer.decode(tmp_path / "to")
    assert decoded.schema.equals(kept(plain_export(), writer).schema)


def test_failed_images_are_left_out_and_not_counted(writer: Writer, tmp_path: Path) -> None:
    assert writer.encode(plain_export(), tmp_path / "to").images == 4
    assert all(b"b/one.png" not in content for content in files_in(tmp_path / "to").values())


def test_candidates_without_a_mask_are_kept_or_not_counted(writer: Writer, tmp_path: Path) -> None:
    count = writer.encode(maskless_export(), tmp_path / "to")
    decoded = writer.decode(tmp_path / "to")
    assert decoded.num_rows == count.candidates
    if count.candidates:
        assert decoded.to_pylist() == kept(maskless_export(), writer).to_pylist()


@pytest.mark.parametrize("make", [plain_export, hostile_export, maskless_export])
def test_the_same_export_gives_the_same_bytes(writer: Writer, make: Callable[[], Export], tmp_path: Path) -> None:
    writer.encode(make(), tmp_path / "one")
    writer.encode(make(), tmp_path / "two")
    assert files_in(tmp_path / "one") == files_in(tmp_path / "two")


def test_hostile_names_stay_in_the_folder(writer: Writer, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    count = writer.encode(hostile_export(), tmp_path / "deep" / "to")
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["to"]
    written = files_in(tmp_path / "deep" / "to")
    assert len(written) == count.files
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.") for name in written)


def test_an_export_of_no_images_is_a_valid_export(writer: Writer, tmp_path: Path) -> None:
    count = writer.encode(no_parts_export(), tmp_path / "to")
    assert (count.images, count.candidates) == (0, 0)
    assert writer.decode(tmp_path / "to").num_rows == 0


def test_an_earlier_export_is_replaced_whole(writer: Writer, tmp_path: Path) -> None:
    writer.encode(plain_export(seed=5), tmp_path / "to")
    writer.encode(maskless_export(), tmp_path / "to")
    writer.encode(maskless_export(), tmp_path / "fresh")
    assert files_in(tmp_path / "to") == files_in(tmp_path / "fresh")


def test_a_folder_with_other_files_is_refused_and_left_alone(writer: Writer, tmp_path: Path) -> None:
    (tmp_path / "holiday.png").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="holds"):
        writer.encode(plain_export(), tmp_path)
    assert files_in(tmp_path) == {"holiday.png": b"mine"}


def test_a_missing_parent_is_made(writer: Writer, tmp_path: Path) -> None:
    to = tmp_path / "a" / "b" / "to"
    assert writer.encode(plain_export(), to).files == len(files_in(to))


def test_a_parent_that_is_a_file_is_a_configuration_error(writer: Writer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="place that can be written"):
        writer.encode(plain_export(), tmp_path / "file" / "to")
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_target_named_like_another_format_is_refused(writer: Writer, tmp_path: Path) -> None:
    wrong = tmp_path / ("to.csv" if writer.name == "parquet" else "to.parquet")
    with pytest.raises(ConfigError, match=writer.name):
        writer.encode(plain_export(), wrong)
    assert not wrong.exists()


def test_decoding_what_is_no_export_is_a_configuration_error(writer: Writer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        writer.decode(tmp_path / "missing")
    (tmp_path / "junk").write_bytes(b"junk\n")
    with pytest.raises(ConfigError):
        writer.decode(tmp_path / "junk")


def test_candidates_are_gone_through_once(writer: Writer, tmp_path: Path) -> None:
    export, begun = plain_export(), []

    def parts() -> Iterator[ExportPart]:
        begun.append("again")
        return export.parts()

    writer.encode(replace(export, parts=parts), tmp_path / "to")
    assert begun == ["again"]


def test_a_failure_on_the_way_leaves_the_earlier_export(writer: Writer, tmp_path: Path) -> None:
    writer.encode(plain_export(), tmp_path / "to")
    before = files_in(tmp_path / "to")
    good = plain_export(seed=3)

    def broken_parts():  # type: ignore[no-untyped-def]
        yield from list(good.parts())[:1]
        raise RuntimeError("the store is gone")

    with pytest.raises(RuntimeError, match="the store is gone"):
        writer.encode(replace(good, parts=broken_parts), tmp_path / "to")
    assert files_in(tmp_path / "to") == before
