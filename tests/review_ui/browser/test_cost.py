"""The slider over recall in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from segsvc.ledger.records import ReviewPolicy
from segsvc.settings import settings
from tests.calibrated import RECALLS, calibrated_run, point, proof, write_calibrated_model
from tests.ledger.runs import Drawn, put_bands, write_run
from tests.listings import make
from tests.review_ui.browser.conftest import SCRIPT, Server, person, served_at
from tests.review_ui.browser.test_pages import LOOKS, faults

LONG = "a class whose name is long, such as people give who know what they look for"
DRAWN = [Drawn("cell", place / 100, place % 7) for place in range(100)]


@pytest.fixture
def costly(tmp_path: Path, in_process: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on a calibrated run with a class of which nothing is promised, and a calibrated model."""
    calibration = point(cell=proof(RECALLS, beyond={0.98: 30, 0.99: None}))
    calibrated_run(tmp_path / "out", [*DRAWN, Drawn(SCRIPT, 0.5)], calibration)
    write_calibrated_model(tmp_path / "models", "cells", calibration)
    monkeypatch.setenv("SEGSVC_MODELS_DIR", str(tmp_path / "models"))
    settings.cache_clear()
    with served_at(str(tmp_path / "ledger"), tmp_path / "out", tmp_path) as server:
        yield server


def test_the_slider_shows_what_each_recall_costs_and_what_puts_it_in_force(browser: Browser, costly: Server) -> None:
    with person(browser, f"{costly.page_url}/cost") as reviewer:
        page = reviewer.page
        page.goto(reviewer.url)
        expect(page.locator("#cost-says")).to_contain_text("At recall 0.95 you will review 61 candidates of 7 images")
        expect(page.locator("#cost-review")).to_have_text("61")
        page.locator("#recall").focus()
        for shown, told in (("0.9", "51"), ("0.8", "31")):
            page.keyboard.press("ArrowLeft")
            expect(page.locator("#recall-words")).to_have_text(shown)
            expect(page.locator("#cost-review")).to_have_text(told)
        expect(page.locator("#command")).to_contain_text("/out --recall 0.8")
        page.keyboard.press("End")
        expect(page.locator("#short")).to_contain_text("no number of images would do")
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#short")).to_contain_text("label about 60 images more")
        expect(page.locator("#wording")).to_contain_text(f"Nothing is promised for {SCRIPT}")
        expect(page.locator("#rows tr")).to_have_count(5)


def test_a_model_is_told_for_as_many_images_as_are_typed(browser: Browser, costly: Server) -> None:
    with person(browser, f"{costly.url}/cost?model=cells") as reviewer:
        page = reviewer.page
        page.goto(reviewer.url)
        expect(page.locator("#cost-review")).to_have_text("500")
        page.locator("#images").fill("20000")
        expect(page.locator("#cost-review")).to_have_text("10,000")
        expect(page).to_have_url(f"{costly.url}/cost?model=cells&images=20000")
        page.locator("#images").fill("")
        expect(page.locator("#cost-review")).to_have_text("10,000")


def test_the_images_of_a_folder_are_counted_for_a_model(browser: Browser, costly: Server, tmp_path: Path) -> None:
    make(tmp_path / f"street {SCRIPT.replace('/', '')}", *(f"{number}.png" for number in range(40)), "notes.txt")
    with person(browser, f"{costly.url}/cost?model=cells") as reviewer:
        page = reviewer.page
        page.goto(reviewer.url)
        expect(page.locator("#cost-review")).to_have_text("500")
        field = page.get_by_label("Count them")
        field.fill(str(tmp_path / f"street {SCRIPT.replace('/', '')}"))
        field.press("Enter")
        expect(page.locator("#counted-says")).to_have_text("40 images; 1 other is passed over.")
        expect(page.locator("#cost-review")).to_have_text("20")
        expect(page.locator("#images")).to_have_value("40")
        expect(page).to_have_url(f"{costly.url}/cost?model=cells&images=40")
        field.fill(f"/nowhere/{SCRIPT}")
        page.get_by_role("button", name="Count").click()
        expect(page.locator("#counted-says")).to_contain_text(SCRIPT)
        expect(page.locator("#counted-says")).to_contain_text("expected a file, folder, glob or manifest")
        expect(page.locator("#images")).to_have_value("40")


def test_bounds_stand_beside_classes_of_long_names(browser: Browser, tmp_path: Path, in_process: object) -> None:
    write_run(tmp_path / "out", [Drawn(name, place / 50, place % 7) for place in range(50) for name in ("cell", LONG)])
    put_bands(tmp_path / "out", 0.3, None)
    policy = ReviewPolicy(audit_share=0.5, gold_share=0.0, seed=1)
    with served_at(str(tmp_path / "ledger"), tmp_path / "out", tmp_path, policy=policy) as server, person(
            browser, server.page_url) as reviewer:
        page = reviewer.page
        page.goto(reviewer.url)
        expect(page.locator("#missed dt").filter(has_text=LONG)).to_be_visible()
        assert page.evaluate("() => [...document.querySelectorAll('aside, aside dl')].filter((each) => "
                             "each.scrollWidth > each.clientWidth).length") == 0
        assert page.evaluate("() => document.documentElement.scrollHeight - innerHeight") == 0


@pytest.mark.parametrize(("scheme", "width"), LOOKS)
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_window(browser: Browser, costly: Server, scheme: str,
                                                                        width: int) -> None:
    how = {"viewport": {"width": width, "height": 740}, "color_scheme": scheme, "reduced_motion": "reduce"}
    with person(browser, costly.url, **how) as reviewer:
        for path in (f"/review/{costly.run_id}/cost", "/cost?model=cells", "/cost?model=nuclei"):
            reviewer.page.goto(costly.url + path)
            expect(reviewer.page.locator("#cost-says")).not_to_contain_text("Counting")
            assert (path, faults(reviewer.page)) == (path, [])
            assert reviewer.page.evaluate("() => document.documentElement.scrollWidth") == width
