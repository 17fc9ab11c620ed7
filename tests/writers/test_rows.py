from __future__ import annotations

from dataclasses import replace

import pytest

from segsvc.writers import ExportPart
from segsvc.writers._rows import class_number, csv_line, meta_columns, read_images
from tests.exports import plain_export


def test_images_come_with_their_candidates_by_frame() -> None:
    images = list(read_images(plain_export()))
    rows = [row for part in plain_export().parts() for row in part.candidates.to_pylist()]
    assert [image.frames for image in images] == [1, 1, 2, 1]
    assert sum(len(image.of_frame(frame)) for image in images for frame in range(image.frames)) == len(rows)
    assert images[1].of_frame(0) == ()


def test_candidates_out_of_order_are_refused_rather_than_lost() -> None:
    export = plain_export()

    def backwards():  # type: ignore[no-untyped-def]
        for part in export.parts():
            yield ExportPart(part.images.take(list(range(part.images.num_rows))[::-1]), part.candidates)

    with pytest.raises(ValueError, match="out of order"):
        list(read_images(replace(export, parts=backwards)))


def test_a_candidate_beyond_the_frames_is_refused() -> None:
    export = plain_export()

    def one_frame():  # type: ignore[no-untyped-def]
        for part in export.parts():
            place = part.images.schema.get_field_index("frames")
            ones = part.images.column("frames").combine_chunks().fill_null(0).to_numpy() * 0 + 1
            yield ExportPart(part.images.set_column(place, part.images.schema.field(place), [ones]), part.candidates)

    with pytest.raises(ValueError, match="frame 1"):
        list(read_images(replace(export, parts=one_frame)))


def test_a_class_that_is_not_named_is_refused() -> None:
    assert class_number(("a", "b"), "b") == 1
    with pytest.raises(ValueError, match=r"\(a, b\), got 'c'"):
        class_number(("a", "b"), "c")


def test_a_key_that_is_a_column_already_is_set_apart() -> None:
    assert meta_columns(plain_export(), ["score", "meta.score"]) == {
        "group": "group", "street": "street", "score": "meta.meta.score", "camera": "camera"}


def test_a_line_of_csv_is_quoted_where_it_must_be() -> None:
    assert csv_line(["a", None, 'b"c', "d,e", 1, 0.5]) == 'a,,"b""c","d,e",1,0.5\n'
