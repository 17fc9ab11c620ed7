"""What every store keeps to: a listing in its own order that goes on anywhere, versions, ranges, parts put whole."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from segsvc import plugins
from segsvc.errors import ImageError, ImageErrorKind
from segsvc.plugins import PluginKind
from segsvc.stores import MISSING, PartFolder, Skip, Store, store_of
from segsvc.types import Blob, ImageRef
from tests.s3_servers import UseServer, shared_seaweedfs, use

__all__ = ["use"]

FILES = {"a.png": b"one", "b/c.png": b"three", "b/d.txt": b"text", "e/.hidden.png": b"", "e/f.PNG": bytes(range(256)),
         "g": b"", "ünï cödé+%41.png": b"x"}
LISTED = ["a.png", "b/c.png", "e/f.PNG", "g", "ünï cödé+%41.png"]


def file_place(use: UseServer, tmp_path: Path) -> str:
    return f"file://{tmp_path}/place"


def s3_place(use: UseServer, tmp_path: Path) -> str:
    use(shared_seaweedfs())
    return f"s3://open/{secrets.token_hex(6)}"


PLACES: dict[str, Callable[[UseServer, Path], str]] = {"file": file_place, "s3": s3_place}


def test_every_store_has_its_place_here() -> None:
    assert set(plugins.names(PluginKind.STORE)) == PLACES.keys()


@pytest.fixture(params=sorted(PLACES))
def place(request: pytest.FixtureRequest, use: UseServer, tmp_path: Path) -> str:
    """A URI in the store, below which there is nothing."""
    return PLACES[request.param](use, tmp_path)


@pytest.fixture
def store(place: str) -> Store:
    return store_of(place)


@pytest.fixture
def folder(store: Store, place: str) -> PartFolder:
    return store.folder(place)


@pytest.fixture
def filled(folder: PartFolder) -> PartFolder:
    for name, data in FILES.items():
        folder.put(name, data)
    return folder


def images(store: Store, place: str, **more: str | None) -> list[ImageRef]:
    return [entry.found for entry in store.list(place, **more) if isinstance(entry.found, ImageRef)]


def data_of(blob: Blob) -> bytes:
    try:
        return blob.read_all()
    finally:
        blob.close()


# -- listing, finding, opening -------------------------------------------------------------------------------------------


def test_a_listing_holds_each_image_once_and_says_why_something_is_none(store: Store, place: str,
                                                                        filled: PartFolder) -> None:
    found = images(store, place)
    assert [data_of(store.open(ref)) for ref in found] == [FILES[name] for name in LISTED]
    assert [ref.size_bytes for ref in found] == [len(FILES[name]) for name in LISTED]
    assert sorted(entry.found for entry in store.list(place) if isinstance(entry.found, Skip)) == [
        Skip.HIDDEN, Skip.ENDING]


def test_a_listing_goes_on_after_any_entry(store: Store, place: str, filled: PartFolder) -> None:
    every = list(store.list(place))
    assert len(every) == len(FILES)
    for number, entry in enumerate(every):
        assert list(store.list(place, after=entry.cursor)) == every[number + 1:]


def test_the_runs_own_output_is_not_listed(store: Store, place: str, filled: PartFolder) -> None:
    own = images(store, place, exclude=f"{place}/b")
    assert len(own) == len(LISTED) - 1
    assert not any("/b/" in ref.uri.removeprefix(place) for ref in own)


def test_what_is_listed_is_what_is_found(store: Store, place: str, filled: PartFolder) -> None:
    for ref in images(store, place):
        assert store.find(ref.uri) == ref
        assert [entry.found for entry in store.list(ref.uri)] == [ref]


def test_nothing_is_listed_where_nothing_is(store: Store, place: str, folder: PartFolder) -> None:
    folder.put("other/x", b"")
    (only,) = store.list(f"{place}/other/x")
    assert list(store.list(f"{place}/other/x", after=only.cursor)) == []
    folder.delete("other/x")
    folder.put(".claim", b"")
    assert images(store, place) == []


def test_an_image_that_is_not_there_is_found_missing_and_opening_it_says_so(store: Store, place: str) -> None:
    ref = store.find(f"{place}/none.png")
    assert (ref.version, ref.size_bytes) == (MISSING, 0)
    with pytest.raises(ImageError) as caught:
        store.open(ref)
    assert caught.value.kind is ImageErrorKind.MISSING


def test_an_image_is_opened_as_the_version_that_was_listed_or_not_at_all(store: Store, place: str,
                                                                         folder: PartFolder) -> None:
    folder.put("x.png", b"one")
    (ref,) = images(store, place)
    assert data_of(store.open(ref)) == b"one"
    folder.put("x.png", b"three")
    with pytest.raises(ImageError, match=f"expected version {ref.version} .* Run it again on a new OUT") as caught:
        store.open(ref)
    assert caught.value.kind is ImageErrorKind.CHANGED
    assert data_of(store.open(replace(ref, version="", size_bytes=0))) == b"three"


def test_an_image_is_read_by_ranges(store: Store, place: str, filled: PartFolder) -> None:
    data = FILES["e/f.PNG"]
    blob = store.open(store.find(f"{place}/e/f.PNG"))
    for start, stop in ((0, 256), (10, 14), (250, 999), (-5, 2), (300, 400), (9, 3)):
        assert blob.read(start, stop) == data[max(0, start): max(0, stop)]
    blob.close()
    blob.close()
    with pytest.raises(ImageError, match="closed"):
        blob.read(0, 1)


def test_some_images_are_worth_having_under_way(store: Store) -> None:
    assert store.in_flight >= 1


# -- parts ---------------------------------------------------------------------------------------------------------------


def test_a_part_is_put_replaced_and_removed(folder: PartFolder) -> None:
    assert folder.is_empty()
    assert folder.put("images/part", b"one")
    assert folder.put("images/part", b"two")
    assert folder.read("images/part") == b"two"
    assert not folder.is_empty()
    folder.delete("images/part")
    folder.delete("images/part")
    assert folder.read("images/part") is None


def test_a_put_where_there_is_none_keeps_what_is_there(folder: PartFolder) -> None:
    assert folder.put("spec.json", b"first", if_absent=True)
    assert not folder.put("spec.json", b"second", if_absent=True)
    assert folder.read("spec.json") == b"first"


def test_a_put_in_place_of_a_version_keeps_any_other(folder: PartFolder) -> None:
    assert folder.tag("part") is None
    folder.put("part", b"first")
    tag = folder.tag("part")
    assert tag is not None
    assert folder.put("part", b"second one", if_tag=tag)
    assert folder.tag("part") != tag
    assert not folder.put("part", b"third", if_tag=tag)
    assert folder.read("part") == b"second one"


def test_a_place_is_tried_without_leaving_anything(store: Store, place: str, folder: PartFolder, tmp_path: Path) -> None:
    folder.probe()
    below = store.folder(f"{place}/a/b")
    below.probe()
    assert folder.is_empty()
    assert list(tmp_path.iterdir()) == []
    below.put("part", b"one")
    below.probe()
    assert below.read("part") == b"one"


def test_names_are_sorted_and_those_of_one_kind(folder: PartFolder) -> None:
    for name in ("images/part-00001", "images/part-00000", "images/.hidden", "plan/part-00000", "images2/x"):
        folder.put(name, b"")
    assert folder.names("images") == ["images/part-00000", "images/part-00001"]
    assert folder.names("none") == []


def test_a_folder_is_found_again_by_its_uri(store: Store, folder: PartFolder) -> None:
    folder.put("a", b"1")
    assert store.folder(folder.uri).read("a") == b"1"
    assert store.folder(folder.uri).uri == folder.uri
    assert folder.in_flight >= 1


def test_a_claim_can_be_asked_for_again_and_leaves_the_folder_empty(folder: PartFolder) -> None:
    assert folder.claim()
    assert folder.claim()
    folder.sweep()
    assert folder.is_empty()
    folder.release()
    assert folder.claim()
    folder.release()
