"""TIFF: only what a box touches is read, one tile at a time is held to the limit, and hostile files end quickly."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile

from segsvc.errors import ImageError, ImageErrorKind
from segsvc.readers import ReadLimits, open_source, tiff_tree
from segsvc.types import Box
from tests.readers.support import MemoryBlob, error_of, kind_of, opened, photo, pixels, tiff

GREY = photo(50, 70, 1)


def test_a_box_reads_only_the_tiles_that_it_touches() -> None:
    data = tiff(np.random.default_rng(0).integers(0, 256, (4096, 4096), np.uint8), tile=(256, 256))
    blob = MemoryBlob(data)
    source = open_source(blob, ReadLimits())
    before = blob.read_bytes
    source.read(Box(300, 300, 500, 500))
    assert before < 600_000
    assert blob.read_bytes - before <= 3 << 16


def test_uncompressed_rows_are_read_by_ranges_even_from_a_single_strip() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (3000, 4096), np.uint8)
    blob = MemoryBlob(tiff(picture, rowsperstrip=3000))
    source = open_source(blob, ReadLimits(decode_bytes=1 << 20))
    before = blob.read_bytes
    band = source.read(Box(5, 1000, 4000, 1100))
    assert np.array_equal(band[..., 0], picture[1000:1100, 5:4000])
    assert blob.read_bytes - before <= 100 * 4096 + (2 << 16)


def test_bands_that_overlap_read_and_decode_a_tile_once() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (2048, 2048), np.uint8)
    data = tiff(picture, tile=(256, 256), compression="zlib")
    blob = MemoryBlob(data)
    source = open_source(blob, ReadLimits())
    for top in range(0, 1793, 192):
        assert np.array_equal(source.read(Box(0, top, 2048, top + 256))[..., 0], picture[top:top + 256])
    assert blob.read_bytes < 1.3 * len(data)


def sparse(side_px: int, tile_px: int | None, *, compression: int = 8) -> bytes:
    """A BigTIFF of that size with no tile or strip stored; `tile_px` None is a single strip."""
    count = (-(-side_px // tile_px)) ** 2 if tile_px else 1
    tags = [(256, 4, 1, side_px), (257, 4, 1, side_px), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1),
            (277, 3, 1, 1)]
    if tile_px:
        tags += [(322, 4, 1, tile_px), (323, 4, 1, tile_px), (324, 4, count, 400), (325, 4, count, 400)]
    else:
        tags += [(273, 4, 1, 400), (278, 4, 1, side_px), (279, 4, 1, 100)]
    directory = struct.pack("<Q", len(tags)) + b"".join(struct.pack("<HHQQ", *tag) for tag in sorted(tags)) + bytes(8)
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + directory
    return head.ljust(400, b"\0") + bytes(max(4 * count, 200))


def test_a_tiled_tiff_of_forty_thousand_px_square_is_read_by_boxes() -> None:
    source = opened(sparse(40_000, 512))
    assert (source.width_px, source.height_px) == (40_000, 40_000)
    assert source.read(Box(0, 39_000, 40_000, 39_512)).shape == (512, 40_000, 1)
    error = error_of(sparse(40_000, 512))
    assert error.kind is ImageErrorKind.TOO_LARGE
    assert "smaller boxes" in str(error)


def test_a_compressed_strip_of_forty_thousand_px_square_is_too_large_at_open() -> None:
    with pytest.raises(ImageError, match=r"a strip of 40000 x 40000 px .* needs .* MiB .* smaller tiles") as caught:
        opened(sparse(40_000, None))
    assert caught.value.kind is ImageErrorKind.TOO_LARGE


def test_a_picture_within_a_tiff_that_is_larger_than_its_tile_is_not_decoded() -> None:
    for codec in ("jpeg", "webp", "jpeg2000", "jpegxl", "lerc"):
        large = tiff(photo(256, 256), tile=(256, 256), compression=codec, photometric="rgb", metadata=None)
        data = bytearray(large)
        for tag in tifffile.TiffFile(io.BytesIO(large)).pages[0].tags:
            if tag.code in (322, 323, 256, 257):
                data[tag.valueoffset:tag.valueoffset + 2] = struct.pack("<H", 32)
        assert kind_of(bytes(data)) is ImageErrorKind.CORRUPT, codec


@pytest.mark.parametrize("codec", ["lzw", "zlib", "packbits", "zstd", "lzma"])
def test_what_a_tile_inflates_to_is_bounded_by_its_size(codec: str) -> None:
    large = tiff(np.zeros((2048, 2048), np.uint8), tile=(2048, 2048), compression=codec, metadata=None)
    data = bytearray(large)
    for tag in tifffile.TiffFile(io.BytesIO(large)).pages[0].tags:
        if tag.code in (322, 323, 256, 257):
            data[tag.valueoffset:tag.valueoffset + 2] = struct.pack("<H", 32)
    try:
        assert not pixels(bytes(data)).any()  # some codecs give what was asked for and stop
    except ImageError as error:
        assert error.kind is ImageErrorKind.CORRUPT


# hostile


def directory(entries: list[tuple[int, int, int, int]], next_at: int) -> bytes:
    return (struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
            + struct.pack("<I", next_at))


def test_pages_that_go_in_a_circle_are_corrupt() -> None:
    tags = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 8), (273, 4, 1, 0), (279, 4, 1, 16)]
    data = b"II*\0" + struct.pack("<I", 8) + directory(tags, 8)
    assert kind_of(data + bytes(64)) is ImageErrorKind.CORRUPT


def test_a_file_made_of_pages_alone_ends_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_tree, "MAX_PAGES", 3000)
    tags = [(256, 4, 1, 4), (257, 4, 1, 4)]
    size = len(directory(tags, 0))
    chain = b"".join(directory(tags, 8 + size * (i + 1)) for i in range(4000))
    error = error_of(b"II*\0" + struct.pack("<I", 8) + chain + directory(tags, 0))
    assert error.kind is ImageErrorKind.UNSUPPORTED
    assert "3000 pages" in str(error)


@pytest.mark.parametrize("entry", [
    (273, 4, 0xFFFFFFFF, 8), (273, 4, 4, 0xFFFFFFF0), (258, 3, 0xFFFFFFFF, 8), (257, 4, 1, 0), (256, 4, 1, 0xFFFFFFFF),
    (277, 4, 1, 0xFFFFFFFF), (278, 4, 1, 0), (259, 3, 1, 999), (284, 3, 1, 2), (279, 4, 1, 0xFFFFFFFF),
    (258, 3, 1, 0), (258, 3, 1, 77), (339, 3, 1, 9), (262, 3, 1, 77), (322, 4, 1, 0)])
def test_absurd_tags_are_an_error_or_pixels_of_the_size_that_they_say(entry: tuple[int, int, int, int]) -> None:
    tags = {256: (256, 4, 1, 4), 257: (257, 4, 1, 4), 258: (258, 3, 1, 8), 262: (262, 3, 1, 1), 273: (273, 4, 1, 8),
            277: (277, 3, 1, 1), 279: (279, 4, 1, 16), entry[0]: entry}
    data = b"II*\0" + struct.pack("<I", 24) + bytes(16) + directory([tags[tag] for tag in sorted(tags)], 0)
    try:
        assert pixels(data).shape == (4, 4, 1)
    except ImageError as error:
        assert error.kind in (ImageErrorKind.CORRUPT, ImageErrorKind.UNSUPPORTED, ImageErrorKind.TOO_LARGE)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "tile": (16, 16)}, {"compression": "jpeg"},
                                     {"compression": "lzw", "predictor": True, "bigtiff": True}])
def test_a_tiff_cut_anywhere_is_an_error_or_whole(options: dict[str, object]) -> None:
    data = tiff(photo(32, 48, 1), metadata=None, **options)
    expected = pixels(data)
    for cut in range(4, len(data), 5):
        try:
            assert np.array_equal(pixels(data[:cut]), expected)
        except ImageError as error:
            assert error.kind in (ImageErrorKind.CORRUPT, ImageErrorKind.UNSUPPORTED)


@pytest.mark.parametrize("tag", [50706, 65420, 33628])
def test_files_that_are_a_tiff_by_form_alone_are_unsupported(tag: int) -> None:
    assert kind_of(tiff(GREY, extratags=[(tag, 4, 1, 1, True)])) is ImageErrorKind.UNSUPPORTED
