"""Training by Ray: the loop of `segsvc.training` in several workers, each with its share of every batch (Ray Train).

The workers learn and leave their state in the model's folder; what called for them goes on from there as if it had learnt
alone. So Ray is never asked what was learnt, and a worker that dies costs the steps since the last round.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from jobs.cluster import Wanted, first_line, how_it_ended, patience_s
from jobs.driver import BEAT_S, GONE, Beat, Done, Note, Stop
from jobs.place import RayPlace, connected
from segsvc.asking import Say
from segsvc.errors import ConfigError, RunError
from segsvc.models.library import find_model
from segsvc.training.group import LOST, Joined
from segsvc.training.recipe import TrainingRequest
from segsvc.training.starts import IMAGENET, RANDOM
from segsvc.training.trainer import STATE, take_part, train
from segsvc.types import Runtime

_SAID = "said.log"  # in the folder of the state: what the first worker has to say
_RAY = "ray"  # there too: what Ray Train writes


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """What is to be learnt, by how many workers, and what each of them takes of a node."""

    request: TrainingRequest
    workers: int
    cpus: float
    gpus: float


def train_by_ray(request: TrainingRequest, say: Say, *, workers: int | None, threads: int | None) -> Path:
    """As `segsvc.training.trainer.train`, by workers of the cluster at RAY_ADDRESS, or of one on this machine.

    workers: they share every batch in equal parts; None takes as many as there is room for and the batch can be shared by.
    Raises ConfigError where the cluster is out of reach or the batch cannot be shared so; RunError where a worker is lost.
    """
    with connected(say, serve_training) as place:
        runtime = Runtime.TORCH_CUDA if place.has_gpus else Runtime.TORCH_CPU
        room, each = place.spread(workers, threads, runtime)

        def by_others(asked: TrainingRequest, examples_a_step: int) -> None:
            number = sharing(examples_a_step, workers=workers, room=room)
            say(f"learning in {number} worker{'s' if number != 1 else ''} of {each} thread{'s' if each != 1 else ''}")
            _follow(place, TrainingOrder(asked, number, *place.shares(each, runtime)), say)

        return train(replace(_everywhere(request), threads=each), say, by_others)


def sharing(examples: int, *, workers: int | None, room: int) -> int:
    """How many workers share a batch in equal parts. Raises ConfigError where that many cannot, naming numbers that can."""
    able = [number for number in range(1, examples + 1) if examples % number == 0]
    if workers is None:
        return max(number for number in able if number <= max(1, room))
    if workers not in able:
        raise ConfigError(f"--workers: expected a number that the batch of {examples} examples can be shared by in equal "
                          f"parts ({', '.join(map(str, able))}), got {workers}")
    return workers


def _everywhere(request: TrainingRequest) -> TrainingRequest:
    """The request, as workers of other nodes and in other folders understand it."""
    init = request.init
    if init not in (IMAGENET, RANDOM):
        init = str(find_model(init).folder)
    dataset = request.dataset
    if "://" not in dataset:
        dataset = str(Path(dataset).resolve())
    return replace(request, dataset=dataset, out=request.out.resolve(), init=init)


def _follow(place: RayPlace, order: TrainingOrder, say: Say) -> None:
    """Has the workers learn, in the driver's process. Raises RunError where that ends before its time."""
    driver = place.driver(order.workers, order.cpus, order.gpus)
    try:
        if not place.on_a_cluster:
            driver.start()
            driver.ready(lambda: None)
        driver.send(order)
        while not isinstance(report := driver.receive(patience_s=patience_s()), Done):
            if isinstance(report, Note):
                say(report.text)
    finally:
        driver.stop()


# -- in the driver's process -------------------------------------------------------------------------------------------


def serve_training(connection: Connection, wanted: Wanted) -> None:
    """One training, after its `TrainingOrder`. Raises RunError where a worker is lost, ConfigError as the workers do."""
    order = connection.recv()
    if not isinstance(order, TrainingOrder):
        return
    said, over = order.request.out / STATE / _SAID, threading.Event()
    said.unlink(missing_ok=True)
    threading.Thread(target=_until_stopped, args=(connection,), name="commands", daemon=True).start()
    relay = threading.Thread(target=_relay, args=(connection, said, over), name="relay", daemon=True)
    relay.start()
    try:
        _fit(order, on_this_machine=wanted.address is None)
    finally:
        over.set()
        relay.join()
    connection.send(Done())


def _until_stopped(connection: Connection) -> None:
    """Ends this process, and with it all that it asked of Ray, when it is told to or left alone."""
    with suppress(EOFError, OSError):
        while not isinstance(connection.recv(), Stop):
            continue
    os._exit(0)


def _relay(connection: Connection, said: Path, over: threading.Event) -> None:
    """Passes on what the first worker says, and that this process lives."""
    place, is_last = 0, False
    with suppress(OSError):
        while not is_last:
            is_last = over.wait(BEAT_S)
            if said.exists():
                text = said.read_bytes()[place:]
                whole = text[: text.rfind(b"\n") + 1]
                place += len(whole)
                for line in whole.decode("utf-8", "replace").splitlines():
                    connection.send(Note(line))
            connection.send(Beat())


def _fit(order: TrainingOrder, *, on_this_machine: bool) -> None:
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    from ray.exceptions import RayError
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        _worker, train_loop_config={"order": order, "on_this_machine": on_this_machine},
        scaling_config=ScalingConfig(num_workers=order.workers, use_gpu=order.gpus > 0,
                                     resources_per_worker=_resources(order)),
        run_config=RunConfig(name=_RAY, storage_path=str(order.request.out / STATE),
                             failure_config=FailureConfig(max_failures=0)))
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise _translated(error) from error
    except RayError as error:
        raise RunError(GONE.format(first_line(error))) from error


def _resources(order: TrainingOrder) -> dict[str, float]:
    return {"CPU": order.cpus, **({"GPU": order.gpus} if order.gpus else {})}


def _translated(error: Exception) -> ConfigError | RunError:
    """What is told of a training that failed: what a worker says itself before what Ray says of it."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    causes = [(rank, getattr(each, "cause", None) or each) for rank, each in sorted(failures.items())]
    for _, cause in causes:
        if isinstance(cause, ConfigError):
            return cause
    for rank, cause in causes:
        if LOST not in str(cause):
            how = str(cause) if isinstance(cause, RunError) else how_it_ended(cause)
            return RunError(f"worker {rank} of the training {how}. What was learnt is kept: the same command with --resume "
                            "goes on.")
    return RunError(f"the training ended before its time ({first_line(error)}). What was learnt is kept: the same command "
                    "with --resume goes on.")


# -- in each worker ----------------------------------------------------------------------------------------------------


def _worker(config: dict[str, Any]) -> None:
    order: TrainingOrder = config["order"]
    take_part(order.request, _saying(order.request.out / STATE / _SAID), Joined())


def _saying(said: Path) -> Callable[[str], None]:
    def say(line: str) -> None:
        with said.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    return say
