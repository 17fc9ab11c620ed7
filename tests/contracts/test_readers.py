"""What every reader keeps to: its example opens, boxes are crops, limits hold before decoding, nothing else escapes."""

from __future__ import annotations

import numpy as np
import pytest

from segsvc import plugins
from segsvc.errors import ImageError, ImageErrorKind
from segsvc.plugins import PluginKind
from segsvc.readers import HEAD_BYTES, Reader, ReadLimits, open_source
from segsvc.types import Box
from tests.readers.support import MemoryBlob, opened, whole

CRASHES_ON_PURPOSE = {"crashing"}
HAS_NO_END = {"lines"}  # a text without a length: what is cut off is not missed
READERS = [name for name in plugins.names(PluginKind.READER) if name not in CRASHES_ON_PURPOSE]


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> Reader:
    found: Reader = plugins.load(PluginKind.READER, request.param)
    return found


def test_the_formats_that_the_project_promises_are_there() -> None:
    assert {"bmp", "jpeg", "png", "tiff", "webp"} <= set(READERS)


def test_a_reader_is_called_what_its_file_is(reader: Reader) -> None:
    assert plugins.load(PluginKind.READER, reader.name) is reader
    assert reader.endings
    assert all(ending == ending.lower() and ending.startswith(".") for ending in reader.endings)


def test_exactly_one_reader_knows_an_example(reader: Reader) -> None:
    head = reader.example()[:HEAD_BYTES]
    knows = [name for name in READERS if plugins.load(PluginKind.READER, name).sniff(head)]
    assert knows == [reader.name]


@pytest.mark.parametrize("head", [b"", b"\0", b"PK\3\4" + bytes(60), b"%PDF-1.7\n" + bytes(50), b"\x1f\x8b" + bytes(60),
                                  b"BM and other words in a text file, as long as it takes to fill sixty-four bytes",
                                  b"GIF89a" + bytes(58), b"RIFF\0\0\0\0WAVE" + bytes(50), b"<svg/>"])
def test_no_reader_knows_what_is_none_of_its_files(reader: Reader, head: bytes) -> None:
    assert reader.sniff(head) is False


def test_an_example_is_the_same_each_time_and_small(reader: Reader) -> None:
    assert reader.example() == reader.example()
    assert len(reader.example()) < 20_000


def test_pixels_are_of_the_shape_and_type_that_the_source_declares(reader: Reader) -> None:
    source = opened(reader.example())
    assert source.dtype in (np.uint8, np.uint16, np.float32)
    assert source.channels in (1, 3)
    assert source.levels[0].downsample == 1.0
    assert (source.levels[0].width_px, source.levels[0].height_px) == (source.width_px, source.height_px)
    for level, frame in ((level, frame) for level in range(len(source.levels)) for frame in range(source.frames)):
        size = source.levels[level]
        pixels = whole(source, level=level, frame=frame)
        assert pixels.shape == (size.height_px, size.width_px, source.channels)
        assert pixels.dtype == source.dtype
        assert pixels.flags.c_contiguous


def test_a_box_is_a_crop_of_the_whole(reader: Reader) -> None:
    pixels = whole(opened(reader.example()))
    height, width = pixels.shape[:2]
    rng = np.random.default_rng(0)
    source = opened(reader.example())
    for _ in range(40):
        x0, x1 = sorted(int(x) for x in rng.integers(0, width + 1, 2))
        y0, y1 = sorted(int(y) for y in rng.integers(0, height + 1, 2))
        assert np.array_equal(source.read(Box(x0, y0, x1, y1)), pixels[y0:y1, x0:x1])


def test_a_box_outside_a_level_or_a_frame_that_is_not_there_is_a_value_error(reader: Reader) -> None:
    source = opened(reader.example())
    width, height = source.width_px, source.height_px
    for box in (Box(-1, 0, 1, 1), Box(0, -1, 1, 1), Box(0, 0, width + 1, 1), Box(0, 0, 1, height + 1)):
        with pytest.raises(ValueError, match="box"):
            source.read(box)
    for level, frame in ((len(source.levels), 0), (-1, 0), (0, source.frames), (0, -1)):
        with pytest.raises(ValueError, match="level"):
            source.read(Box(0, 0, 1, 1), level=level, frame=frame)


def test_a_limit_that_is_too_small_is_too_large(reader: Reader) -> None:
    with pytest.raises(ImageError) as caught:
        whole(opened(reader.example(), ReadLimits(decode_bytes=1)))
    assert caught.value.kind is ImageErrorKind.TOO_LARGE


def test_a_file_that_is_longer_than_the_limit_is_not_read_as_a_whole(reader: Reader) -> None:
    blob = MemoryBlob(reader.example(), size_bytes=1 << 40)
    try:
        reader.open(blob, ReadLimits())
    except ImageError as error:
        assert error.kind is ImageErrorKind.TOO_LARGE
    assert blob.reads_of_all == 0
    assert blob.read_bytes <= 1 << 17


def test_an_example_cut_anywhere_is_an_image_error_or_all_of_its_pixels(reader: Reader) -> None:
    if reader.name in HAS_NO_END:
        return
    data = reader.example()
    expected = whole(opened(data))
    for cut in range(len(data)):
        try:
            assert np.array_equal(whole(opened(data[:cut])), expected)
        except ImageError as error:
            assert error.kind in (ImageErrorKind.CORRUPT, ImageErrorKind.UNSUPPORTED, ImageErrorKind.EMPTY)
            assert str(error)


def test_closing_twice_is_once_and_a_closed_source_is_not_read(reader: Reader) -> None:
    blob = MemoryBlob(reader.example())
    source = open_source(blob, ReadLimits())
    source.read(Box(0, 0, 1, 1))
    source.close()
    source.close()
    assert blob.closed <= 1
