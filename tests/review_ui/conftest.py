"""A run that was really made, and a server on a ledger with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest

from review_ui.app import create_app
from review_ui.picture_cache import PictureCache
from review_ui.pictures import Pictures
from review_ui.service import Service
from segsvc import plugins
from segsvc.card import ModelCard
from segsvc.ledger.intake import import_run
from segsvc.ledger.opening import Ledger, open_ledger
from segsvc.ledger.records import ReviewPolicy
from segsvc.readers import ReadLimits
from segsvc.settings import settings
from tests.conftest import Program
from tests.review_ui.serving import serving
from tests.s3_servers import below, use, weed
from tests.scenes import write_scenes

__all__ = ["below", "use", "weed"]


@dataclass(frozen=True)
class MadeRun:
    """A run's folder and its images."""

    out: Path
    images: Path


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], bright: ModelCard) -> MadeRun:
    """Twelve generated scenes, of which rules accept nothing, so that all that was found is for review."""
    folder = tmp_path_factory.mktemp("made-run")
    write_scenes(folder / "images", 12)
    done = Program(environment, folder)("run", "images", "--model", "bright", "--out", "OUT", "--flag-at", "0.5")
    assert done.code == 0, done.stderr
    return MadeRun(folder / "OUT", folder / "images")


@dataclass(frozen=True)
class Served:
    """A server, its ledger with one run, and a client that knows its address."""

    url: str
    ledger: Ledger
    run_id: str
    client: httpx.Client

    def lease(self, n: int = 5, **more: object) -> list[dict[str, object]]:
        answer = self.client.post(f"/v1/review/runs/{self.run_id}/lease", json={"n": n, **more})
        assert answer.status_code == 200, answer.text
        items: list[dict[str, object]] = answer.json()["items"]
        return items

    def decide(self, item: dict[str, object], **body: object) -> httpx.Response:
        return self.client.post(f"/v1/candidates/{item['candidate_id']}/decisions", json=body,
                                headers={"If-Match": f'"{item["tag"]}"'})


Serve = Callable[..., Served]


def begun(stack: ExitStack, folder: Path, out: Path, policy: ReviewPolicy, *, is_local: bool) -> Served:
    """A server on a new ledger with the run in it; it ends with the stack."""
    ledger = stack.enter_context(open_ledger(str(folder / "ledger"), serving=True))
    run = import_run(ledger, str(out), policy)
    pictures = Pictures(PictureCache(folder / "pictures", limit_bytes=10**8), ReadLimits())
    url = stack.enter_context(serving(create_app(Service(ledger, pictures, is_local=is_local))))
    return Served(url, ledger, run.run_id, stack.enter_context(httpx.Client(base_url=url, timeout=60)))


@pytest.fixture
def serve(made_run: MadeRun, tmp_path: Path, in_process: Callable[[], None]) -> Iterator[Serve]:
    """Serves a ledger of its own with the run in it: `serve(policy, is_local=...)`."""
    with ExitStack() as stack:
        def begin(policy: ReviewPolicy | None = None, *, is_local: bool = True, out: Path | None = None) -> Served:
            return begun(stack, tmp_path, out or made_run.out, policy or ReviewPolicy(), is_local=is_local)

        yield begin


@pytest.fixture
def served(serve: Serve) -> Served:
    """A server that nobody needs to sign in to."""
    return serve()


@pytest.fixture(scope="module")
def shared(made_run: MadeRun, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same, of all tests of a module that leave nothing behind in the ledger."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name, value in environment.items():
            if name.startswith("SEGSVC_"):
                patch.setenv(name, value)
        settings.cache_clear()
        plugins.forget()
        yield begun(stack, tmp_path_factory.mktemp("shared"), made_run.out, ReviewPolicy(), is_local=True)
    settings.cache_clear()
