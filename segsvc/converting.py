"""Converting a model in a process of its own: what it takes of memory ends with it, and Ctrl-C ends it at once."""

from __future__ import annotations

import multiprocessing
import multiprocessing.resource_tracker
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection

from segsvc.errors import ConfigError, SegsvcError
from segsvc.models.library import Model
from segsvc.models.runtime import Chosen, choose_runtime, is_ready
from segsvc.settings import RuntimeChoice
from segsvc.types import Runtime


def ready_runtime(model: Model, choice: RuntimeChoice, say: Callable[[str], None]) -> Runtime:
    """The runtime for the model; where it must be converted first, that is said by `say`."""
    if is_ready(model, choice):
        return choose_runtime(model, choice).runtime
    say(f"converting {model.name} for this machine, once ...")
    chosen = _elsewhere(model, choice)
    if chosen.fallback_reason is not None:
        say(f"note: {model.name} runs on {chosen.runtime.value}: {chosen.fallback_reason}")
    return chosen.runtime


def _elsewhere(model: Model, choice: RuntimeChoice) -> Chosen:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_choose, args=(there, model, choice), daemon=True)
    multiprocessing.resource_tracker.ensure_running()  # which would unblock signals, were it started later
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the child inherits that: Ctrl-C is ours alone
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    there.close()
    try:
        answer: Chosen | SegsvcError | OSError = here.recv()
    except EOFError as error:
        process.join()
        raise ConfigError(f"model {model.name}: the process that converts it died (exit {process.exitcode}; memory?). "
                          "Use --runtime torch-cpu.") from error
    finally:
        process.kill()
        process.join()
        here.close()
    if isinstance(answer, Chosen):
        return answer
    raise answer


def _choose(connection: Connection, model: Model, choice: RuntimeChoice) -> None:
    try:
        connection.send(choose_runtime(model, choice))
    except (SegsvcError, OSError) as error:
        connection.send(error)
