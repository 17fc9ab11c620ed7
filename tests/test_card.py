"""Documents are checked where they enter, and say the same in the same bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from segsvc.card import Extraction, ModelCard, RunSpec, describe
from segsvc.operating_point import Basis, ClassThresholds, OperatingPoint
from segsvc.types import Runtime

CARD: dict[str, Any] = {
    "name": "cells", "family": "smp", "task": "semantic", "arch": "unet", "encoder": "resnet18",
    "classes": [{"name": "cell"}, {"name": "nucleus", "parent": "cell"}], "weights_sha256": "a" * 64,
    "licence": "Apache-2.0"}


def refusal(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        ModelCard.model_validate({**CARD, **fields})
    return describe(caught.value)


@pytest.mark.parametrize(("fields", "said"), [
    ({"tile_px": 500}, "tile_px must be a multiple of stride_px (32), got 500"),
    ({"tile_px": 64, "overlap_px": 33}, "overlap_px must be at most half of tile_px (64), got 33"),
    ({"channels": 1}, "normalisation.mean must have 1 values, got 3"),
    ({"normalisation": {"std": [1.0]}}, "normalisation.std must have 3 values, got 1"),
    ({"normalisation": {"std": [1.0, 0.0, 1.0]}}, "normalisation.std.1: Input should be greater than 0, got 0.0"),
    ({"task": "classification"}, "a classification model needs resize"),
    ({"task": "poetry"}, "task: Input should be 'semantic', 'instance' or 'classification', got 'poetry'"),
    ({"classes": []}, "classes: Tuple should have at least 1 item"),
    ({"classes": [{"name": "a"}, {"name": "a"}]}, "class names must differ from each other"),
    ({"classes": [{"name": "a", "parent": "b"}]}, "class 'a' names the parent 'b', which is no class of this model"),
    ({"classes": [{"name": "a", "parent": "a"}]}, "class 'a' must have other classes as its ancestors, got itself"),
    ({"classes": [{"name": "c", "parent": "a"}, {"name": "a", "parent": "b"}, {"name": "b", "parent": "a"}]},
     "class 'a' must have other classes as its ancestors, got itself"),
    ({"weights_sha256": "A" * 64}, "weights_sha256"),
    ({"name": "../up"}, "name"),
    ({"extraction": {"extent_min": 0.6, "floor": 0.5}}, "floor must be at least extent_min (0.6), got 0.5"),
    ({"extraction": {"floor": 1.5}}, "extraction.floor: Input should be less than or equal to 1, got 1.5"),
    ({"wheels": 4}, "wheels: Extra inputs are not permitted, got 4"),
    ({"task": "instance"}, "an instance model needs detection: {}"),
    ({"detection": {"strides": [4, 16]}}, "strides must be powers of 2, each twice the one before, got (4, 16)"),
    ({"detection": {"strides": [6, 12]}}, "strides must be powers of 2"),
    ({"detection": {"strides": [4, 8]}}, "anchor_sizes_px must have sizes for 3 levels (strides, and one more if "
     "pooled_level), got 5"),
    ({"detection": {"anchor_sizes_px": [[8], [16, 24], [32], [64], [128]]}},
     "anchor_sizes_px must name as many sizes for each level"),
    ({"detection": {"most": 1001}}, "detection.most: Input should be less than or equal to 1000, got 1001"),
    ({"detection": {"train_anchor_iou": 0.2}}, "train_anchor_iou_below must be at most train_anchor_iou (0.2), got 0.3"),
])
def test_a_card_that_makes_no_sense_is_refused_with_the_field_what_was_expected_and_what_came(
        fields: dict[str, Any], said: str) -> None:
    assert said in refusal(**fields)


def test_a_card_goes_through_json_and_back_to_the_same_bytes() -> None:
    card = ModelCard.model_validate(CARD)
    text = card.to_json()
    again = ModelCard.model_validate_json(text)
    assert again == card
    assert again.to_json() == text
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert card.class_names == ("cell", "nucleus")


def test_the_digest_is_of_card_and_weights_and_not_of_how_the_json_is_written() -> None:
    card = ModelCard.model_validate(CARD)
    shuffled = ModelCard.model_validate_json(json.dumps(dict(reversed(list(CARD.items())))))
    assert shuffled.digest == card.digest
    assert len(card.digest) == 64
    assert ModelCard.model_validate({**CARD, "weights_sha256": "b" * 64}).digest != card.digest
    assert ModelCard.model_validate({**CARD, "tile_px": 256}).digest != card.digest


def test_a_card_without_detection_has_the_digest_that_it_had_before_there_was_detection() -> None:
    assert ModelCard.model_validate(CARD).digest == ModelCard.model_validate({**CARD, "detection": None}).digest
    assert ModelCard.model_validate(CARD).digest == "499d6e727b832d7104458a0235fe781ffeadfdeb66aec105ab0fcbecb823e00d"
    instance = {**CARD, "task": "instance", "detection": {}}
    assert ModelCard.model_validate(instance).digest == ModelCard.model_validate(
        {**instance, "detection": {"min_side_px": 800, "most": 100}}).digest
    assert ModelCard.model_validate(instance).digest != ModelCard.model_validate(
        {**instance, "detection": {"most": 200}}).digest


def test_documents_cannot_be_changed() -> None:
    card = ModelCard.model_validate(CARD)
    with pytest.raises(ValidationError):
        card.name = "other"


def test_thresholds_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"accept_at must be at least flag_at \(0.6\), got 0.5"):
        ClassThresholds(flag_at=0.6, accept_at=0.5)
    assert ClassThresholds(flag_at=0.5, accept_at=0.5).accept_at == 0.5
    assert ClassThresholds(flag_at=0.5).accept_at is None


def test_a_point_speaks_for_its_classes_and_by_a_star_for_all_others() -> None:
    car, other = ClassThresholds(flag_at=0.2), ClassThresholds(flag_at=0.7)
    point = OperatingPoint(basis=Basis.BY_HAND, classes={"car": car, "*": other})
    assert point.thresholds("car") == car
    assert point.thresholds("tree") == other
    assert OperatingPoint(basis=Basis.BY_HAND, classes={"car": car}).thresholds("tree") is None


def test_two_points_say_the_same_whenever_they_were_set() -> None:
    point = OperatingPoint(basis=Basis.BY_HAND, classes={"*": ClassThresholds(flag_at=0.5)})
    later = point.model_copy(update={"set_at": datetime(2030, 1, 1, tzinfo=UTC)})
    assert later.says_as(point)
    assert point.says_as(later)
    assert later != point
    assert not point.says_as(point.model_copy(update={"note": "other"}))


@pytest.mark.parametrize(("basis", "digest", "runtime", "words"), [
    (Basis.CALIBRATED, "d", Runtime.OPENVINO, "guaranteed as calibrated"),
    (Basis.CALIBRATED, "d", Runtime.TORCH_CPU, "measured, not guaranteed"),
    (Basis.CALIBRATED, "e", Runtime.OPENVINO, "measured, not guaranteed"),
    (Basis.MEASURED, "d", Runtime.OPENVINO, "measured, not guaranteed"),
    (Basis.BY_HAND, "d", Runtime.OPENVINO, "set by hand, not guaranteed"),
])
def test_a_guarantee_is_claimed_only_for_the_model_and_runtime_that_it_was_proven_on(
        basis: Basis, digest: str, runtime: Runtime, words: str) -> None:
    point = OperatingPoint(basis=basis, classes={}, model_digest="d", runtime=Runtime.OPENVINO)
    assert point.wording(model_digest=digest, runtime=runtime) == words


def test_the_spec_of_a_run_knows_nothing_of_operating_points_or_workers() -> None:
    assert set(RunSpec.model_fields) == {"format", "input", "limit", "shard_size", "model", "model_digest", "runtime"}


def test_an_unknown_format_of_spec_is_refused() -> None:
    with pytest.raises(ValidationError):
        RunSpec.model_validate({"format": 2, "input": "file:///in", "shard_size": 4, "model": "m", "model_digest": "d",
                                "runtime": "openvino"})


def test_the_floor_may_equal_the_extent() -> None:
    assert Extraction(extent_min=0.5, floor=0.5).floor == 0.5
