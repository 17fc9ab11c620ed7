"""Mask R-CNN: built as torchvision builds it, computed as torchvision computes it, by PyTorch and by OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import detection as torchvision_detection
from torchvision.models.detection import MaskRCNN

from segsvc.card import Detection, FeatureNorm, ModelCard, Task
from segsvc.errors import ConfigError
from segsvc.models import openvino_detector
from segsvc.models.detector import Detector
from segsvc.models.library import read_model
from segsvc.models.mask_rcnn import PLUGIN
from segsvc.models.openvino_runtime import keep, kept_folder
from segsvc.models.runtime import Detected, Predictor, choose_runtime
from segsvc.settings import RuntimeChoice
from segsvc.types import SCORE_ONE, Runtime
from tests.conftest import write_model
from tests.detectors import TINY, detector_card, random_network, write_detector
from tests.networks import textured

pytestmark = pytest.mark.usefixtures("in_process")
RESNETS = ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2")


def resnet_card(arch: str, **detection: Any) -> ModelCard:
    return detector_card(arch=arch, encoder=None, detection=Detection(**detection))


def model_input(seed: int, *, width_px: int, height_px: int, channels: int = 3) -> torch.Tensor:
    image = textured(seed, width_px=width_px, height_px=height_px)[:, :, :channels]
    return torch.from_numpy(np.moveaxis(image, 2, 0)[None] / np.float32(60) - 2)


# -- building ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", RESNETS)
def test_the_state_dict_of_a_resnet_has_torchvisions_names_and_shapes(arch: str) -> None:
    with torch.device("meta"):
        ours = PLUGIN.build(resnet_card(arch))
        theirs = getattr(torchvision_detection, arch)(weights=None, weights_backbone=None, num_classes=3)
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()}


@pytest.mark.parametrize("arch", RESNETS)
def test_anchors_of_ones_own_change_the_region_proposal_head(arch: str) -> None:
    with torch.device("meta"):
        network = PLUGIN.build(resnet_card(arch, anchor_sizes_px=((8, 12), (16, 24), (32, 48), (64, 96), (128, 192)),
                                           anchor_ratios=(1.0,)))
    assert network.rpn.anchor_generator.sizes[1] == (16, 24)
    assert network.rpn.head.cls_logits.out_channels == 2
    assert network.rpn.anchor_generator.cell_anchors[0].device.type == "cpu"


def test_frozen_norms_have_no_count_of_batches_and_the_eps_that_was_asked_for() -> None:
    with torch.device("meta"):
        network = PLUGIN.build(resnet_card(RESNETS[0], frozen_norms=True, norm_eps=0.0))
    assert not any(name.endswith("num_batches_tracked") for name in network.state_dict())
    assert network.backbone.body.bn1.eps == 0.0


def test_a_pyramid_on_timm_has_the_widths_strides_and_norms_of_the_card() -> None:
    detection = TINY.model_copy(update={
        "strides": (2, 4, 8), "pooled_level": False, "norm": FeatureNorm.GROUP, "box_convs": (24,), "rpn_convs": 2})
    network = PLUGIN.build(detector_card(detection=detection, channels=1, encoder="tf_efficientnet_lite0"))
    levels = network.backbone(torch.zeros(1, 1, 64, 96))
    assert [tuple(level.shape) for level in levels.values()] == [
        (1, 16, 32, 48), (1, 16, 16, 24), (1, 16, 8, 12)]
    assert len(network.rpn.head.conv) == 2
    assert any(isinstance(module, torch.nn.GroupNorm) for module in network.roi_heads.box_head.modules())
    assert network.roi_heads.mask_predictor.mask_fcn_logits.out_channels == 3


@pytest.mark.parametrize(("card", "said"), [
    (detector_card(arch="yolo"), "mask_rcnn has no arch 'yolo'. Known: maskrcnn_resnet50_fpn, "),
    (detector_card(encoder="test_resnt"), "expected an encoder of timm, got 'test_resnt'. Known: test_resnet"),
    (detector_card(encoder="hf-hub:timm/resnet18"), "expected an encoder of timm, got 'hf-hub:timm/resnet18'"),
    (detector_card(encoder=None), "expected an encoder of timm, got None. Known: resnet50, efficientnet_b0, "),
    (detector_card(encoder="convnext_atto", detection=TINY.model_copy(update={"strides": (2, 4)})),
     "convnext_atto has features of the strides [4, 8, 16, 32], detection.strides names 2"),
    (resnet_card(RESNETS[0], channels=96), "maskrcnn_resnet50_fpn has no setting detection.channels: leave it out"),
    (resnet_card(RESNETS[1], frozen_norms=True), "maskrcnn_resnet50_fpn_v2 has no setting detection.frozen_norms"),
    (detector_card(detection=TINY.model_copy(update={"norm_eps": 0.0})), "fpn has no setting detection.norm_eps"),
    (resnet_card(RESNETS[0]).model_copy(update={"channels": 1}), "takes 3 channels, the card says 1"),
    (resnet_card(RESNETS[0], strides=(4, 8, 16), anchor_sizes_px=((8,),) * 4), "has no setting detection.strides"),
])
def test_a_card_that_cannot_be_built_is_refused_with_what_is_wrong(card: ModelCard, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PLUGIN.build(card)
    assert said in str(caught.value)


def test_weights_of_other_shapes_are_refused_with_which_expected_and_got(tmp_path: Path) -> None:
    model = write_detector(tmp_path, detector_card())
    wider = model.card.model_copy(update={"detection": TINY.model_copy(update={"box_layers": (48,)})})
    (model.folder / "card.json").write_text(wider.to_json())
    with pytest.raises(ConfigError, match=r"tensors do not fit fpn: .*expected \(48,\), got \(32,\)"):
        Predictor(read_model(model.folder), Runtime.TORCH_CPU, threads=1)


# -- learning ----------------------------------------------------------------------------------------------------------


def target(boxes: list[list[float]], *, width_px: int, height_px: int) -> dict[str, torch.Tensor]:
    masks = torch.zeros(len(boxes), height_px, width_px, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[int(y0): int(y1), int(x0): int(x1)] = 1
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.ones(len(boxes), dtype=torch.int64), "masks": masks}


@pytest.mark.parametrize("scale", [1.0, 2.0, None])
def test_called_with_targets_it_answers_with_losses_that_reach_every_part(scale: float | None) -> None:
    detection = TINY.model_copy(update={"scale": scale, "min_side_px": 96, "max_side_px": 200})
    network = random_network(detector_card(detection=detection)).train()
    images = [model_input(seed, width_px=80, height_px=64)[0] for seed in (1, 2)]
    targets = [target([[10, 10, 30, 30], [40, 20, 70, 50]], width_px=80, height_px=64),
               target([], width_px=80, height_px=64)]
    losses = network(images, targets)
    sum(losses.values()).backward()
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"}
    assert all(torch.isfinite(loss) for loss in losses.values())
    for part in (network.backbone.body, network.backbone.fpn, network.rpn.head, network.roi_heads.box_predictor,
                 network.roi_heads.mask_predictor):
        assert any(float(each.grad.abs().max()) > 0 for each in part.parameters() if each.grad is not None)


def test_targets_are_scaled_with_their_images() -> None:
    network = random_network(detector_card(detection=TINY.model_copy(update={"scale": 2.0})))
    given = target([[10, 10, 30, 30]], width_px=80, height_px=64)
    images, [changed] = network.transform([torch.zeros(3, 64, 80)], [given])
    assert images.image_sizes == [(128, 160)]
    assert changed["boxes"].tolist() == [[20, 20, 60, 60]]
    assert changed["masks"].shape == (1, 128, 160)
    assert int(changed["masks"].sum()) == 1600
    assert given["boxes"].tolist() == [[10, 10, 30, 30]]


# -- finding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", RESNETS)
def test_a_whole_image_gives_what_torchvision_gives_on_it(arch: str) -> None:
    card = resnet_card(arch, min_side_px=64, max_side_px=100, most=30, proposals=200)
    network = random_network(card)
    theirs = getattr(torchvision_detection, arch)(
        weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=100, box_detections_per_img=30,
        rpn_post_nms_top_n_test=200, image_mean=list(card.normalisation.mean), image_std=list(card.normalisation.std)).eval()
    theirs.load_state_dict(network.state_dict())
    image = torch.from_numpy(np.moveaxis(textured(4, width_px=150, height_px=110), 2, 0) / np.float32(255))
    mean, std = (torch.tensor(values)[:, None, None] for values in (card.normalisation.mean, card.normalisation.std))
    with torch.inference_mode():
        found = Detector(network, card).detect(((image - mean) / std)[None])
        [wanted] = theirs([image])
    assert len(found) == len(wanted["scores"]) > 5
    assert np.array_equal(found.labels, wanted["labels"].numpy() - 1)
    assert np.abs(found.boxes - wanted["boxes"].numpy()).max() < 1e-3
    assert np.abs(found.scores / SCORE_ONE - wanted["scores"].numpy()).max() < 2e-5


@pytest.mark.parametrize(("scale", "channels"), [(1.0, 3), (2.0, 1), (None, 3)])
def test_a_tile_of_any_size_gives_what_the_module_itself_gives(scale: float | None, channels: int) -> None:
    detection = TINY.model_copy(update={"scale": scale, "min_side_px": 90, "max_side_px": 150})
    card = detector_card(detection=detection, channels=channels)
    network = random_network(card)
    for width_px, height_px in ((70, 90), (33, 128)):
        pixels = model_input(2, width_px=width_px, height_px=height_px, channels=channels)
        with torch.inference_mode():
            found = Detector(network, card).detect(pixels)
            [wanted] = network([pixels[0]])
        assert len(found) == len(wanted["scores"]) > 3
        assert np.abs(found.boxes - wanted["boxes"].numpy()).max() < 1e-4
        assert np.array_equal(found.labels, wanted["labels"].numpy() - 1)
        assert list(found.scores) == sorted(found.scores, reverse=True)
        assert found.masks.shape == (len(found), 14, 14)
        assert found.masks.min() >= 0 <= found.masks.max() <= 1


def test_what_is_found_in_a_tile_does_not_depend_on_the_tiles_before_it() -> None:
    card = detector_card()
    pixels = model_input(6, width_px=96, height_px=96)
    fresh, used = Detector(random_network(card), card), Detector(random_network(card), card)
    with torch.inference_mode():
        used.detect(model_input(7, width_px=128, height_px=1))
        used.detect(model_input(7, width_px=1, height_px=1))
        wanted, found = fresh.detect(pixels), used.detect(pixels)
    assert len(wanted) > 3
    assert np.array_equal(found.boxes, wanted.boxes)
    assert np.array_equal(found.masks, wanted.masks)


def test_up_to_a_thousand_objects_are_found_in_a_tile() -> None:
    detection = TINY.model_copy(update={"most": 1000, "nms_iou": 1.0, "proposal_nms_iou": 1.0, "proposals": 1000,
                                        "proposals_per_level": 1000, "score_min": 0.0})
    card = detector_card(detection=detection)
    with torch.inference_mode():
        found = Detector(random_network(card), card).detect(model_input(1, width_px=128, height_px=128))
    assert len(found) == 1000
    assert found.masks.shape == (1000, 14, 14)


def test_no_proposal_and_no_detection_are_an_answer_with_nothing_in_it() -> None:
    for settings in ({"proposal_score_min": 1.0}, {"score_min": 1.0}):
        card = detector_card(detection=TINY.model_copy(update=settings))
        with torch.inference_mode():
            found = Detector(random_network(card), card).detect(model_input(1, width_px=64, height_px=64))
        assert len(found) == 0
        assert found.masks.shape == (0, 14, 14)


def test_a_network_that_is_no_mask_r_cnn_is_refused_for_the_task_instance(tmp_path: Path) -> None:
    card = write_model(tmp_path).model_copy(update={"task": Task.INSTANCE, "detection": TINY})
    (tmp_path / "bright" / "card.json").write_text(card.to_json())
    with pytest.raises(ConfigError, match="expected a family that builds a MaskRCNN for the task instance"):
        Predictor(read_model(tmp_path / "bright"), Runtime.TORCH_CPU, threads=1)


# -- runtimes ----------------------------------------------------------------------------------------------------------


def answers(predictor: Predictor, tiles: list[torch.Tensor]) -> list[Detected]:
    try:
        pending = [predictor.submit(tile.numpy()) for tile in tiles]
        found = [each.result() for each in pending]
    finally:
        predictor.close()
    assert all(isinstance(each, Detected) for each in found)
    return [each for each in found if isinstance(each, Detected)]


def test_openvino_finds_what_pytorch_finds_and_neither_depends_on_the_number_of_threads(tmp_path: Path) -> None:
    model = write_detector(tmp_path, detector_card())
    assert choose_runtime(model, RuntimeChoice.OPENVINO).runtime is Runtime.OPENVINO
    tiles = [model_input(seed, width_px=128, height_px=96) for seed in range(4)]
    by = {(runtime, threads): answers(Predictor(model, runtime, threads=threads), tiles)
          for runtime in (Runtime.TORCH_CPU, Runtime.OPENVINO) for threads in (1, 2)}
    for runtime in (Runtime.TORCH_CPU, Runtime.OPENVINO):
        for one, two in zip(by[runtime, 1], by[runtime, 2], strict=True):
            assert np.array_equal(one.detections.boxes, two.detections.boxes)
            assert np.array_equal(one.detections.masks, two.detections.masks)
            assert np.array_equal(one.detections.scores, two.detections.scores)
    for torch_said, openvino_said in zip(by[Runtime.TORCH_CPU, 1], by[Runtime.OPENVINO, 1], strict=True):
        assert len(torch_said.detections) > 3
        assert np.abs(torch_said.detections.boxes - openvino_said.detections.boxes).max() < 0.01
        assert np.abs(torch_said.detections.masks - openvino_said.detections.masks).max() < 1e-3
        assert np.array_equal(torch_said.detections.labels, openvino_said.detections.labels)


def test_a_part_that_differs_after_conversion_is_refused_and_pytorch_computes_the_model(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_detector(tmp_path, detector_card(), seed=1)
    monkeypatch.setattr(openvino_detector, "_TOLERANCE", -1.0)
    chosen = choose_runtime(model, RuntimeChoice.AUTO)
    assert chosen.runtime is Runtime.TORCH_CPU
    assert chosen.fallback_reason is not None
    assert "differ from PyTorch's" in chosen.fallback_reason
    with pytest.raises(ConfigError, match=r"Use --runtime torch-cpu"):
        choose_runtime(model, RuntimeChoice.OPENVINO)


def test_a_kept_part_that_was_changed_is_not_used(tmp_path: Path) -> None:
    model = write_detector(tmp_path, detector_card(), seed=2)
    assert keep(model) is None
    part = kept_folder(model.card) / "model.boxes.bin"
    part.write_bytes(part.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(ConfigError, match="its kept conversion was changed"):
        Predictor(model, Runtime.OPENVINO, threads=1)


def test_what_the_family_builds_is_torchvisions_own_module() -> None:
    assert type(PLUGIN.build(detector_card())) is MaskRCNN
