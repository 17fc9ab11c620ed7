"""What all tests share: a model whose answers are known, folders of their own, and `segsvc` as a program."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from segsvc import plugins
from segsvc.card import ClassNode, Extraction, ModelCard, Normalisation, Task
from segsvc.settings import settings
from tests.forks import NEED_TORCH, TORCH, Begun, Forks

Started = Begun | subprocess.Popen[str]
PLUGINS = Path(__file__).parent / "plugins"
_TIMEOUT_S = 240  # the machine may be busy with other tests
_FORKS: dict[tuple[str, ...], Forks] = {}
# Files that take longest, and so begin first: of those that begin last, one may go on alone.
LONGEST = (
    "e2e/test_runs.py", "cli/test_jobs.py", "e2e/test_triggers.py", "review_ui/browser/test_label_page.py",
    "cli/test_exports.py", "cli/test_ledger.py", "cli/test_calibrate.py", "cli/test_sample.py", "cli/test_train.py",
    "cli/test_bands.py", "e2e/test_loop.py", "cli/test_serve.py", "cli/test_usage.py", "review_ui/browser/test_outbox.py",
    "training/test_trainer.py", "models/test_runtime.py", "cli/test_evaluate.py", "cli/test_improve.py")
RAY = (  # these begin Ray, which takes all cores for half a minute: one after the other, by the first of the workers
    "jobs/test_cluster.py", "jobs/test_train.py", "jobs/test_submit.py", "jobs/test_local.py", "chaos/test_s3.py",
    "e2e/test_readme.py")

# Threads that wait for work would turn round on cores that other tests want.
for spinning, how in (("OMP_WAIT_POLICY", "passive"), ("OPENBLAS_NUM_THREADS", "1")):
    os.environ.setdefault(spinning, how)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background: what tests interrupt would not hear
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Of `-n auto`: more than there are cores, as tests wait for browsers, servers and processes a third of their time."""
    cores = os.cpu_count() or 1
    return cores + (cores + 1) // 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of files."""
    places = {f"tests/{name}": place for place, name in enumerate((*RAY, *LONGEST))}
    items.sort(key=lambda item: places.get(item.location[0], len(places)))


class ByFile(LoadFileScheduling):
    """A file's tests are one worker's, as they share what they set up; those that begin Ray are all of the same one."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "ray" if file.removeprefix("tests/") in RAY else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    return ByFile(config, log)


def write_model(folder: Path, *, name: str = "bright", classes: tuple[str, ...] = ("bright",), channels: int = 1,
                extraction: Extraction | None = None, tile_px: int = 64, overlap_px: int = 16) -> ModelCard:
    """A folder with a model of the family `brightness`, and its card."""
    import safetensors.torch
    from segsvc_test_plugins.brightness import Brightness

    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    weights = place / "model.safetensors"
    safetensors.torch.save_file(Brightness(channels, len(classes)).state_dict(), weights)
    card = ModelCard(
        name=name, family="brightness", task=Task.SEMANTIC, arch="brightness",
        classes=tuple(ClassNode(name=each) for each in classes), channels=1 if channels == 1 else 3,
        weights_sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        normalisation=Normalisation(mean=(0.0,) * channels, std=(1.0,) * channels), tile_px=tile_px,
        overlap_px=overlap_px, extraction=extraction or Extraction(extent_min=0.5, floor=0.9, min_area_px=4),
        licence="Apache-2.0", description="Finds what is brighter than grey.")
    (place / "card.json").write_text(card.to_json())
    return card


def forks(loaded: tuple[str, ...]) -> Forks:
    """What begins programs quickly in this process's tests."""
    if loaded not in _FORKS:
        _FORKS[loaded] = Forks({**os.environ, "PYTHONPATH": str(PLUGINS)}, loaded)
    return _FORKS[loaded]


def pytest_sessionfinish() -> None:
    for each in _FORKS.values():
        each.close()
    from tests.s3_servers import end_shared  # xdist gives its workers ten seconds to end: not all of them are quick

    end_shared()


