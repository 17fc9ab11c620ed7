"""Training by Ray: what two workers make, what becomes of it when one dies, and what cannot be shared."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from segsvc.card import Task
from segsvc.training.recipe import TrainingRequest
from segsvc.training.trainer import take_part, train
from tests.conftest import Program
from tests.jobs.clusters import AS_OTHERS, processes_with
from tests.training import sets
from tests.training.gloo import joined

TRAIN = ("train", "data", "--task", "semantic", "--epochs", "3", "--threads", "1")
RAY = ("--executor", "ray", "--workers", "2")


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for temporary files with a path that is short enough for Ray's sockets; nothing of Ray may be left in it."""
    folder = Path(tempfile.mkdtemp(prefix="segsvc-test-"))
    try:
        yield folder
        deadline = time.monotonic() + 60
        while (left := processes_with(f"TMPDIR={folder}")) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (left, list(folder.glob("segsvc-ray-*"))) == ({}, [])
    finally:
        shutil.rmtree(folder)


def start(segsvc: Program, short: Path, *arguments: str) -> subprocess.Popen[str]:
    return segsvc.start_anew(*TRAIN, *RAY, *arguments, environment={
        "TMPDIR": str(short), "RAY_ADDRESS": "", **AS_OTHERS})


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        _, stderr = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    return process.returncode, stderr


def wait_for_a_round(out: Path, process: subprocess.Popen[str]) -> None:
    """Until there is a state in the model's folder."""
    state = out / ".training" / "model.safetensors"
    deadline = time.monotonic() + 240
    while not state.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def learners(short: Path) -> list[int]:
    return [number for number, command in processes_with(f"TMPDIR={short}").items() if "TrainWorker" in command]


def goes_on(segsvc: Program, short: Path, whole: Path) -> None:
    """The training in `model` is resumed, and ends in the same bytes as the one in `whole`."""
    code, said = ended(start(segsvc, short, "--out", "model", "--resume"))
    assert code == 0, said
    assert "learning in 2 workers of 1 thread" in said
    assert said.count("starting from") == 1
    assert whole.read_bytes() == (segsvc.folder / "model" / "model.safetensors").read_bytes()
    assert not (segsvc.folder / "model" / ".training").exists()


@pytest.fixture
def whole(segsvc: Program, in_process: Callable[[], None]) -> Path:
    """What two processes learn from `data` that nothing disturbs, and that know nothing of Ray."""
    folder = segsvc.folder
    sets.mask_folder(folder / "data", train=16, val=4)
    threads = torch.get_num_threads()
    try:
        return train(TrainingRequest(str(folder / "data"), Task.SEMANTIC, folder / "whole", epochs=3, threads=1), print,
                     by_two) / "model.safetensors"
    finally:
        torch.set_num_threads(threads)


def by_two(request: TrainingRequest, examples: int) -> None:
    """The training's steps, by this process and another."""
    assert examples % 2 == 0
    other = multiprocessing.get_context("spawn").Process(target=take_one_part, args=(request, 1), daemon=True)
    other.start()
    try:
        take_one_part(request, 0)
        other.join(120)
        assert other.exitcode == 0
    finally:
        other.kill()


def take_one_part(request: TrainingRequest, rank: int) -> None:
    with joined(request.out.parent, rank=rank, size=2) as group:
        take_part(request, print, group)


@pytest.mark.timeout(900)
def test_a_training_whose_worker_dies_goes_on_to_the_weights_of_one_that_was_left_alone(
        segsvc: Program, short: Path, whole: Path) -> None:
    process = start(segsvc, short, "--out", "model")
    wait_for_a_round(segsvc.folder / "model", process)
    found = learners(short)
    assert len(found) == 2, processes_with(f"TMPDIR={short}")
    os.kill(found[0], signal.SIGKILL)
    code, said = ended(process)
    assert code == 1, said
    assert "worker" in said
    assert "the same command with --resume goes on" in said
    assert "Traceback" not in said
    goes_on(segsvc, short, whole)
    alone = segsvc(*TRAIN, "--out", "alone")
    assert alone.code == 0, alone.stderr
    courses = [json.loads((segsvc.folder / name / "metrics.json").read_text())["course"]["rounds"]
               for name in ("whole", "alone")]
    assert np.allclose(courses[0][0]["loss"], courses[1][0]["loss"], rtol=0, atol=1e-4)  # of floats: they drift apart later
    assert load_file(whole).keys() == load_file(segsvc.folder / "alone" / "model.safetensors").keys()


@pytest.mark.timeout(900)
@pytest.mark.skipif("CHAOS_KILLS" not in os.environ, reason="three trainings by Ray take some minutes: in `make chaos`")
def test_a_training_that_is_interrupted_goes_on_to_the_weights_of_one_that_was_left_alone(
        segsvc: Program, short: Path, whole: Path) -> None:
    process = start(segsvc, short, "--out", "model")
    wait_for_a_round(segsvc.folder / "model", process)
    process.send_signal(signal.SIGINT)
    code, said = ended(process)
    assert (code, "the same command with --resume goes on" in said) == (130, True), said
    goes_on(segsvc, short, whole)


def test_a_batch_that_workers_cannot_share_is_refused_before_any_work(segsvc: Program, short: Path) -> None:
    sets.mask_folder(segsvc.folder / "data", train=4, val=2)
    answer = segsvc(*TRAIN, "--executor", "ray", "--workers", "3", "--out", "model",
                    environment={"TMPDIR": str(short), "RAY_ADDRESS": ""})
    assert answer.code == 2
    assert "the batch of 8 examples" in answer.stderr
    assert "(1, 2, 4, 8), got 3" in answer.stderr
    assert not (segsvc.folder / "model").exists()


def test_workers_without_a_cluster_are_refused(segsvc: Program) -> None:
    sets.mask_folder(segsvc.folder / "data", train=4, val=2)
    answer = segsvc(*TRAIN, "--workers", "2", "--out", "model")
    assert answer.code == 2
    assert "expected --executor ray with it, got 2 workers inline" in answer.stderr
    assert not (segsvc.folder / "model").exists()
