"""TIFF: every layout, type and compression, equal to tifffile and Pillow; only what a box touches is read."""

from __future__ import annotations

import io
import itertools
import struct

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from segsvc.errors import ImageErrorKind
from segsvc.types import Box
from tests.readers.support import error_of, kind_of, opened, photo, pixels, tiff, whole

BOX = Box(13, 7, 51, 33)
RGB = photo(50, 70)
GREY = photo(50, 70, 1)
DEEP = GREY.astype(np.uint16) * 250 + 3
REAL = np.random.default_rng(0).normal(size=(50, 70)).astype(np.float32)
PICTURES = {"grey8": GREY, "grey16": DEEP, "float32": REAL, "rgb8": RGB, "rgb16": RGB.astype(np.uint16) * 200}
BYTE_CODECS = [None, "lzw", "zlib", "packbits", "zstd", "lzma"]


def by_pillow(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", **options)
    return buffer.getvalue()


def equal_whole_and_by_box(data: bytes, expected: npt.NDArray[np.generic]) -> bool:
    source = opened(data)
    if expected.ndim == 2:
        expected = expected[..., None]
    inner = expected[BOX.y0:BOX.y1, BOX.x0:BOX.x1]
    return np.array_equal(whole(source), expected) and np.array_equal(opened(data).read(BOX), inner)


@pytest.mark.parametrize("tile", [None, (16, 16), (32, 48)])
@pytest.mark.parametrize("codec", BYTE_CODECS)
@pytest.mark.parametrize("name", PICTURES)
def test_lossless_bytes_come_back_whole_and_by_boxes(name: str, codec: str | None, tile: tuple[int, int] | None) -> None:
    predictors = [False, True] if codec in ("lzw", "zlib", "zstd") else [False]
    for order, big, predictor in itertools.product("<>", (False, True), predictors):
        options = {"tile": tile} if tile else {"rowsperstrip": 16}
        data = tiff(PICTURES[name], compression=codec, byteorder=order, bigtiff=big, predictor=predictor, **options)
        assert equal_whole_and_by_box(data, PICTURES[name]), (order, big, predictor)


@pytest.mark.parametrize("codec", ["webp", "jpeg2000", "jpegxl", "lerc"])
@pytest.mark.parametrize("tile", [None, (32, 16)])
def test_pictures_within_a_tiff_come_back(codec: str, tile: tuple[int, int] | None) -> None:
    arguments = {"lossless": True} if codec in ("webp", "jpegxl") else {}
    options = {"tile": tile} if tile else {"rowsperstrip": 16}
    data = tiff(RGB, compression=codec, compressionargs=arguments, **options)
    assert equal_whole_and_by_box(data, tifffile.imread(io.BytesIO(data)))
    assert codec == "webp" or equal_whole_and_by_box(tiff(DEEP, compression=codec, compressionargs=arguments,
                                                          **options), DEEP)


@pytest.mark.parametrize("around", ["deflate", "zstd"])
def test_lerc_within_another_compression_comes_back(around: str) -> None:
    data = tiff(REAL, compression="lerc", compressionargs={"compression": around}, tile=(16, 16))
    assert equal_whole_and_by_box(data, REAL)


@pytest.mark.parametrize("options", [{"tile": (16, 32)}, {"rowsperstrip": 16}, {"tile": (16, 32), "subsampling": (1, 1)},
                                     {"tile": (16, 32), "compressionargs": {"outcolorspace": "rgb"}}])
def test_jpeg_in_tiff_is_rgb_as_tifffile_decodes_it(options: dict[str, object]) -> None:
    data = tiff(RGB, compression="jpeg", **options)
    assert equal_whole_and_by_box(data, tifffile.imread(io.BytesIO(data)))
    assert np.abs(pixels(data).astype(int) - RGB).mean() < 6


def test_jpeg_with_its_tables_in_the_page_is_as_pillow_decodes_it() -> None:
    data = by_pillow(Image.fromarray(RGB), compression="jpeg", quality=90)
    assert 347 in tifffile.TiffFile(io.BytesIO(data)).pages[0].tags
    assert equal_whole_and_by_box(data, np.asarray(Image.open(io.BytesIO(data))))
    grey = by_pillow(Image.fromarray(GREY), compression="jpeg", quality=90)
    assert equal_whole_and_by_box(grey, np.asarray(Image.open(io.BytesIO(grey))))


@pytest.mark.parametrize("codec", [None, "zlib", "jpeg"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_planes_are_put_together(codec: str | None, tile: tuple[int, int] | None) -> None:
    data = tiff(np.moveaxis(RGB, -1, 0), planarconfig="separate", compression=codec, tile=tile)
    assert equal_whole_and_by_box(data, np.moveaxis(tifffile.imread(io.BytesIO(data)), 0, -1))


@pytest.mark.parametrize("planar", [False, True])
def test_alpha_is_dropped(planar: bool) -> None:
    rgba = np.concatenate([RGB, GREY[..., None]], axis=-1)
    stored = np.moveaxis(rgba, -1, 0) if planar else rgba
    data = tiff(stored, planarconfig="separate" if planar else "contig", photometric="rgb", tile=(16, 16))
    assert equal_whole_and_by_box(data, RGB)
    grey_alpha = tiff(np.stack([GREY, GREY], -1), photometric="minisblack", planarconfig="contig", extrasamples=[2])
    assert equal_whole_and_by_box(grey_alpha, GREY)


@pytest.mark.parametrize("codec", [None, "tiff_lzw", "packbits", "tiff_ccitt", "group3", "group4"])
def test_one_bit_becomes_0_and_255(codec: str | None) -> None:
    bits = GREY > 120
    data = by_pillow(Image.fromarray(bits), compression=codec)
    assert equal_whole_and_by_box(data, bits.astype(np.uint8) * 255)


@pytest.mark.parametrize("codec", [None, "tiff_lzw"])
def test_a_palette_becomes_rgb(codec: str | None) -> None:
    image = Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE)
    assert equal_whole_and_by_box(by_pillow(image, compression=codec), np.asarray(image.convert("RGB")))


def test_cmyk_becomes_the_rgb_that_pillow_makes_of_it() -> None:
    image = Image.fromarray(RGB).convert("CMYK")
    assert equal_whole_and_by_box(by_pillow(image, compression="tiff_lzw"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("picture", [GREY, DEEP])
def test_white_is_zero_is_inverted(picture: npt.NDArray[np.generic]) -> None:
    data = tiff(picture, photometric="miniswhite", compression="zlib")
    assert equal_whole_and_by_box(data, np.iinfo(picture.dtype).max - picture)


def test_few_bits_are_spread_and_twelve_bits_stay_as_they_are() -> None:
    for bits in (2, 4):
        few = GREY >> (8 - bits)
        data = tiff(few, bitspersample=bits)
        assert equal_whole_and_by_box(data, few * (255 // (2**bits - 1)))
    twelve = DEEP >> 4
    assert equal_whole_and_by_box(tiff(twelve, bitspersample=12), twelve)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "int16", "int32", "uint32"])
def test_other_numbers_become_float32(dtype: str) -> None:
    numbers = (REAL * 100).astype(dtype) if dtype != "uint32" else DEEP.astype(np.uint32) * 1000
    data = tiff(numbers, compression="zlib", tile=(16, 16))
    assert opened(data).dtype == np.float32
    assert equal_whole_and_by_box(data, numbers.astype(np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_not_a_finite_number_becomes_0(dtype: str) -> None:
    numbers = REAL.astype(dtype)
    numbers[0, :3] = np.nan, np.inf, -np.inf
    expected = REAL.copy()
    expected[0, :3] = 0
    if dtype == "float64":
        numbers[1, 0], expected[1, 0] = 1e300, 0
    assert equal_whole_and_by_box(tiff(numbers), expected)


@pytest.mark.parametrize(("picture", "word"), [
    (GREY.astype(np.uint64), "uint64"), (GREY.astype(np.int64), "int64"), (GREY.astype(np.complex64), "complex"),
    (np.zeros((5, 16, 16), np.uint8), "channels")])
def test_types_that_are_not_read_are_named(picture: npt.NDArray[np.generic], word: str) -> None:
    data = tiff(picture, planarconfig="separate") if picture.ndim == 3 else tiff(picture)
    assert error_of(data).kind is ImageErrorKind.UNSUPPORTED
    assert word in str(error_of(data))


def test_lab_colours_are_unsupported_and_the_message_says_so() -> None:
    error = error_of(by_pillow(Image.fromarray(RGB).convert("LAB")))
    assert error.kind is ImageErrorKind.UNSUPPORTED
    assert "L*a*b*" in str(error)


def test_an_unknown_compression_is_named() -> None:
    data = bytearray(tiff(GREY, metadata=None))
    tag = tifffile.TiffFile(io.BytesIO(bytes(data))).pages[0].tags[259]
    data[tag.valueoffset:tag.valueoffset + 2] = struct.pack("<H", 34661)
    assert error_of(bytes(data)).kind is ImageErrorKind.UNSUPPORTED
    assert "34661" in str(error_of(bytes(data)))


def test_a_tile_that_the_file_leaves_out_is_0() -> None:
    data = bytearray(tiff(GREY, tile=(16, 16), compression="zlib"))
    page = tifffile.TiffFile(io.BytesIO(bytes(data))).pages[0]
    for tag, size in ((page.tags[324], 4), (page.tags[325], tifffile.TIFF.DATA_FORMATS[page.tags[325].dtype][-1])):
        width = size if isinstance(size, int) else {"H": 2, "I": 4}[size]
        data[tag.valueoffset + width:tag.valueoffset + 2 * width] = bytes(width)
    expected = GREY.copy()
    expected[:16, 16:32] = 0
    assert equal_whole_and_by_box(bytes(data), expected)


# pages, levels


def test_pages_alike_are_frames() -> None:
    stack = np.stack([photo(20, 30, 1, seed=seed) for seed in range(5)])
    data = tiff(stack, photometric="minisblack", compression="zlib")
    source = opened(data)
    assert source.frames == 5
    for frame in range(5):
        assert np.array_equal(whole(source, frame=frame)[..., 0], stack[frame])


def test_pages_of_different_sizes_are_unsupported_and_the_page_is_named() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for size in (40, 40, 37):
            writer.write(photo(size, 50, 1), metadata=None)
    error = error_of(buffer.getvalue())
    assert error.kind is ImageErrorKind.UNSUPPORTED
    assert "page 3" in str(error)
    assert "50 x 37 px" in str(error)


def pyramid(how: str) -> bytes:
    """A pyramid of 128, 64 and 32 px, its copies below the page, after it marked, or after it unmarked."""
    buffer = io.BytesIO()
    options = {"tile": (16, 16), "photometric": "rgb", "metadata": None, "compression": "zlib"}
    with tifffile.TiffWriter(buffer) as writer:
        big = photo(128, 160)
        if how == "aperio":
            options["description"] = "Aperio Image Library v11\n128x160|AppMag = 20|MPP = 0.4990"
        writer.write(big, subifds=2 if how == "below" else None, **options)
        options.pop("description", None)
        if how == "aperio":
            writer.write(photo(30, 40), photometric="rgb", metadata=None)  # thumbnail, in strips
        for step in (2, 4):
            writer.write(big[::step, ::step], subfiletype=0 if how in ("unmarked", "aperio") else 1, **options)
        if how == "aperio":
            writer.write(photo(50, 20), photometric="rgb", metadata=None, subfiletype=9)  # macro
    return buffer.getvalue()


@pytest.mark.parametrize("how", ["below", "marked", "unmarked", "aperio"])
def test_smaller_copies_are_levels(how: str) -> None:
    source = opened(pyramid(how))
    assert source.frames == 1
    assert [(level.width_px, level.height_px, level.downsample) for level in source.levels] == [
        (160, 128, 1.0), (80, 64, 2.0), (40, 32, 4.0)]
    for level, step in enumerate((1, 2, 4)):
        assert np.array_equal(whole(source, level=level), photo(128, 160)[::step, ::step])
    assert source.pixel_size_um == (pytest.approx(0.499) if how == "aperio" else None)
    with pytest.raises(ValueError, match="level"):
        source.read(Box(0, 0, 1, 1), level=3)


def test_thumbnails_and_masks_are_left_out() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(GREY, metadata=None)
        writer.write(photo(16, 64), photometric="rgb", subfiletype=1, metadata=None)
        writer.write(GREY, subfiletype=2, metadata=None)
        writer.write(GREY, metadata=None)
    data = bytearray(buffer.getvalue())
    mask = tifffile.TiffFile(io.BytesIO(bytes(data))).pages[2].tags[254]
    data[mask.valueoffset] = 4
    source = opened(bytes(data))
    assert (source.frames, len(source.levels)) == (2, 1)


def test_a_stack_behind_a_single_directory_is_read_as_imagej_does() -> None:
    stack = np.stack([photo(20, 30, 1, seed=seed) for seed in range(4)])
    data = bytearray(tiff(stack, imagej=True))
    first = tifffile.TiffFile(io.BytesIO(bytes(data))).pages[0]
    at = first.offset + 2 + 12 * len(first.tags)
    data[at:at + 4] = bytes(4)  # no page after the first
    source = opened(bytes(data))
    assert source.frames == 4
    for frame in range(4):
        assert np.array_equal(whole(source, frame=frame)[..., 0], stack[frame])
    assert kind_of(bytes(data).replace(b"images=4", b"images=9")) is ImageErrorKind.CORRUPT


@pytest.mark.parametrize(("options", "expected"), [
    ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm"}}, 0.25),
    ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 650, "PhysicalSizeXUnit": "nm"}}, 0.65),
    ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": -1.0}}, None),
    ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um"}}, 0.25),
    ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "inch"}}, None),
    ({"resolution": (300, 300), "resolutionunit": "INCH"}, None)])
def test_the_size_of_a_px_is_known_only_where_the_file_says_microscope(options: dict[str, object],
                                                                      expected: float | None) -> None:
    assert opened(tiff(GREY, **options)).pixel_size_um == (pytest.approx(expected) if expected else None)
