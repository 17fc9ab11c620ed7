"""What labels say to ignore is not learnt as ground by a detector: it sees those px black."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from segsvc.card import ClassNode, Detection, ModelCard, Normalisation, Task
from segsvc.imaging import masks
from segsvc.readers import ReadLimits
from segsvc.training.augment import Domain, Variation
from segsvc.training.instance import InstanceLesson, ObjectCrop
from segsvc.training.pictures import Pictures
from segsvc.truth import read_dataset
from tests.training import sets

CARD = ModelCard(
    name="hidden", family="mask_rcnn", task=Task.INSTANCE, arch="fpn", encoder="tf_efficientnet_lite0",
    detection=Detection(), classes=tuple(ClassNode(name=name) for name in sets.CLASSES), weights_sha256="0" * 64,
    licence="Apache-2.0", normalisation=Normalisation(mean=(0.0,) * 3, std=(1.0,) * 3))


def crops(folder: Path) -> list[ObjectCrop]:
    """The first crops of a set, drawn alike whatever is ignored."""
    dataset, limits = read_dataset(str(folder)), ReadLimits(decode_bytes=1 << 24)
    lesson = InstanceLesson(dataset, dataset.images, (), card=CARD, variation=Variation(Domain.DOCUMENT), crop_px=64,
                            pictures=Pictures(channels=3, normalisation=CARD.normalisation, limits=limits), limits=limits)
    return [lesson.sample(number % lesson.size, np.random.default_rng(number)) for number in range(4)]


def test_px_to_ignore_are_black_and_objects_in_them_are_not(tmp_path: Path) -> None:
    plain = crops(sets.coco(tmp_path / "plain", train=2))
    place = sets.coco(tmp_path / "hidden", train=2) / "train" / "annotations.json"
    document = json.loads(place.read_bytes())
    everything = {"size": [64, 64], "counts": masks.encode(np.ones((64, 64), np.bool_)).decode()}
    document["annotations"] += [{"id": 100 + image["id"], "image_id": image["id"], "category_id": 1, "iscrowd": 1,
                                 "bbox": [0, 0, 64, 64], "segmentation": everything} for image in document["images"]]
    place.write_text(json.dumps(document))
    for shown, hidden in zip(plain, crops(tmp_path / "hidden"), strict=True):
        assert np.array_equal(shown.boxes, hidden.boxes)
        assert np.array_equal(shown.masks, hidden.masks)
        assert hidden.pixels.mean() < 0.7 * shown.pixels.mean()
        if len(shown.masks):
            inside = shown.masks.any(axis=0)
            assert hidden.pixels[:, inside].mean() > 0.8 * shown.pixels[:, inside].mean()
