"""Models of others that are known to work here: where their weights are, what bytes they must be, and whose they are.

One entry of `CATALOGUE` is one file with weights and what an import is to be told of it; `pulling` makes a model of it.
A digest stands here only where it was seen at its publisher's, or the same at several who had the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from segsvc.card import Task
from segsvc.errors import ConfigError

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PEOPLE = "Decisions about people"


@dataclass(frozen=True, slots=True)
class WebFile:
    """A file at a public address."""

    url: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]

    @property
    def publisher(self) -> str:
        return self.url.split("/")[2]

    @property
    def origin(self) -> str:
        return self.url


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository of the Hugging Face hub. revision: a commit, which never changes, or a branch."""

    repository: str
    revision: str
    name: str = "model.safetensors"

    @property
    def url(self) -> str:
        return f"https://huggingface.co/{self.repository}/resolve/{self.revision}/{self.name}"

    @property
    def publisher(self) -> str:
        return f"hub {self.repository}"

    @property
    def origin(self) -> str:
        return f"{self.name} of {self.repository}, Hugging Face hub, revision {self.revision}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A file with weights, and what is to be known to make a model's folder of it.

    sha256 and size_bytes: None where nobody has said them; then what comes is taken for it, and said so. names: gives the
    names of the outputs; None where the importer knows them. arch, encoder, options and tile_px are as for an import.
    """

    name: str
    what: str
    task: Task
    n_classes: int
    file: WebFile | HubFile
    sha256: str | None
    size_bytes: int | None
    arch: str
    licence: str
    trained_on: str
    not_for: str = _PEOPLE
    encoder: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    names: Callable[[], tuple[str, ...]] | None = None
    tile_px: int | None = None

    def __post_init__(self) -> None:
        if not self.file.url.startswith("https://"):
            raise ConfigError(f"{self.name}: expected an address that begins with https://, got {self.file.url}")
        if self.sha256 is not None:
            check_sha256(self.sha256, self.name)

    def place(self, assets: Path) -> Path:
        """Where the file lies once it was fetched, or is put by hand."""
        return assets / self.name / self.file.name


def check_sha256(digest: str, whose: str) -> None:
    """Raises ConfigError for what is no SHA-256 in hexadecimal digits."""
    if not _SHA256.fullmatch(digest):
        raise ConfigError(f"{whose}: expected a sha256 of 64 digits 0-9a-f, got {digest[:80]!r}")


def _cityscapes() -> tuple[str, ...]:
    from segsvc.exchange.smp import CITYSCAPES

    return CITYSCAPES


def _imagenet() -> tuple[str, ...]:
    from segsvc.packages import imagenet_names

    return imagenet_names()


# what they say in short: torchvision's METADATA on its weights, cocodataset.org/#termsofuse, image-net.org's terms of
# access, NVlabs/SegFormer's README, cityscapes-dataset.com/license
_TORCHVISION = "BSD-3-Clause (torchvision); terms of the data may apply"
_SEGFORMER = "NVIDIA Source Code License for SegFormer: research and evaluation only"
_COCO = "COCO 2017; its annotations are CC-BY-4.0, its photographs under Flickr's terms"
_CITYSCAPES = "Cityscapes, which is for scientific purposes by its terms; before that ImageNet-1k"
_IMAGENET = "ImageNet-1k (ILSVRC 2012), which is for non-commercial research and education by its terms"

CATALOGUE = (
    # both digests: the same at several public projects that hold themselves to them, and they begin as torchvision's own
    # file names do; sizes: the same, and torchvision's _file_size to five digits
    KnownModel(
        name="coco-instances", what="Everyday objects with their masks (Mask R-CNN, ResNet-50 FPN)",
        task=Task.INSTANCE, n_classes=80, arch="maskrcnn_resnet50_fpn",
        file=WebFile("https://download.pytorch.org/models/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"),
        sha256="bf2d0c1efbc936eeee2bc95a48e80ebc86b891f61b0106485937fc29f9315fc0", size_bytes=178_090_079,
        licence=_TORCHVISION, trained_on=_COCO),
    KnownModel(
        name="coco-instances-v2", what="Everyday objects with their masks, better and slower (Mask R-CNN, ResNet-50 FPN v2)",
        task=Task.INSTANCE, n_classes=80, arch="maskrcnn_resnet50_fpn_v2",
        file=WebFile("https://download.pytorch.org/models/maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"),
        sha256="73cbd0190fcbe3ba339921fbce2c3a0b6bb9126c9a133c85e43a2a8e060a109e", size_bytes=185_828_065,
        licence=_TORCHVISION, trained_on=_COCO),
    # options: config.json on the hub; for b2, NVlabs' config of these weights, which makes a file of 109 MB, as the hub's is
    KnownModel(
        name="streets-b0", what="Streets as seen from a car (SegFormer B0)",
        task=Task.SEMANTIC, n_classes=19, arch="segformer", encoder="mit_b0",
        options={"decoder_segmentation_channels": 256}, names=_cityscapes, tile_px=768,
        file=HubFile("smp-hub/segformer-b0-768x768-city-160k", "main"), sha256=None, size_bytes=None,
        licence=_SEGFORMER, trained_on=_CITYSCAPES, not_for=f"{_PEOPLE}; driving"),
    KnownModel(
        name="streets-b2", what="Streets as seen from a car (SegFormer B2)",
        task=Task.SEMANTIC, n_classes=19, arch="segformer", encoder="mit_b2",
        options={"decoder_segmentation_channels": 768}, names=_cityscapes, tile_px=1024,
        file=HubFile("smp-hub/segformer-b2-1024x1024-city-160k", "main"), sha256=None, size_bytes=None,
        licence=_SEGFORMER, trained_on=_CITYSCAPES, not_for=f"{_PEOPLE}; driving"),
    # digest: huggingface.co/timm/resnet50.a1_in1k/blob/5d9e13b8fdab4d9718bcf2c8f5c3af01878367e8/model.safetensors, and the
    # same with size and revision at several public projects that hold themselves to them
    KnownModel(
        name="imagenet-resnet50", what="What a photograph shows, as one of 1,000 classes (ResNet-50)",
        task=Task.CLASSIFICATION, n_classes=1000, arch="resnet50.a1_in1k", names=_imagenet,
        file=HubFile("timm/resnet50.a1_in1k", "767268603ca0cb0bfe326fa87277f19c419566ef"),
        sha256="773525d5821de224f8f30c33377b7a795d7863e08522698200d3217d3f2a41bb", size_bytes=102_469_840,
        licence="Apache-2.0", trained_on=_IMAGENET),
    # digest, size and revision: the same at several public projects that hold themselves to them
    KnownModel(
        name="imagenet-convnext-tiny", what="What a photograph shows, as one of 1,000 classes (ConvNeXt-T)",
        task=Task.CLASSIFICATION, n_classes=1000, arch="convnext_tiny.in12k_ft_in1k", names=_imagenet,
        file=HubFile("timm/convnext_tiny.in12k_ft_in1k", "aa096f03029c7f0ec052013f64c819b34f8ad790"),
        sha256="a1aefa409b513cf209b085424eb3efffe4e4a9f511491bc2c12ea35209e6bb95", size_bytes=114_374_272,
        licence="Apache-2.0", trained_on=f"ImageNet-12k, then {_IMAGENET}"),
)