@dataclass(frozen=True)
class Answer:
    """What a program said."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Program:
    """`segsvc` as a user runs it."""

    environment: Mapping[str, str]
    folder: Path

    def start(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> Started:
        """The program, as it begins. Where it can be, it comes out of a process that has loaded its modules."""
        whole, out_of = self._whole(environment), self._out_of(arguments)
        if out_of.suit(whole):
            return out_of.start([str(each) for each in arguments], self.folder, whole)
        return self.start_anew(*arguments, environment=environment)

    def start_anew(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """The same as a Python of its own, which loads what it needs and is seen by its command line."""
        return subprocess.Popen(
            [sys.executable, "-m", "segsvc", *map(str, arguments)], cwd=self.folder, text=True,
            env=self._whole(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def _whole(self, environment: Mapping[str, str] | None) -> dict[str, str]:
        return {**self.environment, **(environment or {})}

    def _out_of(self, arguments: Sequence[str | Path]) -> Forks:
        return forks(TORCH if arguments and arguments[0] in NEED_TORCH else ())

    def __call__(self, *arguments: str | Path, environment: Mapping[str, str] | None = None, stdin: str = "") -> Answer:
        """What it says when it has ended. Where it can be, it comes out of a process that has loaded its modules."""
        whole, out_of = self._whole(environment), self._out_of(arguments)
        if out_of.suit(whole):
            return Answer(*out_of.ask([str(each) for each in arguments], self.folder, whole, stdin, _TIMEOUT_S))
        return self.anew(*arguments, environment=environment, stdin=stdin)

    def anew(self, *arguments: str | Path, environment: Mapping[str, str] | None = None, stdin: str = "") -> Answer:
        """The same from a Python of its own, which loads what it needs."""
        done = subprocess.run(
            [sys.executable, "-m", "segsvc", *map(str, arguments)], cwd=self.folder, text=True, input=stdin,
            env=self._whole(environment), capture_output=True, timeout=_TIMEOUT_S, check=False)
        return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and cache of this test session; the converted model is made once."""
    home = tmp_path_factory.getbasetemp().parent / "segsvc-home" if "PYTEST_XDIST_WORKER" in os.environ else (
        tmp_path_factory.mktemp("segsvc-home"))
    home.mkdir(exist_ok=True)
    return home


@pytest.fixture(scope="session")
def environment(shared_home: Path) -> dict[str, str]:
    """The environment of every `segsvc` that a test starts: the user's own settings stay out of it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SEGSVC_")}
    if "SEGSVC_ASSETS_DIR" in os.environ:
        kept["SEGSVC_ASSETS_DIR"] = os.environ["SEGSVC_ASSETS_DIR"]
    return {**kept, "SEGSVC_MODELS_DIR": str(shared_home / "models"), "SEGSVC_CACHE_DIR": str(shared_home / "cache"),
            "PYTHONPATH": str(PLUGINS), "SEGSVC_CONFIG": str(shared_home / "none.toml")}


@pytest.fixture(scope="session")
def bright(shared_home: Path) -> ModelCard:
    """The packaged-like model `bright`: regions brighter than grey, floor 0.9, at least 4 px."""
    folder = shared_home / "models"
    import fcntl

    with (shared_home / "model.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return write_model(folder)


@pytest.fixture
def segsvc(environment: dict[str, str], bright: ModelCard, tmp_path: Path) -> Program:
    """`segsvc` as a program, in a folder of the test's own, with the model `bright`."""
    return Program(environment, tmp_path)


@pytest.fixture
def in_process(environment: dict[str, str], bright: ModelCard, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The same settings for code that a test calls itself."""
    for name, value in environment.items():
        if name.startswith("SEGSVC_"):
            monkeypatch.setenv(name, value)
    settings.cache_clear()
    plugins.forget()
    return settings.cache_clear
