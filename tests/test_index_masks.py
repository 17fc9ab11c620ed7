"""The values of masks are those that are stored, however an image format would show them."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from segsvc.errors import ImageError, ImageErrorKind
from segsvc.index_masks import read_index_mask
from segsvc.readers import ReadLimits
from segsvc.stores import store_of
from tests.readers.support import png


def read(path: Path) -> npt.NDArray[np.generic]:
    return read_index_mask(store_of("file://").find(str(path)), ReadLimits())


def values(highest: int, *, dtype: type[np.generic] = np.uint8) -> npt.NDArray[np.generic]:
    """(5, 7): random values up to `highest`."""
    return np.random.default_rng(highest).integers(0, highest + 1, (5, 7)).astype(dtype)


@pytest.mark.parametrize("grey_palette", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_png_gives_its_indices_whatever_its_colours(tmp_path: Path, bits: int, grey_palette: bool) -> None:
    indices = values((1 << bits) - 1)
    image = Image.fromarray(indices).convert("P")
    image.putdata(indices.ravel().tolist())
    colours = np.random.default_rng(3).integers(0, 256, (256, 1 if grey_palette else 3), np.uint8)
    image.putpalette(np.repeat(colours, 3 // colours.shape[1], axis=1).tobytes())
    image.save(tmp_path / "a.png", bits=bits, transparency=0)
    assert np.array_equal(read(tmp_path / "a.png"), indices)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_grey_png_of_any_depth_gives_its_samples(tmp_path: Path, depth: int, interlaced: bool) -> None:
    data = png(9, 6, depth=depth, colour=0, interlaced=interlaced)
    (tmp_path / "a.png").write_bytes(data)
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    factor = 255 // ((1 << depth) - 1) if depth < 8 else 1
    assert np.array_equal(read(tmp_path / "a.png"), shown // factor)


def test_sixteen_bits_and_other_formats_give_their_values(tmp_path: Path) -> None:
    many = values(60_000, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", many)
    assert np.array_equal(read(tmp_path / "a.tif"), many)
    cv2.imwrite(str(tmp_path / "a.bmp"), values(255))
    assert np.array_equal(read(tmp_path / "a.bmp"), values(255))


def test_colours_numbers_with_a_point_and_several_frames_are_no_mask(tmp_path: Path) -> None:
    colour = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(colour, "PNG")
    (tmp_path / "rgb.png").write_bytes(colour.getvalue())
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((4, 4), np.float32))
    tifffile.imwrite(tmp_path / "frames.tif", np.zeros((3, 4, 4), np.uint8), photometric="minisblack")
    for name, came in (("rgb.png", "3 channels of uint8"), ("float.tif", "float32"), ("frames.tif", "frames: 3")):
        with pytest.raises(ImageError, match=f"expected a mask of one frame.*{came}") as caught:
            read(tmp_path / name)
        assert caught.value.kind is ImageErrorKind.UNSUPPORTED


@pytest.mark.parametrize("colour", [0, 3])
def test_a_png_cut_anywhere_is_an_image_error(tmp_path: Path, colour: int) -> None:
    palette = Image.fromarray(values(3)).convert("P" if colour == 3 else "L")
    palette.save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    for cut in range(0, len(data), 5):
        (tmp_path / "a.png").write_bytes(data[:cut])
        with pytest.raises(ImageError):
            read(tmp_path / "a.png")
