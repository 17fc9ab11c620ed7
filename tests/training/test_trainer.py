"""Whole trainings on small generated sets with a tiny network: what is written, and that it can be gone on with."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import segsvc
from segsvc.card import Task
from segsvc.errors import ConfigError
from segsvc.models.library import read_model
from segsvc.training.recipe import TrainingRequest
from segsvc.training.trainer import train
from tests.training import sets

TINY = "test_efficientnet"  # timm's own for tests: 0.1 million weights


def asked(data: Path, out: Path, task: Task, **more: object) -> TrainingRequest:
    network = {"arch": TINY} if task is Task.CLASSIFICATION else {
        "encoder": f"tu-{TINY}" if task is Task.SEMANTIC else TINY}
    return TrainingRequest(**{"dataset": str(data), "task": task, "out": out, "init": "random", "epochs": 2, "threads": 1,
                              **network, **more})  # type: ignore[arg-type]


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def make(task: Task, folder: Path) -> Path:
    of_task = {Task.SEMANTIC: sets.mask_folder, Task.INSTANCE: sets.coco, Task.CLASSIFICATION: sets.class_folder}
    return of_task[task](folder, train=6, val=3)


@pytest.fixture(scope="module", params=list(Task), ids=[task.value for task in Task])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Path, Path]:
    """A task, its data, and the model that was trained on them."""
    task: Task = request.param
    folder = tmp_path_factory.mktemp(task.value)
    data = make(task, folder / "data")
    return task, data, train(asked(data, folder / "model", task), lambda line: None)


def test_a_trained_model_is_a_folder_that_can_be_used(trained: tuple[Task, Path, Path]) -> None:
    task, data, folder = trained
    assert sorted(path.name for path in folder.iterdir()) == [
        "card.json", "metrics.json", "model.safetensors", "report.html", "trained_on.json", "training.json"]
    model = read_model(folder)
    model.check_weights()
    assert model.card.task is task
    assert model.card.class_names == (("disc", "bar") if task is not Task.CLASSIFICATION else ("bar", "disc"))
    result = segsvc.load(folder).segment(next(data.rglob("*.png")))
    assert result.width_px > 0


def test_its_figures_are_of_the_images_that_were_held_out(trained: tuple[Task, Path, Path]) -> None:
    task, _, folder = trained
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["data"]["split"] == "val"
    assert metrics["images"] == (6 if task is Task.CLASSIFICATION else 3)
    assert metrics["model"]["digest"] == read_model(folder).digest
    assert metrics["out_of_fold"] is None
    assert metrics["figures"]
    assert metrics["sureness"]["resamples"] == 1000


def test_it_says_which_images_it_has_seen(trained: tuple[Task, Path, Path]) -> None:
    _, data, folder = trained
    seen = set(json.loads((folder / "trained_on.json").read_text())["sha256"])
    images = [path for path in data.rglob("*.png") if "masks" not in path.parts]
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in images} == seen


def test_the_same_command_gives_the_same_bytes(trained: tuple[Task, Path, Path], tmp_path: Path) -> None:
    task, data, folder = trained
    again = train(asked(data, tmp_path / "model", task), lambda line: None)
    assert digests(again) == digests(folder)


def test_a_training_that_was_cut_off_ends_in_the_same_bytes(trained: tuple[Task, Path, Path], tmp_path: Path) -> None:
    task, data, folder = trained

    def cut(line: str) -> None:
        if line.startswith("step") and "loss" in line:
            raise KeyboardInterrupt

    for _ in range(2):  # once in the first round, once in the second
        with pytest.raises(KeyboardInterrupt):
            train(asked(data, tmp_path / "model", task, resume=True), cut)
        assert not (tmp_path / "model" / "card.json").exists()
    with pytest.raises(ConfigError, match=r"training that was interrupted\. Go on with --resume"):
        train(asked(data, tmp_path / "model", task), cut)
    train(asked(data, tmp_path / "model", task, resume=True), lambda line: None)
    assert digests(tmp_path / "model") == digests(folder)


def test_too_few_images_for_a_split_are_judged_out_of_fold(tmp_path: Path) -> None:
    table = sets.label_table(tmp_path / "data", 12)
    lines: list[str] = []
    folder = train(asked(table, tmp_path / "model", Task.CLASSIFICATION), lines.append)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["out_of_fold"], metrics["images"], metrics["data"]["split"]) == (4, 12, None)
    assert metrics["figures"]["average_precision"]["low"] is not None
    assert "out-of-fold model 4 of 4" in lines
    assert read_model(folder).card.activation.value == "sigmoid"


def test_a_model_is_trained_on_from_another(trained: tuple[Task, Path, Path], tmp_path: Path) -> None:
    task, data, folder = trained
    lines: list[str] = []
    more = train(asked(data, tmp_path / "more", task, init=str(folder), arch=None, encoder=None, freeze_encoder=True),
                 lines.append)
    said = next(line for line in lines if line.startswith("starting from model"))
    taken, of = (int(word) for word in said.split(": ")[1].split()[0: 3: 2])
    assert taken == of
    assert read_model(more).card.normalisation == read_model(folder).card.normalisation


def test_a_model_of_another_task_is_no_start(tmp_path: Path) -> None:
    data = sets.class_folder(tmp_path / "data", train=3, val=2)
    with pytest.raises(ConfigError, match="--init nuclei: expected a model for classification, got one for semantic"):
        train(asked(data, tmp_path / "model", Task.CLASSIFICATION, init="nuclei", arch=None), lambda line: None)


def test_what_is_wrong_with_the_data_stops_it_before_it_starts(tmp_path: Path) -> None:
    data = sets.mask_folder(tmp_path / "data", train=3, val=2)
    (data / "train" / "masks" / "scene-1.png").unlink()
    sets.write_image(data / "val" / "masks" / "scene-3.png", sets.scene(3, side_px=32)[1])
    with pytest.raises(ConfigError, match=r"expected a data set without errors, got \d+: .*`segsvc datasets check"):
        train(asked(data, tmp_path / "model", Task.SEMANTIC), lambda line: None)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("task", "said"), [(Task.CLASSIFICATION, "which teaches semantic"),
                                            (Task.INSTANCE, "which teaches semantic")])
def test_labels_that_do_not_teach_the_task_are_refused(tmp_path: Path, task: Task, said: str) -> None:
    data = sets.mask_folder(tmp_path / "data", train=3, val=2)
    with pytest.raises(ConfigError, match=said):
        train(asked(data, tmp_path / "model", task), lambda line: None)


@pytest.mark.parametrize("task", [Task.SEMANTIC, Task.INSTANCE])
def test_boxes_teach_no_masks_and_are_refused_before_anything_is_learnt(tmp_path: Path, task: Task) -> None:
    data = sets.coco(tmp_path / "data", train=3, val=2)
    file = data / "train" / "annotations.json"
    document = json.loads(file.read_text())
    del document["annotations"][0]["segmentation"]
    file.write_text(json.dumps(document))
    said: list[str] = []
    with pytest.raises(ConfigError, match="expected objects with masks to learn from, got one with a box alone"):
        train(asked(data, tmp_path / "model", task), said.append)
    assert (said, (tmp_path / "model").exists()) == ([], False)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    data = sets.mask_folder(tmp_path / "data", train=3, val=2)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes").write_text("mine")
    with pytest.raises(ConfigError, match="expected a new or empty folder"):
        train(asked(data, tmp_path / "model", Task.SEMANTIC), lambda line: None)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["notes"]


def test_a_training_does_not_go_on_with_other_labels_of_the_same_images(tmp_path: Path) -> None:
    data = make(Task.SEMANTIC, tmp_path / "data")

    def cut(line: str) -> None:
        if line.startswith("step") and "loss" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(asked(data, tmp_path / "model", Task.SEMANTIC), cut)
    one, other = sorted(data.rglob("masks/*.png"))[:2]
    one.write_bytes(other.read_bytes())
    with pytest.raises(ConfigError, match="expected the state of this training, got that of another"):
        train(asked(data, tmp_path / "model", Task.SEMANTIC, resume=True), cut)
