"""The values and errors that everything else speaks in."""

from __future__ import annotations

import pickle  # noqa: TID251 (how errors travel between processes; of our own making)

import pytest

from segsvc.errors import ConfigError, ImageError, ImageErrorKind, RunError, SegsvcError, UnknownName
from segsvc.types import Box, Candidate, CandidateKind, ExtractionCounts, ImageRef, Segmentation, stable_id


def test_a_wrong_name_is_answered_with_the_known_ones_and_the_nearest() -> None:
    error = UnknownName("model", "nucleii", ["nuclei", "imagenet"])
    assert str(error) == "no model is called 'nucleii'. Did you mean 'nuclei'? Known: imagenet, nuclei."
    assert str(UnknownName("model", "x", [])) == "no model is called 'x'. Known: none."
    assert isinstance(error, ConfigError)


def test_all_errors_have_one_root() -> None:
    assert all(issubclass(each, SegsvcError) for each in (ConfigError, RunError, ImageError, UnknownName))


def test_an_image_error_survives_the_way_between_processes_with_its_kind() -> None:
    error = pickle.loads(pickle.dumps(ImageError(ImageErrorKind.EMPTY, "no bytes")))  # noqa: S301
    assert (type(error), error.kind, str(error)) == (ImageError, ImageErrorKind.EMPTY, "no bytes")


def test_a_box_knows_its_size_and_refuses_to_be_inside_out() -> None:
    box = Box(2, 3, 12, 8)
    assert (box.width_px, box.height_px, box.area_px) == (10, 5, 50)
    assert Box(1, 1, 1, 1).area_px == 0
    with pytest.raises(ValueError, match=r"x0 <= x1 and y0 <= y1, got \(3, 0, 2, 5\)"):
        Box(3, 0, 2, 5)


def test_an_id_depends_on_every_field_its_type_and_where_it_ends() -> None:
    ids = [stable_id(*fields) for fields in [("a", "b"), ("ab",), ("b", "a"), ("a", "b", None), ("a", b"b"), ("1",), (1,),
                                             ("a:b",), (), (None,), ("None",), ("\udcff",)]]
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 32 for each in ids)


def test_ids_stay_what_they_are_from_version_to_version() -> None:
    assert stable_id("file:///a.png", "12-34") == "2ae970b8717775a3a2d7ac60c43f4c1e"


def test_an_image_is_the_same_image_while_uri_and_version_are() -> None:
    one = ImageRef("file:///a", "1-2", 1)
    assert one.image_id == ImageRef("file:///a", "1-2", 99, "g", {"street": "Elm"}).image_id
    assert one.image_id != ImageRef("file:///a", "1-3", 1).image_id


def test_a_candidate_is_named_by_what_it_is_and_not_by_its_scores() -> None:
    base = Candidate(0, "cell", CandidateKind.REGION, Box(0, 0, 2, 2), 4, 0.9, 0.8, b"04")
    name = base.candidate_id("image", "model")
    assert name == Candidate(0, "cell", CandidateKind.REGION, Box(0, 0, 2, 2), 4, 0.5, 0.5, b"04",
                             touches_edge=True).candidate_id("image", "model")
    others = [Candidate(1, "cell", CandidateKind.REGION, Box(0, 0, 2, 2), 4, 0.9, 0.8, b"04"),
              Candidate(0, "cell", CandidateKind.REGION, Box(0, 0, 2, 2), 4, 0.9, 0.8, b"13"),
              Candidate(0, "cell", CandidateKind.INSTANCE, Box(0, 0, 2, 2), 4, 0.9, 0.8, b"04"),
              Candidate(0, "cell", CandidateKind.REGION, Box(0, 0, 2, 3), 4, 0.9, 0.8, b"04"),
              Candidate(0, "dog", CandidateKind.REGION, Box(0, 0, 2, 2), 4, 0.9, 0.8, b"04")]
    names = {each.candidate_id("image", "model") for each in others}
    names |= {name, base.candidate_id("image", "other"), base.candidate_id("other", "model")}
    assert len(names) == 8


def test_counts_add_up_and_a_segmentation_is_its_candidates() -> None:
    assert ExtractionCounts(1, 2, 3) + ExtractionCounts(10, 20, 30) == ExtractionCounts(11, 22, 33)
    one = Candidate(0, "cell", CandidateKind.IMAGE, Box(0, 0, 2, 2), 4, 0.9, 0.8)
    segmentation = Segmentation(2, 2, 1, (one, one), ExtractionCounts(kept=2))
    assert list(segmentation) == [one, one]
    assert len(segmentation) == 2
