"""`segsvc evaluate`, as a user runs it."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest

from segsvc import plugins
from segsvc.card import Activation, ClassNode, Extraction, ModelCard, Resize, Task
from segsvc.truth import content_digest, read_dataset
from tests.conftest import Program
from tests.detectors import detector_card, write_detector
from tests.evaluated import write_mask_set
from tests.networks import write_network


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with the splits val and test, five images each."""
    return write_mask_set(tmp_path_factory.mktemp("data") / "set", 5)


def checked(text: str) -> dict[str, Any]:
    """metrics.json, held against its published schema."""
    document: dict[str, Any] = json.loads(text)
    schema = json.loads((resources.files("segsvc") / "schemas" / "metrics.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)
    return document


def test_the_test_split_is_measured_and_both_files_are_written_the_same_each_time(segsvc: Program, data: Path) -> None:
    answer = segsvc("evaluate", "bright", "--data", data, "--out", "one")
    assert answer.code == 0, answer.stderr
    assert answer.stdout.splitlines()[0] == "bright on 5 images of the split test, intervals of 95% by 5 images"
    assert answer.stdout.splitlines()[-1] == "one/report.html"
    again = segsvc("evaluate", "bright", "--data", data, "--out", "two", "--threads", "1", "--json")
    assert again.code == 0, again.stderr
    written = (segsvc.folder / "one" / "metrics.json").read_text("utf-8")
    assert again.stdout == written == (segsvc.folder / "two" / "metrics.json").read_text("utf-8")
    assert sorted(path.name for path in (segsvc.folder / "one").iterdir()) == ["metrics.json", "report.html"]
    document = checked(written)
    assert document["data"]["split"] == "test"
    assert 0.8 < document["figures"]["dice"]["low"] < document["figures"]["dice"]["value"] <= 1
    assert document["seen_in_training"] == {"images": None, "share": None, "image_uris": []}
    report = (segsvc.folder / "one" / "report.html").read_bytes()
    assert report == (segsvc.folder / "two" / "report.html").read_bytes()
    assert b"data:image/jpeg" in report


def test_another_split_is_taken_by_name_and_a_set_without_splits_is_taken_whole(segsvc: Program, data: Path) -> None:
    named = segsvc("evaluate", "bright", "--data", data, "--split", "val", "--out", "out", "--json")
    assert checked(named.stdout)["data"]["split"] == "val"
    shutil.copytree(data / "val", segsvc.folder / "whole")
    shutil.copy(data / "classes.txt", segsvc.folder / "whole")
    whole = segsvc("evaluate", "bright", "--data", "whole", "--out", "out", "--json")
    assert whole.code == 0, whole.stderr
    document = checked(whole.stdout)
    assert (document["data"]["split"], document["images"]) == (None, 5)
    wrong = segsvc("evaluate", "bright", "--data", "whole", "--split", "test", "--out", "out")
    assert (wrong.code, "names none. Leave --split away" in wrong.stderr) == (2, True)


def test_what_is_wrong_is_found_before_any_work(segsvc: Program, data: Path) -> None:
    (segsvc.folder / "file").write_text("")
    for arguments, said in (
            (("--data", data, "--split", "train", "--out", "out"), "(val, test), got 'train'"),
            (("--data", data, "--out", "out", "--slice", "weather"), "--slice weather: expected a column with at most"),
            (("--data", data, "--out", "file"), "--out: expected a folder that can be written, got 'file'"),
            (("--data", "nowhere", "--out", "out"), "there is no 'nowhere'"),
            (("--out", "out"), "Missing option '--data'")):
        answer = segsvc("evaluate", "bright", *arguments)
        assert (answer.code, said in answer.stderr, "Traceback" in answer.stderr) == (2, True, False), answer.stderr
    assert not (segsvc.folder / "out").exists()


def test_classes_that_are_no_class_of_the_model_are_refused(segsvc: Program, data: Path) -> None:
    shutil.copytree(data, segsvc.folder / "other")
    (segsvc.folder / "other" / "classes.txt").write_text("background\ncat\n")
    answer = segsvc("evaluate", "bright", "--data", "other", "--out", "out")
    assert answer.code == 2
    assert "expected a data set with classes of model bright (bright), got" in answer.stderr


def test_images_that_cannot_be_read_are_listed_and_the_others_measured(segsvc: Program, data: Path) -> None:
    shutil.copytree(data, segsvc.folder / "some")
    (segsvc.folder / "some" / "test" / "images" / "test-00.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    answer = segsvc("evaluate", "bright", "--data", "some", "--out", "out", "--json")
    assert answer.code == 3
    document = checked(answer.stdout)
    assert document["images"] == 4
    assert [Path(one["image_uri"]).name for one in document["failed"]] == ["test-00.png"]
    for path in (segsvc.folder / "some" / "test" / "images").iterdir():
        path.write_bytes(b"no picture")
    answer = segsvc("evaluate", "bright", "--data", "some", "--out", "out", "--json")
    assert (answer.code, checked(answer.stdout)["figures"]) == (3, {})


def test_a_mask_of_another_size_stops_it_and_leaves_nothing(segsvc: Program, data: Path) -> None:
    shutil.copytree(data, segsvc.folder / "wrong")
    cv2.imwrite(str(segsvc.folder / "wrong" / "test" / "masks" / "test-04.png"), np.zeros((5, 5), np.uint8))
    answer = segsvc("evaluate", "bright", "--data", "wrong", "--out", "new/out")
    assert answer.code == 2
    assert "test-04.png: expected labels of the image's size" in answer.stderr
    assert not (segsvc.folder / "new").exists()


def test_images_that_the_model_was_trained_on_are_counted_and_said_loudly(
        segsvc: Program, data: Path, shared_home: Path) -> None:
    shutil.copytree(shared_home / "models" / "bright", segsvc.folder / "models" / "trained")
    learnt = [content_digest(image.ref) for image in read_dataset(str(data)).images if "test-01" in image.ref.uri]
    (segsvc.folder / "models" / "trained" / "trained_on.json").write_text(json.dumps({"sha256": [*learnt, "0" * 64]}))
    answer = segsvc("evaluate", "models/trained", "--data", data, "--out", "out")
    assert answer.code == 0, answer.stderr
    assert "note: Measured on 1 image that it was trained on: the figures are too good." in answer.stdout
    document = checked((segsvc.folder / "out" / "metrics.json").read_text("utf-8"))
    assert (document["seen_in_training"]["images"], document["seen_in_training"]["share"]) == (1, 0.2)
    (segsvc.folder / "models" / "trained" / "trained_on.json").write_text("[]")
    answer = segsvc("evaluate", "models/trained", "--data", data, "--out", "out")
    assert (answer.code, 'expected {"sha256": [...]}' in answer.stderr) == (2, True)


def test_a_models_report_is_made_of_its_metrics_where_there_is_none(segsvc: Program, data: Path, shared_home: Path) -> None:
    shutil.copytree(shared_home / "models" / "bright", segsvc.folder / "models" / "measured")
    place = segsvc.folder / "models" / "measured"
    assert segsvc("report", "models/measured").code == 2
    assert segsvc("evaluate", "models/measured", "--data", data, "--out", place).code == 0
    before = (place / "report.html").read_bytes()
    answer = segsvc("report", "models/measured")
    assert (answer.code, answer.stdout.strip()) == (0, str(place / "report.html"))
    assert (place / "report.html").read_bytes() == before
    (place / "report.html").unlink()
    assert segsvc("report", "models/measured").code == 0
    assert b"how good it is" in (place / "report.html").read_bytes()
    (place / "report.html").unlink()
    (place / "metrics.json").write_text("{}")
    answer = segsvc("report", "models/measured")
    assert (answer.code, "is not what `segsvc evaluate` writes" in answer.stderr) == (2, True)


def test_a_detector_is_measured_on_objects_by_average_precision(segsvc: Program) -> None:
    plugins.load(plugins.PluginKind.DATASET, "coco").example(segsvc.folder / "objects")
    write_detector(segsvc.folder / "models", detector_card(classes=(ClassNode(name="bar"), ClassNode(name="disc"))))
    answer = segsvc("evaluate", "models/tiny-detector", "--data", "objects", "--split", "val", "--out", "out", "--json",
                    "--runtime", "torch-cpu")
    assert answer.code == 0, answer.stderr
    document = checked(answer.stdout)
    assert list(document["figures"]) == ["ap", "ap50", "ar", "object_precision", "object_recall"]
    assert document["instance"]["boxes"]["all"]["objects"] == document["instance"]["masks"]["all"]["objects"] == 2
    assert document["sureness"]["unit"] == "group"


def test_a_classifier_is_measured_label_by_label(segsvc: Program) -> None:
    plugins.load(plugins.PluginKind.DATASET, "class_folder").example(segsvc.folder / "labels")
    names = read_dataset(str(segsvc.folder / "labels")).classes
    card = ModelCard(
        name="tiny-classifier", family="classifier", task=Task.CLASSIFICATION, arch="test_efficientnet",
        classes=tuple(ClassNode(name=name) for name in (*names, "never")), activation=Activation.SOFTMAX,
        weights_sha256="0" * 64, resize=Resize(shorter_side_px=32, crop_px=32), licence="Apache-2.0",
        extraction=Extraction(extent_min=0.0, floor=0.9, top_k=1))
    write_network(segsvc.folder / "models", card)
    answer = segsvc("evaluate", "models/tiny-classifier", "--data", "labels", "--out", "out", "--json", "--runtime",
                    "torch-cpu")
    assert answer.code == 0, answer.stderr
    document = checked(answer.stdout)
    assert document["classes"] == {"names": list(names), "only_in_data": [], "only_in_model": ["never"],
                                   "folded": {}}
    assert 0 <= document["figures"]["accuracy"]["value"] <= 1
    assert sum(map(sum, document["classification"]["confusion"]["counts"])) == document["images"]
    assert "The set says nothing of never, which the model knows." in document["notes"]


def test_a_model_of_another_task_is_refused(segsvc: Program) -> None:
    plugins.load(plugins.PluginKind.DATASET, "class_folder").example(segsvc.folder / "labels")
    answer = segsvc("evaluate", "bright", "--data", "labels", "--out", "out")
    assert answer.code == 2
    assert "expected labels for semantic or instance, as model bright answers semantic, got class_folder" in answer.stderr
