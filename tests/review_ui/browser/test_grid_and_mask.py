"""Many decided at once, and masks and texts corrected by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, expect

from segsvc.imaging import masks
from segsvc.ledger import candidates
from segsvc.ledger.records import LOCAL
from tests.ledger.runs import Drawn, write_run
from tests.review_ui.browser.conftest import SCRIPT, Reviewer, Server, on_both, person, served_at


@on_both
def test_in_the_grid_all_are_accepted_but_those_that_were_clicked_and_undone_together(
    reviewer: Reviewer, server: Server,
) -> None:
    reviewer.open("?class_name=bright")
    reviewer.page.keyboard.press("g")
    cells, words = reviewer.page.locator(".cell"), reviewer.page.locator("#grid-words")
    expect(cells).to_have_count(24)
    cells.nth(1).click()
    cells.nth(5).click()
    cells.nth(5).click()
    expect(words).to_have_text("Accept 23, reject 1")
    reviewer.page.keyboard.press("a")
    reviewer.said("Accept 23, reject 1")
    expect(words).not_to_contain_text("reject")
    reviewer.all_saved()
    verdicts = [verdict for _, verdict in server.standing()]
    assert (verdicts.count("accepted"), verdicts.count("rejected")) == (23, 1)
    assert {server.item(candidate).class_name for candidate, _ in server.standing()} == {"bright"}
    reviewer.page.keyboard.press("Backspace")
    reviewer.said("Undone: 24")
    reviewer.all_saved()
    assert server.standing() == []
    reviewer.page.keyboard.press("g")
    reviewer.sees()


def test_the_grid_shows_another_class_when_asked(reviewer: Reviewer, server: Server) -> None:
    reviewer.open()
    reviewer.page.get_by_role("button", name="Grid").click()
    reviewer.page.locator("#grid-class").select_option(SCRIPT)
    named = re.compile(re.escape(f"Reject {SCRIPT} in"))
    expect(reviewer.page.locator(".cell").first).to_have_attribute("aria-label", named)
    reviewer.page.get_by_role("button", name="Accept").click()
    reviewer.all_saved()
    assert {server.item(candidate).class_name for candidate, _ in server.standing()} == {SCRIPT}


@on_both
def test_a_mask_is_corrected_by_brush_and_polygon(reviewer: Reviewer, server: Server) -> None:
    before = next(item for item in candidates.page(server.ledger, LOCAL, server.run_id, limit=50).items
                  if 240 < item.x0 < item.x1 < 400 and 180 < item.y0 < item.y1 < 300)  # so that the stage can centre it
    candidate = reviewer.open(f"?candidate={before.candidate_id}")
    reviewer.page.keyboard.press("m")
    tools, stage = reviewer.page.locator("#editor"), reviewer.stage.bounding_box()
    assert stage is not None
    expect(tools).to_be_visible()
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    tools.get_by_text("Eraser").click()
    reviewer.page.mouse.move(x - 3, y)
    reviewer.page.mouse.down()
    reviewer.page.mouse.move(x + 3, y, steps=3)
    reviewer.page.mouse.up()
    tools.get_by_text("Polygon").click()
    for across, down in ((-140, -140), (-60, -140), (-60, -90), (-140, -90), (-140, -140)):
        reviewer.page.mouse.click(x + across, y + down)
    reviewer.page.keyboard.press("Enter")
    reviewer.sees(after=candidate)
    reviewer.all_saved()
    decision, = server.mine()
    assert (decision.candidate_id, decision.verdict.value) == (candidate, "edited")
    assert before.mask_rle is not None and decision.mask_rle is not None and decision.box is not None
    box = decision.box
    edited = masks.decode(decision.mask_rle.encode(), height_px=box.height_px, width_px=box.width_px)
    old = masks.decode(before.mask_rle.encode(), height_px=before.box.height_px, width_px=before.box.width_px)
    frame = np.zeros((2, before.height_px, before.width_px), bool)
    frame[0, before.y0: before.y1, before.x0: before.x1] = old
    frame[1, box.y0: box.y1, box.x0: box.x1] = edited
    assert (frame[0] & ~frame[1]).any()  # erased
    assert (frame[1] & ~frame[0]).any()  # added
    assert edited.any(axis=0).all() or edited[:, [0, -1]].any(axis=0).all()  # the box is as small as the mask
    assert edited[[0, -1]].any(axis=1).all()


def test_a_mask_that_was_only_looked_at_is_kept_to_the_px(reviewer: Reviewer, server: Server) -> None:
    candidate = reviewer.open()
    reviewer.page.keyboard.press("m")
    reviewer.page.keyboard.press("Enter")
    reviewer.sees(after=candidate)
    reviewer.all_saved()
    decision, before = server.mine()[0], server.item(candidate)
    assert (decision.mask_rle, decision.box) == (before.mask_rle, before.box)


def test_a_correction_is_taken_back_step_by_step_and_given_up(reviewer: Reviewer, server: Server) -> None:
    candidate = reviewer.open()
    reviewer.page.keyboard.press("m")
    stage = reviewer.stage.bounding_box()
    assert stage is not None
    reviewer.page.mouse.click(stage["x"] + 40 + stage["width"] / 2, stage["y"] + stage["height"] / 2)
    reviewer.page.keyboard.press("x")  # no verdict while a mask is corrected
    reviewer.page.keyboard.press("Backspace")  # takes the dab back
    reviewer.page.keyboard.press("Enter")
    reviewer.sees(after=candidate)
    second = reviewer.sees()
    reviewer.page.keyboard.press("m")
    reviewer.page.keyboard.press("Escape")
    expect(reviewer.page.locator("#editor")).to_be_hidden()
    assert reviewer.sees() == second
    reviewer.all_saved()
    before = server.item(candidate)
    assert [(each.candidate_id, each.mask_rle) for each in server.mine()] == [(candidate, before.mask_rle)]


def test_what_was_read_is_corrected(browser: Browser, tmp_path: Path, in_process: Callable[[], None]) -> None:
    write_run(tmp_path / "read", [Drawn("sign", 0.5, text="ST0P"), Drawn("sign", 0.6, text="EXIT")])
    with (served_at(str(tmp_path / "ledger"), tmp_path / "read", tmp_path) as server,
          person(browser, server.page_url) as reviewer):
        first = reviewer.open()
        expect(reviewer.page.locator("#question")).to_have_text("Does this read “ST0P”?")
        reviewer.page.keyboard.press("m")
        field = reviewer.page.locator("#text-words")
        expect(field).to_have_value("ST0P")
        field.fill("never kept")
        reviewer.page.keyboard.press("Escape")
        expect(field).to_be_hidden()
        reviewer.page.keyboard.press("m")
        expect(field).to_have_value("ST0P")
        field.fill("STOP")
        reviewer.page.get_by_role("button", name="Save", exact=True).click()
        reviewer.sees(after=first)
        reviewer.all_saved()
        decision, = server.mine()
        assert (decision.candidate_id, decision.verdict.value, decision.text) == (first, "edited", "STOP")
