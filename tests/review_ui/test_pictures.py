"""Crops of images: any part at any scale, in the right place, and nothing of a file but its px."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
import tifffile

from review_ui.picture_cache import PictureCache
from review_ui.pictures import Pictures, Region, RegionError
from segsvc.errors import ImageError, ImageErrorKind
from segsvc.imaging.overlay import to_display
from segsvc.readers import ReadLimits
from segsvc.stores import store_of
from segsvc.types import Box, ImageRef

Rgb = npt.NDArray[np.uint8]


def scene(height: int = 300, width: int = 700, seed: int = 0) -> Rgb:
    """A generated picture that is smooth enough for JPEG to keep."""
    coarse = np.random.default_rng(seed).random((height // 60 + 2, width // 60 + 2, 3), np.float32) * 255
    return np.clip(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def written(path: Path, pixels: npt.NDArray[np.generic]) -> ImageRef:
    if path.suffix == ".png":
        ok, data = cv2.imencode(".png", pixels[:, :, ::-1])
        assert ok
        path.write_bytes(data.tobytes())
    return reference(path)


def reference(path: Path) -> ImageRef:
    return store_of(str(path)).find(str(path))


def pictures(folder: Path, limit_bytes: int = 10**8, decode_bytes: int = 10**8) -> Pictures:
    return Pictures(PictureCache(folder, limit_bytes=limit_bytes), ReadLimits(decode_bytes=decode_bytes))


def decoded(jpeg: bytes) -> Rgb:
    return simplejpeg.decode_jpeg(jpeg, colorspace="RGB")


def difference(found: Rgb, expected: Rgb) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found.astype(int) - expected).mean())


def test_a_crop_at_full_size_shows_the_very_px(tmp_path: Path) -> None:
    pixels = scene()
    ref = written(tmp_path / "a.png", pixels)
    found = decoded(pictures(tmp_path / "kept").crop(ref, Region(Box(37, 11, 437, 211), 400)))
    assert difference(found, pixels[11:211, 37:437]) < 2


@pytest.mark.parametrize("width", [50, 99, 175, 300, 699])
def test_a_smaller_crop_is_in_the_right_place(tmp_path: Path, width: int) -> None:
    pixels = scene()
    box = Box(1, 3, 700, 297)
    found = decoded(pictures(tmp_path / "kept").crop(written(tmp_path / "a.png", pixels), Region(box, width)))
    expected = cv2.resize(pixels[box.y0:box.y1, box.x0:box.x1], found.shape[1::-1], interpolation=cv2.INTER_AREA)
    shifted = np.roll(expected, 1, axis=1)
    assert found.shape[1] == width
    assert difference(found, expected) < 4
    assert difference(found, expected) < difference(found, shifted) / 2


def test_a_larger_crop_is_in_the_right_place(tmp_path: Path) -> None:
    pixels = scene()
    found = decoded(pictures(tmp_path / "kept").crop(written(tmp_path / "a.png", pixels), Region(Box(10, 20, 42, 36), 640)))
    assert found.shape == (320, 640, 3)
    assert difference(found[10::20, 10::20], pixels[20:36, 10:42]) < 4


def test_a_single_px_and_the_whole_image_can_be_asked_for(tmp_path: Path) -> None:
    shown = pictures(tmp_path / "kept")
    ref = written(tmp_path / "a.png", scene())
    assert decoded(shown.crop(ref, Region(Box(699, 299, 700, 300), 1))).shape == (1, 1, 3)
    assert decoded(shown.crop(ref, Region(Box(0, 0, 700, 300), 350))).shape == (150, 350, 3)


def test_an_image_is_decoded_once_and_then_seen_without_its_file(tmp_path: Path) -> None:
    ref = written(tmp_path / "a.png", scene())
    region = Region(Box(0, 0, 200, 100), 200)
    first = pictures(tmp_path / "kept").crop(ref, region)
    (tmp_path / "a.png").unlink()
    assert pictures(tmp_path / "kept").crop(ref, region) == first  # another process, the same folder


def test_a_tiled_tiff_is_read_by_ranges_and_not_kept(tmp_path: Path) -> None:
    pixels = scene(1000, 1200)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(256, 256), compression="deflate", photometric="rgb")
    shown = pictures(tmp_path / "kept", decode_bytes=1_000_000)  # the whole of it would take 3.6 MB
    found = decoded(shown.crop(reference(tmp_path / "a.tif"), Region(Box(500, 400, 800, 600), 300)))
    assert difference(found, pixels[400:600, 500:800]) < 2
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_tiff_in_one_strip_becomes_a_pyramid(tmp_path: Path) -> None:
    pixels = scene()
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression="deflate", rowsperstrip=300, photometric="rgb")
    found = decoded(pictures(tmp_path / "kept").crop(reference(tmp_path / "a.tif"), Region(Box(0, 0, 300, 200), 300)))
    assert difference(found, pixels[:200, :300]) < 2
    assert len(list((tmp_path / "kept").iterdir())) == 1


@pytest.mark.parametrize("tile", [None, (64, 64)])
def test_16_bit_is_stretched_the_same_everywhere(tmp_path: Path, tile: tuple[int, int] | None) -> None:
    dark = (scene()[:, :, :1].astype(np.uint16) + 1000)
    dark[:, 350:] += 300  # brighter on the right
    tifffile.imwrite(tmp_path / "a.tif", dark[:, :, 0], tile=tile, compression="deflate", rowsperstrip=None if tile else 300)
    shown = pictures(tmp_path / "kept")
    halves = [decoded(shown.crop(reference(tmp_path / "a.tif"), Region(Box(x, 0, x + 350, 300), 350))) for x in (0, 350)]
    assert difference(np.hstack(halves), to_display(dark)) < 2.5


def test_every_frame_of_a_stack_is_its_own_picture(tmp_path: Path) -> None:
    frames = np.stack([np.full((80, 90), value, np.uint8) for value in (10, 120, 240)])
    tifffile.imwrite(tmp_path / "a.tif", frames, compression="deflate", photometric="minisblack")
    shown = pictures(tmp_path / "kept")
    ref = reference(tmp_path / "a.tif")
    means = [decoded(shown.crop(ref, Region(Box(0, 0, 90, 80), 90, frame))).mean() for frame in (2, 0, 1)]
    assert np.round(means).tolist() == [240, 10, 120]
    with pytest.raises(RegionError, match="frame from 0 to 2, got 3"):
        shown.crop(ref, Region(Box(0, 0, 90, 80), 90, 3))


def test_a_photo_is_shown_upright(tmp_path: Path) -> None:
    pixels = scene(64, 128)
    jpeg = simplejpeg.encode_jpeg(pixels, quality=95, colorspace="RGB", colorsubsampling="444")
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0)
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    found = decoded(pictures(tmp_path / "kept").crop(reference(tmp_path / "a.jpg"), Region(Box(0, 0, 64, 128), 64)))
    assert difference(found, np.rot90(pixels, -1)) < 3


def test_nothing_of_a_file_but_its_px_comes_out(tmp_path: Path) -> None:
    script = b"<script>alert(1)</script>"
    jpeg = simplejpeg.encode_jpeg(scene(64, 64), quality=95, colorspace="RGB", colorsubsampling="444")
    comment = b"\xff\xfe" + struct.pack(">H", len(script) + 2) + script
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + comment + jpeg[2:] + script)
    found = pictures(tmp_path / "kept").crop(reference(tmp_path / "a.jpg"), Region(Box(0, 0, 64, 64), 64))
    assert found.startswith(b"\xff\xd8\xff") and script not in found
    assert all(script not in kept.read_bytes() for kept in (tmp_path / "kept").iterdir())


def test_an_image_that_is_gone_or_another_now_says_so(tmp_path: Path) -> None:
    ref = written(tmp_path / "a.png", scene())
    region = Region(Box(0, 0, 10, 10), 10)
    (tmp_path / "a.png").write_bytes(b"something else")
    with pytest.raises(ImageError) as changed:
        pictures(tmp_path / "kept").crop(ref, region)
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError) as gone:
        pictures(tmp_path / "kept").crop(ref, region)
    assert (changed.value.kind, gone.value.kind) == (ImageErrorKind.CHANGED, ImageErrorKind.MISSING)


def test_an_image_that_claims_to_be_vast_is_not_decoded(tmp_path: Path) -> None:
    ref = written(tmp_path / "a.png", scene())
    with pytest.raises(ImageError) as refused:
        pictures(tmp_path / "kept", decode_bytes=100_000).crop(ref, Region(Box(0, 0, 10, 10), 10))
    assert refused.value.kind is ImageErrorKind.TOO_LARGE
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_region_outside_and_one_that_is_too_large_say_what_can_be() -> None:
    with pytest.raises(RegionError, match=r"0, 0 to 700, 300, got 0, 0 to 701, 300"):
        Region(Box(0, 0, 701, 300), 100).check_within(width_px=700, height_px=300, frames=1)
    with pytest.raises(RegionError, match="1 to 4096 px a side, got 1000000000"):
        Region(Box(0, 0, 10, 10), 10**9)
    with pytest.raises(RegionError, match="1 to 4096 px a side, got 100 x 100000"):
        Region(Box(0, 0, 1, 1000), 100)
    with pytest.raises(RegionError, match="at least 1 x 1 px, got 0 x 5"):
        Region(Box(3, 0, 3, 5), 10)


def test_what_was_damaged_on_the_disk_is_made_anew(tmp_path: Path) -> None:
    ref = written(tmp_path / "a.png", scene())
    region = Region(Box(0, 0, 200, 100), 200)
    first = pictures(tmp_path / "kept").crop(ref, region)
    kept, = (tmp_path / "kept").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    assert pictures(tmp_path / "kept").crop(ref, region) == first


def test_without_room_for_its_pyramid_an_image_is_seen_all_the_same(tmp_path: Path) -> None:
    ref = written(tmp_path / "a.png", scene())
    found = decoded(pictures(tmp_path / "kept", limit_bytes=10).crop(ref, Region(Box(0, 0, 200, 100), 200)))
    assert difference(found, scene()[:100, :200]) < 2
    assert list((tmp_path / "kept").iterdir()) == []


def test_many_who_ask_at_once_get_the_same_bytes(tmp_path: Path) -> None:
    refs = [written(tmp_path / f"{seed}.png", scene(seed=seed)) for seed in range(12)]
    shown = pictures(tmp_path / "kept", limit_bytes=400_000)  # some are evicted meanwhile
    region = Region(Box(5, 5, 305, 205), 300)
    expected = [pictures(tmp_path / "alone").crop(ref, region) for ref in refs]
    found: list[bool] = []

    def ask(seed: int) -> None:
        for place in np.random.default_rng(seed).permutation(12).tolist():
            found.append(shown.crop(refs[place], region) == expected[place])

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 72
