"""`segsvc train` as a user runs it."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path

import pytest

from tests.chaos.network import until
from tests.cli.test_usage import complaint
from tests.conftest import Program
from tests.test_documents import check
from tests.training import sets

TINY = ("--arch", "test_efficientnet", "--init", "random", "--threads", "1")


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sets.class_folder(tmp_path_factory.mktemp("data"), train=8, val=4, test=4)


def test_a_model_is_trained_and_evaluated_and_run(segsvc: Program, data: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    trained = segsvc("train", data, "--task", "classification", "--out", model, "--epochs", "3", *TINY)
    assert trained.code == 0, trained.stderr
    assert f"report      {model}/report.html" in trained.stdout
    assert "left" in trained.stderr
    shown = segsvc("models", "show", model, "--json")
    assert shown.code == 0, shown.stderr
    assert check("model", shown.stdout)["metrics"]["data"]["split"] == "val"
    evaluated = segsvc("evaluate", model, "--data", data, "--out", tmp_path / "figures", "--json")
    assert evaluated.code == 0, evaluated.stderr
    metrics = check("metrics", evaluated.stdout)
    assert (metrics["data"]["split"], metrics["images"], metrics["seen_in_training"]["images"]) == ("test", 8, 0)
    run = segsvc("run", data / "test", "--model", model, "--out", tmp_path / "out", "--workers", "1", "--threads", "1")
    assert run.code == 0, run.stderr
    assert "8 listed: 8 done" in run.stdout


def test_a_training_that_is_killed_goes_on_to_the_same_bytes(segsvc: Program, data: Path, tmp_path: Path) -> None:
    command = ("train", data, "--task", "classification", "--epochs", "30", *TINY, "--out")
    begun = segsvc(*command, tmp_path / "model", "--resume")
    assert begun.code == 0, begun.stderr
    assert begun.stderr.startswith(f"no training at {tmp_path}/model to go on with: it begins anew\n")
    for stop, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130)):
        killed = segsvc.start(*command, tmp_path / "again" / "model", "--resume")
        state, before = tmp_path / "again" / "model" / ".training" / "model.safetensors", None
        before = state.stat().st_mtime_ns if state.exists() else None
        until(lambda: state.exists() and state.stat().st_mtime_ns != before, "a round", patience_s=90)  # noqa: B023
        killed.send_signal(stop)
        said = killed.communicate(timeout=90)[1]
        assert killed.returncode == code, said
    assert "--resume goes on" in said
    assert not (tmp_path / "again" / "model" / "card.json").exists()
    refused = segsvc(*command, tmp_path / "again" / "model")
    assert (refused.code, "Go on with --resume" in refused.stderr) == (2, True)
    other = segsvc(*command, tmp_path / "again" / "model", "--resume", "--seed", "7")
    assert (other.code, "data, options or seed differ" in other.stderr) == (2, True), other.stderr
    resumed = segsvc(*command, tmp_path / "again" / "model", "--resume")
    assert (resumed.code, "begins anew" in resumed.stderr) == (0, False), resumed.stderr
    assert digests(tmp_path / "again" / "model") == digests(tmp_path / "model")


@pytest.mark.parametrize(("arguments", "said"), [
    (("--task", "classification", "--init", "nuclei"), "expected a model for classification, got one for semantic"),
    (("--task", "semantic"), "which teaches classification"),
    (("--task", "nothing"), "'nothing' is not one of"),
    (("--task", "classification", "--init", "nowhere"), "no model is called 'nowhere'"),
    (("--task", "classification", "--arch", "lenet"), "timm has no arch 'lenet'"),
    (("--task", "classification", "--epochs", "0"), "0 is not in the range"),
])
def test_what_cannot_be_trained_says_why_and_writes_nothing(
        segsvc: Program, data: Path, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    answer = segsvc("train", data, "--out", tmp_path / "model", *arguments)
    assert answer.code == 2, answer.stderr
    assert said in answer.stderr
    assert len(answer.stderr.strip().splitlines()) <= 2
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("out", "said"), [
    ("s3://bucket/model", "--out s3://bucket/model: expected a folder on this machine"),
    ("", "--out '': expected a folder for the model"),
])
def test_a_place_that_is_no_folder_on_a_disk_is_refused(segsvc: Program, data: Path, tmp_path: Path, out: str,
                                                        said: str) -> None:
    answer = segsvc("train", data, "--task", "classification", "--out", out)
    assert said in complaint(answer, 2)
    assert not (tmp_path / "s3:").exists()


def test_without_a_network_an_encoder_that_is_not_here_is_answered_with_what_is(
        segsvc: Program, data: Path, tmp_path: Path) -> None:
    said = complaint(segsvc("train", data, "--task", "classification", "--arch", "resnet18", "--out", tmp_path / "model",
                            environment={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}), 2)
    assert "expected weights of resnet18 from its hub, got: " in said
    assert " ... Use the encoder tu-tf_efficientnet_lite0, which is here, --init random" in said  # cut between words
    assert not (tmp_path / "model").exists()


def test_what_is_no_data_set_says_what_would_be(segsvc: Program, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    answer = segsvc("train", tmp_path / "data", "--task", "semantic", "--out", tmp_path / "model")
    assert answer.code == 2
    assert "annotations.json" in answer.stderr
    assert json.dumps("label:mine")[1:-1] in segsvc(
        "train", "label:mine", "--task", "semantic", "--out", tmp_path / "model").stderr
