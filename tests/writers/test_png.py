from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from segsvc.writers._png_stream import Colour, PngStream, RowFilter
from segsvc.writers.png import BAND_BYTES, PLUGIN
from tests.exports import MadeImage, blob, candidate, export_of, hostile_export, maskless_export, plain_export


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def only_mask(folder: Path) -> np.ndarray:
    files = sorted(folder.glob("*.png"))
    assert len(files) == 1
    return read(files[0])


def test_px_are_one_more_than_the_place_of_their_class(tmp_path: Path) -> None:
    square = np.ones((4, 6), np.bool_)
    found = (candidate(square, x0=1, y0=2, class_name="crack", score=0.5),
             candidate(square, x0=10, y0=2, class_name="nucleus", score=0.5))
    PLUGIN.encode(export_of([MadeImage("file:///a.png", np.zeros((1, 9, 20, 3), np.uint8), found)],
                            classes=("nucleus", "crack")), tmp_path / "to")
    mask = only_mask(tmp_path / "to")
    expected = np.zeros((9, 20), np.uint8)
    expected[2:6, 1:7], expected[2:6, 10:16] = 2, 1
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, expected)
    assert (tmp_path / "to" / "classes.txt").read_text() == "background\nnucleus\ncrack\n"


@pytest.mark.parametrize(("scores", "winner"), [((0.9, 0.8), 1), ((0.8, 0.9), 2), ((0.7, 0.7), 1)])
def test_the_higher_score_wins_where_regions_overlap(scores: tuple[float, float], winner: int, tmp_path: Path) -> None:
    square = np.ones((5, 5), np.bool_)
    found = (candidate(square, x0=2, y0=2, class_name="b", score=scores[1]),
             candidate(square, x0=0, y0=0, class_name="a", score=scores[0]))
    PLUGIN.encode(export_of([MadeImage("file:///a.png", np.zeros((1, 8, 8, 1), np.uint8), found)], classes=("a", "b")),
                  tmp_path / "to")
    mask = only_mask(tmp_path / "to")
    assert (mask[2:5, 2:5] == winner).all()
    assert (mask[0, 0], mask[6, 6]) == (1, 2)


def test_many_classes_take_16_bit_and_never_the_value_that_means_ignore(tmp_path: Path) -> None:
    classes = tuple(f"class {number}" for number in range(300))
    square = np.ones((2, 2), np.bool_)
    found = tuple(candidate(square, x0=4 * place, y0=0, class_name=classes[number], score=0.5)
                  for place, number in enumerate((0, 253, 254, 299)))
    export = export_of([MadeImage("file:///a.png", np.zeros((1, 3, 20, 1), np.uint8), found)], classes=classes)
    PLUGIN.encode(export, tmp_path / "to")
    mask = cv2.imread(str(next((tmp_path / "to").glob("*.png"))), cv2.IMREAD_UNCHANGED)
    assert mask.dtype == np.uint16
    assert mask[0, ::4].tolist() == [1, 254, 256, 301, 0]
    lines = (tmp_path / "to" / "classes.txt").read_text().split("\n")
    assert (lines[1], lines[254], lines[256], lines[301]) == ("class 0", "class 253", "class 254", "class 299")
    assert {row["class_name"] for row in PLUGIN.decode(tmp_path / "to").to_pylist()} == {one.class_name for one in found}


@pytest.mark.parametrize(("n_classes", "dtype"), [(254, np.uint8), (255, np.uint16)])
def test_8_bit_hold_254_classes(n_classes: int, dtype: type, tmp_path: Path) -> None:
    PLUGIN.encode(export_of([MadeImage("file:///a.png", np.zeros((1, 3, 3, 1), np.uint8))],
                            classes=tuple(map(str, range(n_classes)))), tmp_path / "to")
    assert cv2.imread(str(next((tmp_path / "to").glob("*.png"))), cv2.IMREAD_UNCHANGED).dtype == dtype


def test_every_class_has_one_line_whatever_its_name(tmp_path: Path) -> None:
    PLUGIN.encode(hostile_export(), tmp_path / "to")
    lines = (tmp_path / "to" / "classes.txt").read_bytes().decode().splitlines()
    names = [json.loads(line) if line.startswith('"') else line for line in lines]
    assert names == ["background", *hostile_export().classes]


def test_frames_are_files_of_their_own_and_the_index_names_them(tmp_path: Path) -> None:
    count = PLUGIN.encode(plain_export(), tmp_path / "to")
    index = (tmp_path / "to" / "index.csv").read_text().splitlines()
    assert index[0] == "file,image_uri,image_version,frame,width_px,height_px,group,street,score,camera"
    assert [line.split(",")[0][32:] for line in index[1:]] == [".png", ".png", ".png", "_f0001.png", ".png"]
    assert count.files == len(index) + 1


def test_candidates_without_a_mask_are_neither_painted_nor_counted(tmp_path: Path) -> None:
    assert PLUGIN.encode(maskless_export(), tmp_path / "to").candidates == 0
    assert all(not read(path).any() for path in (tmp_path / "to").glob("*.png"))


def test_a_large_image_is_written_band_by_band_in_bounded_memory(tmp_path: Path) -> None:
    width, height = 9000, 9000
    rng = np.random.default_rng(0)
    ring = np.ones((8800, 30), np.bool_)
    ring[5:-5, 5:-5] = False
    found = (candidate(ring, x0=100, y0=100, class_name="a", score=0.25),
             candidate(blob(rng), x0=4000, y0=height - 20, class_name="a", score=0.75))
    # the image itself is never looked at: a view of one px stands for it
    image = MadeImage("file:///large.tif", np.broadcast_to(np.uint8(0), (1, height, width, 1)), found)
    assert width * height > 4 * BAND_BYTES
    tracemalloc.start()
    PLUGIN.encode(export_of([image], classes=("a",)), tmp_path / "to")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * BAND_BYTES
    mask = cv2.imread(str(next((tmp_path / "to").glob("*.png"))), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask[100:8900, 100:130] == 1, ring)
    assert int((mask == 1).sum()) == sum(one.area_px for one in found)


@pytest.mark.parametrize("row_filter", list(RowFilter))
@pytest.mark.parametrize("step", [1, 3, 100])
def test_a_png_written_by_rows_is_the_picture(row_filter: RowFilter, step: int) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (17, 5, 4)).astype(np.uint8)
    file = io.BytesIO()
    stream = PngStream(file, width_px=5, height_px=17, colour=Colour.RGB_ALPHA, row_filter=row_filter)
    for y0 in range(0, 17, step):
        stream.write_rows(picture[y0:y0 + step])
    stream.finish()
    with Image.open(io.BytesIO(file.getvalue())) as image:
        image.load()
        np.testing.assert_array_equal(np.asarray(image), picture)


def test_a_png_with_too_few_or_wrong_rows_is_refused() -> None:
    stream = PngStream(io.BytesIO(), width_px=2, height_px=2, colour=Colour.GREY, row_filter=RowFilter.NONE)
    stream.write_rows(np.zeros((1, 2, 1), np.uint8))
    with pytest.raises(ValueError, match="expected at most 1 rows"):
        stream.write_rows(np.zeros((2, 2, 1), np.uint8))
    with pytest.raises(ValueError, match="uint16"):
        stream.write_rows(np.zeros((1, 2, 1), np.uint16))
    with pytest.raises(ValueError, match="1 are missing"):
        stream.finish()
