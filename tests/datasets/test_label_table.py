"""Tables of labels: what their columns mean, and what is said of rows that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segsvc.datasets import ClassTruth, Dataset, ProblemKind, Split
from segsvc.datasets.origin import Origin
from segsvc.errors import ConfigError
from segsvc.truth import read_dataset
from tests.datasets.support import kinds, names_of, write_classes


def table(folder: Path, text: str | bytes) -> str:
    """A set of three images beside this table."""
    write_classes(folder, ["a.png", "b c+d.png", "sub/ü.png"])
    (folder / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(folder / "labels.csv")


def labels(dataset: Dataset) -> list[frozenset[str]]:
    return [image.truth.names for image in dataset.images if isinstance(image.truth, ClassTruth)]


def test_labels_are_joined_by_a_bar_and_none_is_none(tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path, "uri,labels\na.png,rain | night\nb c+d.png,\nsub/ü.png,rain\n"))
    assert names_of(dataset) == ["a.png", "b%20c%2Bd.png", "%C3%BC.png"]
    assert labels(dataset) == [{"rain", "night"}, set(), {"rain"}]
    assert (dataset.classes, dataset.exclusive, dataset.problems) == (("night", "rain"), False, ())


def test_groups_splits_and_further_columns_are_carried(tmp_path: Path) -> None:
    place = table(tmp_path, b"\xef\xbb\xbfuri,site,labels,group,split\r\n"
                  b'a.png,"north, up",x,p1,Train\r\nb c+d.png,south,y,,val\r\n\r\nsub/\xc3\xbc.png,,x,p2\r\n')
    dataset = read_dataset(place)
    assert [(image.ref.group, image.split, image.ref.meta) for image in dataset.images] == [
        ("p1", Split.TRAIN, {"site": "north, up"}), (None, Split.VAL, {"site": "south"}), ("p2", None, {"site": ""})]
    assert dataset.exclusive
    assert dataset.problems == ()


def test_rows_out_of_a_review_say_so_and_its_columns_are_no_facts_of_the_images(tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path, "uri,labels,review_run,review_by\na.png,x,r1,ada|ben\nb c+d.png,y,,\n"
                                 "sub/ü.png,x,r2,ben\n"))
    assert dataset.origin == Origin(("r1", "r2"), (), ("ada", "ben"))
    assert [image.ref.meta for image in dataset.images] == [{}, {}, {}]


def test_images_may_be_named_absolutely_or_by_a_uri(tmp_path: Path) -> None:
    write_classes(tmp_path / "far", ["x y.png", "z.png"])
    uri = (tmp_path / "far" / "x y.png").as_uri()
    dataset = read_dataset(table(tmp_path / "set", f"uri,labels\n{uri},a\n{tmp_path}/far/z.png,b\n../far/../set/a.png,b\n"))
    assert names_of(dataset) == ["x%20y.png", "z.png", "a.png"]
    assert dataset.problems == ()


def test_rows_that_are_wrong_are_all_said_with_their_lines(tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path, "uri,labels,split\na.png,x,train\nnone.png,x\na.png,y\n,x\n"
                                 "sub/ü.png,x,train,more\nb c+d.png\nb c+d.png,x,holdout\n"))
    assert [(problem.kind, problem.message.split(":")[0]) for problem in dataset.problems] == [
        (ProblemKind.NO_IMAGE, "labels.csv, line 5"), (ProblemKind.UNREADABLE, "labels.csv, line 6"),
        (ProblemKind.UNREADABLE, "labels.csv, line 7"), (ProblemKind.NO_IMAGE, "labels.csv, line 3"),
        (ProblemKind.DUPLICATE, "labels.csv, line 4"), (ProblemKind.UNKNOWN_SPLIT, "labels.csv, line 8")]
    assert names_of(dataset) == ["a.png", "b%20c%2Bd.png"]


def test_a_quote_that_is_never_closed_is_said(tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path, 'uri,labels\na.png,x\nsub/ü.png,"y\nb c+d.png,x\n'))
    assert kinds(dataset.problems) == [ProblemKind.UNREADABLE]
    assert names_of(dataset) == ["a.png"]


@pytest.mark.parametrize(("text", "said"), [
    (b"", "got none"), (b"uri;labels\na.png;x\n", "parted by commas"), (b"a.png,x\n", "got a.png,x"),
    (b"uri,labels,labels\n", "each once"), (b'uri,"labels', "unexpected end of data"),
    ("uri,labels\nä.png,x\n".encode("utf-16"), "UTF-8"), ("uri,labels\nä.png,x\n".encode("latin-1"), "Save it as UTF-8"),
    (b"uri,labels\ngopher://x/a.png,x\n", "file://, s3://")])
def test_what_is_no_such_table_is_refused(tmp_path: Path, text: bytes, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_dataset(table(tmp_path, text))
    assert said in str(caught.value)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="utf-8"), max_size=60).filter(lambda text: "://" not in text))
def test_whatever_follows_in_a_table_is_read_or_said(tmp_path: Path, text: str) -> None:
    dataset = read_dataset(table(tmp_path, f"uri,labels,split\na.png,x,train\n{text}"))
    assert "a.png" in names_of(dataset)
    for problem in dataset.problems:
        (problem.message + problem.where).encode()
