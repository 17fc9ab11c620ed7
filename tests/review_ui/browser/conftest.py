"""A real Chromium on a real server, on a ledger in SQLite and one in PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from review_ui.app import create_app
from review_ui.picture_cache import PictureCache
from review_ui.pictures import Pictures
from review_ui.service import Service
from segsvc.ledger import candidates, decisions
from segsvc.ledger.intake import import_run
from segsvc.ledger.opening import Ledger, open_ledger
from segsvc.ledger.records import LOCAL, Decision, Item, Reader, ReviewPolicy
from segsvc.readers import ReadLimits
from segsvc.settings import RecordSettings
from tests.conftest import Program, write_model
from tests.postgres_server import new_database, postgres_server
from tests.review_ui.serving import serving
from tests.scenes import scene

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PLACES = ("/usr/lib/chromium/chromium", "/snap/bin/chromium", "/opt/google/chrome/chrome",
          "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
SCRIPT = "<img src=x onerror=alert(1)>"  # a class, and part of a file's name
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)


def chromium() -> str:
    """Where Chromium is on this machine."""
    found = [path for name in NAMES if (path := shutil.which(name))] + [path for path in PLACES if Path(path).exists()]
    if not found:
        pytest.fail(f"the tests of the page want a Chromium: none on the PATH ({', '.join(NAMES)}) nor in the usual places. "
                    "Install it: `apt-get install chromium-headless-shell`, or chromium")
    return found[0]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])  # root has none
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def scripted_run(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], shared_home: Path) -> Path:
    """A run over generated scenes of two classes, one of which is a script, as is the name of an image."""
    folder = tmp_path_factory.mktemp("scripted")
    write_model(folder / "models", name="scripted", classes=("bright", SCRIPT))
    (folder / "images").mkdir()
    for number in range(8):
        name = f"scene-{number}.png" if number else "<script>alert(2)<script>.png"
        image = scene(number, width_px=640, height_px=480, objects=7)
        (folder / "images" / name).write_bytes(cv2.imencode(".png", image)[1].tobytes())
    done = Program(environment, folder)("run", "images", "--model", folder / "models" / "scripted", "--out", "OUT",
                                        "--flag-at", "0.5")
    assert done.code == 0, done.stderr
    return folder / "OUT"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with postgres_server() as address:
        yield address


on_both = pytest.mark.parametrize("place", ["SQLite", "PostgreSQL"], indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the ledger of a test is: in SQLite, or with `on_both` on each kind of database."""
    kind = getattr(request, "param", "SQLite")
    return str(tmp_path / "ledger") if kind == "SQLite" else new_database(request.getfixturevalue("postgres"))


@dataclass
class Server:
    """A server on a ledger with one run; it can be ended, and begun again at the same address."""

    ledger: Ledger
    run_id: str
    reader: Reader
    folder: Path
    is_local: bool
    url: str = ""
    _stack: ExitStack | None = None

    @property
    def page_url(self) -> str:
        return f"{self.url}/review/{self.run_id}"

    def begin(self) -> None:
        pictures = Pictures(PictureCache(self.folder / "pictures", limit_bytes=10**8), ReadLimits())
        app = create_app(Service(self.ledger, pictures, is_local=self.is_local))
        self._stack = ExitStack()
        port = int(self.url.rsplit(":", 1)[1]) if self.url else 0
        self.url = self._stack.enter_context(serving(app, port=port))

    def end(self) -> None:
        if self._stack is not None:
            self._stack.close()
            self._stack = None

    def mine(self) -> list[Decision]:
        """The reader's decisions that hold, the first first."""
        return decisions.mine(self.ledger, self.reader, self.run_id, 500)[::-1]

    def standing(self) -> list[tuple[str, str]]:
        """The same: candidate and verdict."""
        return [(each.candidate_id, each.verdict.value) for each in self.mine()]

    def history(self, candidate_id: str) -> list[str]:
        """The verdicts on a candidate, also those that were undone."""
        return [each.verdict.value for each in self.item(candidate_id).decisions]

    def item(self, candidate_id: str) -> Item:
        return candidates.find(self.ledger, LOCAL, candidate_id)


@contextmanager
def served_at(place: str, out: Path, folder: Path, *, policy: ReviewPolicy | None = None, is_local: bool = True,
              reader: Reader = LOCAL) -> Iterator[Server]:
    with open_ledger(place, serving=True, record=RecordSettings(anchors=str(folder / "anchors.jsonl"))) as ledger:
        run = import_run(ledger, str(out), policy or ReviewPolicy(audit_share=0.0, gold_share=0.0))
        server = Server(ledger, run.run_id, reader, folder, is_local)
        server.begin()
        try:
            yield server
        finally:
            server.end()


@pytest.fixture
def server(scripted_run: Path, tmp_path: Path, in_process: Callable[[], None], place: str) -> Iterator[Server]:
    """A server that nobody needs to sign in to."""
    with served_at(place, scripted_run, tmp_path) as server:
        yield server


class Reviewer:
    """A person in front of the page."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))
        page.on("console", lambda message: self.complaints.append(message.text)
                if message.type == "error" and "Failed to load resource" not in message.text else None)

    @property
    def stage(self) -> Locator:
        return self.page.locator("#stage")

    def open(self, query: str = "") -> str:
        self.page.goto(self.url + query)
        return self.sees()

    def sees(self, *, after: str | None = None) -> str:
        """The candidate that is painted, once it is another than `after`."""
        if after is not None:
            expect(self.stage).not_to_have_attribute("data-candidate", after)
        expect(self.stage).to_have_class("")
        return str(self.stage.get_attribute("data-candidate"))

    def press(self, *keys: str) -> str:
        """Presses keys that decide or undo, each once the candidate before is gone; returns what is seen then."""
        seen = self.sees()
        for key in keys:
            self.page.keyboard.press(key)
            seen = self.sees(after=seen)
        return seen

    def all_saved(self) -> None:
        expect(self.page.locator("#waiting")).to_have_attribute("data-state", "calm")

    def said(self, text: str) -> None:
        expect(self.page.locator("#said")).to_contain_text(text)

    def fact(self, name: str) -> Locator:
        return self.page.locator(f"#fact-{name}")


@pytest.fixture
def reviewer(browser: Browser, server: Server) -> Iterator[Reviewer]:
    """A person with a keyboard; the page may not complain of anything."""
    with person(browser, server.page_url) as reviewer:
        yield reviewer


@contextmanager
def person(browser: Browser, url: str, **how: Any) -> Iterator[Reviewer]:
    context = browser.new_context(**{"viewport": {"width": 1100, "height": 760}, **how})
    context.set_default_timeout(PATIENCE_MS)
    reviewer = Reviewer(context.new_page(), url)
    yield reviewer
    context.close()
    assert reviewer.complaints == []
