"""Models of other libraries become models' folders that answer as they did."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import torch
from torchvision.models import detection

from segsvc.card import Activation, ClassNode, ModelCard, Task
from segsvc.errors import ConfigError
from segsvc.exchange.comparison import TOLERANCE, Differs, compare
from segsvc.exchange.importing import Imported, import_model
from segsvc.exchange.request import Draft, ImportRequest, SourceKind
from segsvc.models.library import read_model
from segsvc.models.scored import build_scored
from tests.exchange.foreign import ENCODER, classifier, saved, smp_folder, timm_folder, unet
from tests.exchange.graphs import flat

DECODER = {"decoder_channels": [16, 16, 8, 8, 8]}


def imported(source: Path | str, out: Path, **said: Any) -> Imported:
    done = import_model(ImportRequest(source=str(source), name=said.pop("name", out.name), **said), out, lambda text: None)
    assert done.comparison.worst <= TOLERANCE
    assert done.model.folder == out.resolve()
    return done


def names(*classes: str) -> tuple[ClassNode, ...]:
    return tuple(ClassNode(name=name) for name in classes)


def scores(model_folder: Path, pixels: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        answer: torch.Tensor = build_scored(read_model(model_folder))(pixels) / 65535
    return answer


def test_a_tree_of_classes_is_kept_whatever_the_source_is(tmp_path: Path) -> None:
    tree = tuple(ClassNode(name=name, parent=parent) for name, parent in (("a", "b"), ("b", "c"), ("c", None), ("d", "c")))
    (tmp_path / "flat.onnx").write_bytes(flat().SerializeToString())
    plain = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    for source, said in (
            (smp_folder(tmp_path / "smp", classes=4), {}), (timm_folder(tmp_path / "timm"), {}),
            (saved(unet(classes=4).state_dict(), tmp_path / "a.pth"), {"arch": "unet", "encoder": ENCODER,
                                                                      "options": DECODER}),
            (saved(classifier().state_dict(), tmp_path / "b.pth"), {"task": Task.CLASSIFICATION,
                                                                   "arch": "test_efficientnet"}),
            (tmp_path / "flat.onnx", {"task": Task.CLASSIFICATION, **plain})):
        assert imported(source, tmp_path / f"of-{source.name}", classes=tree, **said).model.card.classes == tree


# -- segmentation-models-pytorch ---------------------------------------------------------------------------------------


def test_a_folder_of_save_pretrained_becomes_a_model_with_its_decoder_as_it_was(tmp_path: Path) -> None:
    source = smp_folder(tmp_path / "source", decoder_use_norm="identity")
    done = imported(source, tmp_path / "model", classes=names("a", "b", "c"))
    card = done.model.card
    assert (card.family, card.task, card.arch, card.encoder) == ("smp", Task.SEMANTIC, "unet", ENCODER)
    assert card.options["decoder_channels"] == (16, 16, 8, 8, 8)
    assert card.options["decoder_use_norm"] == "identity"
    assert card.activation is Activation.SOFTMAX
    assert card.class_names == ("a", "b", "c")
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = unet(decoder_use_norm="identity")(pixels).softmax(1)
    assert float((scores(done.model.folder, pixels) - wanted).abs().max()) < 1e-5
    assert done.comparison.sizes_px == ((64, 64), (96, 64))
    assert sorted(path.name for path in done.model.folder.iterdir()) == ["card.json", "model.safetensors"]
    assert ModelCard.model_validate_json((done.model.folder / "card.json").read_bytes()) == card


@pytest.mark.parametrize(("said", "classes", "activation"), [
    ("sigmoid", 3, Activation.SIGMOID), ("softmax", 3, Activation.SOFTMAX), ("softmax2d", 2, Activation.SOFTMAX),
    (None, 1, Activation.SIGMOID)])
def test_the_activation_is_the_configs(tmp_path: Path, said: str | None, classes: int, activation: Activation) -> None:
    source = smp_folder(tmp_path / "source", classes=classes, activation=said)
    assert imported(source, tmp_path / "model").model.card.activation is activation


def test_a_background_is_the_first_output_and_no_class(tmp_path: Path) -> None:
    source = smp_folder(tmp_path / "source")
    card = imported(source, tmp_path / "model", background=True, classes=names("a", "b")).model.card
    assert (card.background, card.class_names) == (True, ("a", "b"))


def test_names_of_classes_come_from_the_config(tmp_path: Path) -> None:
    source = smp_folder(tmp_path / "source", changes={"id2label": {"0": "sky", "1": "sea", "2": "sand"}})
    assert imported(source, tmp_path / "model").model.card.class_names == ("sky", "sea", "sand")
    assert imported(source, tmp_path / "own", classes=names("a", "b", "c")).model.card.class_names == ("a", "b", "c")


def test_a_segformer_of_nineteen_classes_that_says_city_has_the_names_of_cityscapes(tmp_path: Path) -> None:
    smp.Segformer(ENCODER, encoder_weights=None, classes=19, decoder_segmentation_channels=16).save_pretrained(
        tmp_path / "segformer-b0-768x768-city-160k")
    done = imported(tmp_path / "segformer-b0-768x768-city-160k", tmp_path / "streets", licence="other")
    assert done.model.card.class_names[0] == "road"
    assert done.model.card.class_names[18] == "bicycle"
    assert done.model.card.options["decoder_segmentation_channels"] == 16
    assert done.model.card.licence == "other"


def test_a_second_head_for_the_whole_image_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    source = tmp_path / "source"
    smp.Unet(ENCODER, encoder_weights=None, classes=2, aux_params={"classes": 4}, **DECODER).save_pretrained(source)
    done = imported(source, tmp_path / "model")
    assert len(done.model.card.classes) == 2
    assert done.notes == ("2 tensors of classification_head. were left out: they are not needed",)


def test_a_folder_with_pickled_tensors_and_one_in_the_hubs_cache_are_read_too(tmp_path: Path) -> None:
    source = smp_folder(tmp_path / "snapshots" / "abc")
    (source / "model.safetensors").unlink()
    blob = tmp_path / "blobs" / "0123"
    blob.parent.mkdir()
    saved(unet().state_dict(), blob)
    (source / "pytorch_model.bin").symlink_to(blob)
    assert imported(source, tmp_path / "model").notes == ()


def test_one_channel_needs_its_mean_and_std(tmp_path: Path) -> None:
    source = smp_folder(tmp_path / "source", in_channels=1)
    with pytest.raises(ConfigError, match="--mean and --std: expected 1 value each"):
        imported(source, tmp_path / "model")
    card = imported(source, tmp_path / "model", mean=(0.4,), std=(0.2,)).model.card
    assert (card.channels, card.normalisation.mean) == (1, (0.4,))


# -- tensors alone -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["zip", "legacy", "safetensors"])
def test_a_bare_state_dict_needs_arch_and_encoder_alone(tmp_path: Path, way: str) -> None:
    state = unet().state_dict()
    source = tmp_path / "weights.bin"
    if way == "safetensors":
        safetensors.torch.save_file(state, source)
    else:
        saved(state, source, legacy=way == "legacy")
    done = imported(source, tmp_path / "model", arch="Unet", encoder=ENCODER, options=DECODER)
    assert done.kind is SourceKind.STATE_DICT
    assert done.notes == ()


def lightning(path: Path, **more: Any) -> Path:
    state = {f"model.{name}": value for name, value in unet().state_dict().items()}
    return saved({"epoch": 3, "state_dict": {**state, **more}, "hyper_parameters": {"lr": 0.1}, "loops": {}}, path)


@pytest.mark.parametrize("prefix", [None, "model."])
def test_a_lightning_checkpoint_gives_what_lies_below_its_prefix_and_says_what_else_was_there(
    tmp_path: Path, prefix: str | None,
) -> None:
    source = lightning(tmp_path / "last.ckpt", std=torch.ones(3), mean=torch.zeros(3))
    done = imported(source, tmp_path / "model", arch="unet", encoder=ENCODER, options=DECODER, prefix=prefix)
    assert done.notes == ("weights from the entry 'state_dict' of the checkpoint",
                          "names without their prefix 'model.'; 2 tensors that do not have it were left out: mean, std")


def test_tensors_of_other_shapes_are_refused_with_the_first_three_and_how_many(tmp_path: Path) -> None:
    source = saved(unet().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ConfigError) as caught:
        imported(source, tmp_path / "model", arch="unet", encoder=ENCODER)
    said = str(caught.value)
    assert re.search(r"do not fit unet with tu-test_efficientnet \(\d+ of another shape, 0 missing, 0 not expected\)", said)
    assert said.count("expected (") == 3
    assert "decoder.blocks.0.conv1.0.weight: expected (256, 112, 3, 3), got (16, 112, 3, 3)" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights.pth"]


def test_missing_and_unexpected_tensors_are_named(tmp_path: Path) -> None:
    state = unet().state_dict()
    state["decoder.extra"] = state.pop("segmentation_head.0.bias")
    source = saved(state, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match=r"0 of another shape, 1 missing, 1 not expected\): segmentation_head\.0\.bias: "
                                          r"expected \(3,\), got none; decoder\.extra: expected none, got \(3,\)"):
        imported(source, tmp_path / "model", arch="unet", encoder=ENCODER, options=DECODER)


@pytest.mark.parametrize(("said", "message"), [
    ({}, "--arch and --encoder: expected both"),
    ({"arch": "unet"}, "--arch and --encoder: expected both"),
    ({"arch": "unett", "encoder": ENCODER}, "no arch 'unett' with encoder 'tu-test_efficientnet'. Known archs: deeplabv3"),
    ({"arch": "unet", "encoder": "resnet35"}, "Did you mean resnet50, resnet34"),
    ({"arch": "unet", "encoder": "tu-test_efficientnet2"}, "Did you mean tu-test_efficientnet"),
    ({"arch": "unet", "encoder": "tu-hf-hub:a/b"}, "expected an encoder by its name"),
    ({"arch": "unet", "encoder": ENCODER, "options": {"decoder_chanels": [1]}}, "no option 'decoder_chanels'. Known: dec"),
    ({"arch": "unet", "encoder": ENCODER, "options": {"encoder_weights": "imagenet"}}, "has no option 'encoder_weights'"),
    ({"arch": "unet", "encoder": ENCODER, "options": {"decoder_channels": [10**9] * 5}}, "the model's card: options"),
    ({"arch": "unet", "encoder": ENCODER, "classes": names("a", "b")}, "--classes: expected 3 names, got 2: a, b"),
    ({"arch": "unet", "encoder": ENCODER, "background": True, "classes": names("a", "b", "c")},
     "expected 2 names beside the background"),
    ({"arch": "unet", "encoder": ENCODER, "mean": (0.0,)}, "--mean and --std: expected both or neither"),
    ({"arch": "unet", "encoder": ENCODER, "mean": (0.0,) * 3, "std": (1.0,)}, "--std: expected 3 values"),
    ({"arch": "unet", "encoder": ENCODER, "prefix": "net."}, "none of"),
    ({"arch": "unet", "encoder": ENCODER, "crop_px": 224}, "--crop-px: a source of the kind"),
    ({"task": Task.CLASSIFICATION, "options": {"a": 1}}, "--option: a source of the kind"),
    ({"task": Task.CLASSIFICATION, "anchor_sizes_px": ((1.0,),)}, "--anchor-sizes: a source of the kind"),
    ({"task": Task.CLASSIFICATION}, "--arch: expected the name of a network of timm"),
    ({"task": Task.CLASSIFICATION, "arch": "resnet5O"}, "timm has no arch 'resnet5O'. Known: resnet5"),
    ({"task": Task.INSTANCE}, "expected weights of torchvision's Mask R-CNN"),
    ({"kind": SourceKind.TORCHVISION}, "expected the tensors of maskrcnn_resnet50_fpn"),
])
def test_what_cannot_be_meant_is_refused_with_what_was_expected(
    tmp_path: Path, said: Mapping[str, Any], message: str,
) -> None:
    source = saved(unet().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ConfigError) as caught:
        imported(source, tmp_path / "model", **said)
    assert message in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


def test_a_folder_that_is_there_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    source = smp_folder(tmp_path / "source")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="expected a new folder, it is there already"):
        imported(source, tmp_path / "model")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["notes.txt"]


def test_a_model_that_answers_otherwise_than_its_source_is_refused(tmp_path: Path) -> None:
    done = imported(smp_folder(tmp_path / "source"), tmp_path / "model")
    draft = Draft(done.model.card, {}, unet(seed=1), "another library")
    with pytest.raises(Differs, match=r"expected the scores of another library to within 0\.0001, they differ by up to 0"):
        compare(done.model, draft)


# -- timm --------------------------------------------------------------------------------------------------------------


def test_a_folder_of_timm_keeps_its_names_normalisation_and_size(tmp_path: Path) -> None:
    source = timm_folder(tmp_path / "source", changes={"pretrained_cfg": {
        "input_size": [3, 96, 96], "crop_pct": 0.9, "interpolation": "bilinear", "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6], "classifier": "classifier"}})
    card = imported(source, tmp_path / "model").model.card
    assert (card.family, card.task, card.class_names) == ("classifier", Task.CLASSIFICATION, ("ant", "bee", "cat", "dog"))
    assert card.normalisation.mean == (0.1, 0.2, 0.3)
    assert card.resize is not None
    assert (card.resize.crop_px, card.resize.shorter_side_px, card.resize.interpolation) == (96, 106, "bilinear")
    assert card.activation is Activation.SOFTMAX


def test_a_state_dict_of_timm_needs_its_arch(tmp_path: Path) -> None:
    source = saved({"model_state_dict": classifier().state_dict()}, tmp_path / "best.pt")
    card = imported(source, tmp_path / "model", task=Task.CLASSIFICATION, arch="test_efficientnet",
                    activation=Activation.SIGMOID, crop_px=64).model.card
    assert card.class_names == ("class_0", "class_1", "class_2", "class_3")
    assert card.activation is Activation.SIGMOID
    assert card.resize is not None
    assert card.resize.crop_px == 64


# -- torchvision -------------------------------------------------------------------------------------------------------


def old_name(name: str) -> str:
    """What torchvision's checkpoints of 2019 call a tensor."""
    name = re.sub(r"fpn\.(inner|layer)_blocks\.(\d)\.0\.", r"fpn.\1_blocks.\2.", name)
    name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
    return re.sub(r"mask_head\.(\d)\.0\.", lambda found: f"mask_head.mask_fcn{int(found[1]) + 1}.", name)


