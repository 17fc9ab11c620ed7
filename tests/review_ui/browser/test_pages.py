"""Every page in light and dark, narrow and wide: for everyone, and small."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, Response, expect

import review_ui
from segsvc.ledger import decisions
from segsvc.ledger.records import LOCAL, NewDecision, Verdict
from tests.ledger.runs import Drawn, write_run
from tests.review_ui.browser.conftest import Server, person, served_at

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
STATIC = Path(review_ui.__file__).parent / "static"
MOST_SCRIPT_BYTES = 40_000  # before compression
LOOKS = [("light", 1280), ("light", 360), ("dark", 1280), ("dark", 360)]


def faults(page: Page) -> list[str]:
    """What axe finds serious or critical."""
    page.evaluate(AXE)
    found = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")["violations"]
    return [f"{each['id']}: {node['html']}" for each in found if each["impact"] in ("serious", "critical")
            for node in each["nodes"]]


def for_everyone(page: Page, name: str, width: int) -> None:
    assert (name, faults(page)) == (name, [])
    across = page.evaluate("() => document.documentElement.scrollWidth")
    assert (name, across) == (name, width)  # nothing is wider than the window


def look_of(scheme: str, width: int) -> dict[str, object]:
    return {"viewport": {"width": width, "height": 740}, "color_scheme": scheme, "reduced_motion": "reduce"}


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_axe_finds_nothing_serious_on_any_page(browser: Browser, server: Server, scheme: str, width: int) -> None:
    with person(browser, server.page_url, **look_of(scheme, width)) as reviewer:
        page = reviewer.page

        def looked_at(name: str) -> None:
            for_everyone(page, name, width)

        for path in ("/review", "/login", "/review/none"):
            page.goto(server.url + path)
            looked_at(path)
        reviewer.open()
        looked_at("review")
        reviewer.press("a")
        reviewer.all_saved()
        looked_at("decided")
        for key, place in (("?", "#help"), ("n", "#note")):
            page.keyboard.press(key)
            expect(page.locator(place)).to_be_visible()
            looked_at(place)
            page.keyboard.press("Escape")
        page.keyboard.press("m")
        looked_at("mask")
        page.keyboard.press("Escape")
        page.locator("#waiting").click()
        looked_at("waiting")
        page.keyboard.press("Escape")
        page.keyboard.press("g")
        expect(page.locator(".cell").first).to_be_visible()
        page.locator(".cell").first.click()
        looked_at("grid")


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_axe_finds_nothing_serious_where_text_is_corrected_verdicts_differ_and_nothing_is_left(
    browser: Browser, tmp_path: Path, in_process: Callable[[], None], scheme: str, width: int,
) -> None:
    write_run(tmp_path / "read", [Drawn("sign", 0.5, text="ST0P"), Drawn("sign", 0.6, text="EXIT")])
    with (served_at(str(tmp_path / "ledger"), tmp_path / "read", tmp_path) as server,
          person(browser, server.page_url, **look_of(scheme, width)) as reviewer):
        first = reviewer.open()
        for_everyone(reviewer.page, "no picture", width)
        reviewer.page.keyboard.press("m")
        expect(reviewer.page.locator("#text")).to_be_visible()
        for_everyone(reviewer.page, "text", width)
        reviewer.page.keyboard.press("Escape")
        decisions.decide(server.ledger, LOCAL, first, NewDecision(Verdict.REJECTED), if_match="*")
        reviewer.press("a")
        reviewer.page.locator("#waiting[data-state=hard]").click()
        for_everyone(reviewer.page, "conflict", width)
        reviewer.page.keyboard.press("Escape")
        reviewer.page.keyboard.press("a")
        expect(reviewer.page.get_by_role("heading", name="You are up to date")).to_be_visible()
        for_everyone(reviewer.page, "end", width)


def test_while_there_is_no_connection_the_verdicts_stay_in_sight_on_a_phone(browser: Browser, server: Server) -> None:
    with person(browser, server.page_url, **look_of("light", 360)) as reviewer:
        reviewer.open()
        reviewer.page.wait_for_load_state("networkidle")
        server.end()
        reviewer.press("a")
        expect(reviewer.page.locator("#trouble")).to_be_visible()
        expect(reviewer.page.locator(".verdicts .accepted")).to_be_in_viewport(ratio=1)


def test_everything_is_reached_by_the_tab_key_and_the_focus_is_seen(browser: Browser, server: Server) -> None:
    with person(browser, server.page_url) as reviewer:
        reviewer.open()
        reached = set()
        for _ in range(40):
            reviewer.page.keyboard.press("Tab")
            reached.add(reviewer.page.evaluate("""() => { const at = document.activeElement;
                return [at.dataset.action || at.id || at.tagName, getComputedStyle(at).outlineStyle].join(" "); }"""))
        wanted = "accept reject unsure undo closer mask note help grid waiting order class".split()
        assert {f"{name} solid" for name in wanted} <= reached


def test_what_happened_is_said_to_screen_readers(browser: Browser, server: Server) -> None:
    with person(browser, server.page_url) as reviewer:
        reviewer.open()
        expect(reviewer.page.locator("#said")).to_have_attribute("aria-live", "polite")
        expect(reviewer.stage).to_have_attribute("aria-label", re.compile("^Candidate: .+ in .+"))
        reviewer.press("a")
        reviewer.said("accepted")


def test_the_scripts_are_small_and_nothing_comes_from_elsewhere(browser: Browser, server: Server) -> None:
    with person(browser, server.page_url) as reviewer:
        answers: list[Response] = []

        def heard(answer: Response) -> None:
            answers.append(answer)

        reviewer.page.on("response", heard)
        reviewer.open()
        reviewer.page.wait_for_load_state("networkidle")
        assert [each.url for each in answers if not each.url.startswith(server.url)] == []
        scripts = {each.url.rsplit("/", 1)[1]: len(each.body()) for each in answers if each.url.endswith(".js")}
        others = ("cost", "label", "runs")
        assert set(scripts) == {path.name for path in STATIC.glob("*.js") if not path.name.startswith(others)}
        assert sum(scripts.values()) <= MOST_SCRIPT_BYTES


def test_no_page_has_anything_inline() -> None:
    for path in sorted((Path(review_ui.__file__).parent / "templates").glob("*.html")):
        text = path.read_text("utf-8")
        assert (path.name, " style=" in text, " on" + "click=" in text, "<style" in text, "|safe" in text) == (
            path.name, False, False, False, False)