def test_cocos_mask_rcnn_with_its_old_names_becomes_a_model_of_eighty_classes(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    state = {old_name(name): value for name, value in network.state_dict().items()
             if not name.endswith("num_batches_tracked")}
    done = imported(saved(state, tmp_path / "coco.pth"), tmp_path / "coco")
    card = done.model.card
    assert done.kind is SourceKind.TORCHVISION
    assert (card.family, card.arch, len(card.classes), card.stride_px) == ("mask_rcnn", "maskrcnn_resnet50_fpn", 80, 1)
    assert (card.class_names[0], card.class_names[11], card.class_names[79]) == ("person", "stop sign", "toothbrush")
    assert card.detection is not None
    assert (card.detection.frozen_norms, card.detection.norm_eps) == (True, 0.0)
    assert (card.extraction.extent_min, card.extraction.floor) == (0.0, card.detection.score_min)
    assert done.comparison.n_scores > 0
    assert "10 of COCO's 91 outputs have no class (N/A) and were left out" in done.notes


def test_a_fine_tuned_mask_rcnn_has_its_own_number_of_classes_and_anchors(tmp_path: Path) -> None:
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.rpn import RPNHead

    sizes, ratios = ((8, 12), (16, 24), (32, 48), (64, 96), (128, 192)), (0.5, 1.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, num_classes=3)
        network.rpn.anchor_generator = AnchorGenerator(sizes, (ratios,) * 5)
        network.rpn.head = RPNHead(256, 4, conv_depth=2)
    source = saved({f"module.{name}": value for name, value in network.state_dict().items()}, tmp_path / "mine.pth")
    with pytest.raises(ConfigError, match="--anchor-sizes and --anchor-ratios: the tensors are for 4 anchors a place"):
        imported(source, tmp_path / "mine")
    tree = (ClassNode(name="car"), ClassNode(name="truck", parent="car"))
    done = imported(source, tmp_path / "mine", classes=tree, anchor_sizes_px=sizes, anchor_ratios=ratios)
    assert done.model.card.classes == tree
    assert (done.model.card.arch, done.model.card.class_names) == ("maskrcnn_resnet50_fpn_v2", ("car", "truck"))
    assert done.model.card.detection is not None
    assert done.model.card.detection.anchor_sizes_px == sizes
    assert done.comparison.n_scores > 0


def test_a_detector_without_masks_is_refused(tmp_path: Path) -> None:
    source = saved({"roi_heads.box_predictor.cls_score.weight": torch.zeros(2, 4)}, tmp_path / "boxes.pth")
    with pytest.raises(ConfigError, match="expected a Mask R-CNN, got a detector without masks"):
        imported(source, tmp_path / "model")
