"""A person reviews by keyboard."""

from __future__ import annotations

import json
import re

from playwright.sync_api import Browser, expect

from segsvc.ledger import candidates
from segsvc.ledger.records import LOCAL
from tests.review_ui.browser.conftest import SCRIPT, Reviewer, Server, on_both, person


@on_both
def test_a_key_decides_and_the_next_candidate_is_there(reviewer: Reviewer, server: Server) -> None:
    seen = [reviewer.open()]
    for key in ("a", "x", "Space", "a"):
        seen.append(reviewer.press(key))
    reviewer.all_saved()
    assert len(set(seen)) == 5
    assert server.standing() == list(zip(seen, ("accepted", "rejected", "unsure", "accepted"), strict=False))
    assert all(each.seconds is not None and each.shown_at is not None and each.shown_at < each.decided_at
               for each in server.mine())
    expect(reviewer.fact("done")).to_have_text("3")  # who is unsure leaves it to others


def test_the_next_three_pictures_are_fetched_before_they_are_wanted(browser: Browser, server: Server) -> None:
    with person(browser, server.page_url) as reviewer:
        asked: list[str] = []
        reviewer.page.on("request", lambda request: asked.append(request.url) if "width=" in request.url else None)
        reviewer.open()
        reviewer.page.wait_for_load_state("networkidle")
        for _ in range(3):
            before = len([url for url in asked if "x0=0&y0=0&" not in url])
            assert before >= 3
            reviewer.page.context.set_offline(True)  # so that the next one can only be what was fetched ahead
            reviewer.press("a")
            reviewer.page.context.set_offline(False)
            reviewer.page.evaluate("() => dispatchEvent(new Event('focus'))")
            reviewer.page.wait_for_load_state("networkidle")
        reviewer.all_saved()


def test_zoom_contrast_and_opacity_stay_while_pan_and_surroundings_do_not(reviewer: Reviewer) -> None:
    reviewer.open()
    for key in ("+", "+", "c", "]", "ArrowLeft", "o"):
        reviewer.page.keyboard.press(key)
    reviewer.said("Wider")
    kept = reviewer.page.evaluate("() => localStorage['segsvc.view']")
    assert json.loads(kept) == {"zoom": 1.5625, "contrast": 1, "opacity": 0.7}
    filtered = reviewer.page.locator("#picture").get_attribute("style")
    reviewer.press("a")
    assert reviewer.page.locator("#picture").get_attribute("style") == filtered == "filter: contrast(1.6);"
    reviewer.page.keyboard.press("o")
    reviewer.said("Wider")  # so it was as at first again
    reviewer.page.keyboard.press("0")
    reviewer.said("Zoom 100 %")


def test_a_key_that_is_held_down_decides_once(reviewer: Reviewer, server: Server) -> None:
    first = reviewer.open()
    reviewer.page.keyboard.down("a")
    second = reviewer.sees(after=first)
    for _ in range(5):
        reviewer.page.keyboard.down("a")  # repeats
    reviewer.page.keyboard.up("a")
    assert reviewer.press("x") != second
    reviewer.all_saved()
    assert server.standing() == [(first, "accepted"), (second, "rejected")]


def test_a_key_pressed_before_a_candidate_is_seen_does_not_decide_it(reviewer: Reviewer, server: Server) -> None:
    first = reviewer.open()
    reviewer.page.evaluate("""() => { for (let n = 0; n < 4; n++)
        document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "a", bubbles: true })); }""")
    reviewer.sees(after=first)
    reviewer.all_saved()
    assert server.standing() == [(first, "accepted")]


@on_both
def test_undo_goes_back_any_number_of_times_also_after_the_page_was_loaded_anew(reviewer: Reviewer, server: Server) -> None:
    seen = [reviewer.open()]
    seen += [reviewer.press(key) for key in "axaxa"]
    assert [reviewer.press("Backspace") for _ in range(2)] == [seen[4], seen[3]]
    reviewer.all_saved()
    reviewer.open()
    assert reviewer.press("Backspace") == seen[2]
    assert reviewer.press("Backspace") == seen[1]
    assert reviewer.press("Backspace") == seen[0]
    reviewer.page.keyboard.press("Backspace")
    reviewer.said("Nothing to undo")
    reviewer.all_saved()
    assert server.standing() == []
    reviewer.press("x")
    reviewer.all_saved()
    assert server.standing() == [(seen[0], "rejected")]


def test_a_link_shows_its_candidate_and_the_browsers_back_button_the_one_before(reviewer: Reviewer, server: Server) -> None:
    reviewer.open()
    wanted = candidates.page(server.ledger, LOCAL, server.run_id, limit=20).items[13].candidate_id
    assert reviewer.open(f"?candidate={wanted}") == wanted
    second = reviewer.press("a")
    assert f"candidate={second}" in reviewer.page.url
    reviewer.page.go_back()
    assert reviewer.sees(after=second) == wanted
    reviewer.said("You decided: accepted")
    reviewer.press("x")
    reviewer.all_saved()
    assert server.standing() == [(wanted, "rejected")]
    assert server.history(wanted) == ["accepted", "withdrawn", "rejected"]


def test_a_link_to_no_candidate_is_said_and_the_review_goes_on(reviewer: Reviewer) -> None:
    reviewer.open("?candidate=none")
    reviewer.said("none")


def test_a_note_goes_with_the_verdict_and_keys_are_letters_in_it(reviewer: Reviewer, server: Server) -> None:
    first = reviewer.open()
    reviewer.page.keyboard.press("n")
    reviewer.page.keyboard.type(f"a x {SCRIPT}")
    reviewer.page.get_by_role("button", name="Keep").click()
    expect(reviewer.fact("note")).to_have_text(f"a x {SCRIPT}")
    reviewer.press("a")
    reviewer.all_saved()
    assert [(each.candidate_id, each.note) for each in server.mine()] == [(first, f"a x {SCRIPT}")]


def test_keys_are_remapped_and_switched_off(reviewer: Reviewer, server: Server) -> None:
    first = reviewer.open()
    reviewer.page.keyboard.press("?")
    reviewer.page.locator("#key-accept").click()
    reviewer.page.keyboard.press("x")  # which was of reject: the two change places
    expect(reviewer.page.locator("#key-reject")).to_have_text("a")
    reviewer.page.keyboard.press("Escape")
    expect(reviewer.page.locator(".verdicts .accepted kbd")).to_have_text("x")
    reviewer.press("x")
    reviewer.all_saved()
    assert server.standing() == [(first, "accepted")]
    second = reviewer.open()
    reviewer.press("a")
    reviewer.page.keyboard.press("?")
    reviewer.page.locator("#keys-on").uncheck()
    reviewer.page.keyboard.press("Escape")
    third = reviewer.sees()
    reviewer.page.keyboard.press("x")
    reviewer.page.get_by_role("button", name="Accept").click()
    reviewer.sees(after=third)
    reviewer.all_saved()
    assert server.standing() == [(first, "accepted"), (second, "rejected"), (third, "accepted")]


def test_the_buttons_do_the_same_and_a_key_after_a_click_is_a_key(reviewer: Reviewer, server: Server) -> None:
    first = reviewer.open()
    reviewer.page.get_by_role("button", name="Accept").click()
    second = reviewer.sees(after=first)
    reviewer.press("Space")
    reviewer.all_saved()
    assert server.standing() == [(first, "accepted"), (second, "unsure")]


def test_a_script_as_a_key_is_shown_as_text(reviewer: Reviewer) -> None:
    reviewer.open()
    keys = json.dumps({"accept": SCRIPT, "help": "?"})
    reviewer.page.evaluate("keys => { localStorage['segsvc.keys'] = keys; }", keys)
    reviewer.open()
    expect(reviewer.page.locator(".verdicts .accepted kbd")).to_have_text(SCRIPT)
    reviewer.page.keyboard.press("?")
    expect(reviewer.page.locator("#key-accept")).to_have_text(SCRIPT)
    assert reviewer.page.locator("img[src=x], [onerror]").count() == 0


def test_scripts_in_classes_notes_and_file_names_are_shown_as_text(reviewer: Reviewer, server: Server) -> None:
    wanted = next(item for item in candidates.page(server.ledger, LOCAL, server.run_id, class_name=SCRIPT, limit=50).items
                  if "%3Cscript%3E" in item.image_uri)
    reviewer.open(f"?candidate={wanted.candidate_id}")
    for place in ("#class-name", "#fact-class"):
        expect(reviewer.page.locator(place)).to_have_text(SCRIPT)
    expect(reviewer.fact("image")).to_have_text("<script>alert(2)<script>.png")
    reviewer.press("a")
    reviewer.said(SCRIPT)
    expect(reviewer.page.locator("#latest")).to_contain_text(SCRIPT)
    reviewer.page.locator("#grid-button").click()
    expect(reviewer.page.locator("#grid-class")).to_contain_text(SCRIPT)
    assert reviewer.page.locator("img[src=x], [onerror]").count() == 0


def test_an_image_that_is_gone_is_said_and_a_verdict_is_still_possible(reviewer: Reviewer, server: Server) -> None:
    item = candidates.page(server.ledger, LOCAL, server.run_id, limit=1).items[0]
    reviewer.page.route(f"**/v1/images/{item.image_id}/**", lambda route: route.continue_(
        url=route.request.url.replace(item.image_id, "0" * 32)))
    assert reviewer.open(f"?candidate={item.candidate_id}") == item.candidate_id
    expect(reviewer.page.locator("#gone")).to_contain_text("A verdict is still possible")
    reviewer.press("x")
    reviewer.all_saved()
    assert server.standing() == [(item.candidate_id, "rejected")]


def test_progress_is_shown_and_the_end_is_said(reviewer: Reviewer, server: Server) -> None:
    reviewer.open("?class_name=bright")
    total = reviewer.page.locator("#bar-words")
    expect(total).to_contain_text("0 of ")
    expect(reviewer.fact("left")).not_to_have_text("")
    reviewer.press("a")
    expect(reviewer.fact("done")).to_have_text("1")
    left = len(candidates.page(server.ledger, LOCAL, server.run_id, class_name="bright", limit=500).items) - 1
    for _ in range(left - 1):
        reviewer.press("a")
    reviewer.page.keyboard.press("a")
    expect(reviewer.page.get_by_role("heading", name="You are up to date")).to_be_visible()
    reviewer.all_saved()
    assert len(server.standing()) == left + 1
    expect(reviewer.fact("seconds")).to_contain_text(" s")
    expect(reviewer.fact("pace")).to_contain_text(" / h")


def test_what_one_was_unsure_of_is_shown_again_when_nothing_else_is_left(reviewer: Reviewer, server: Server) -> None:
    total = len(candidates.page(server.ledger, LOCAL, server.run_id, class_name="bright", limit=500).items)
    reviewer.open("?class_name=bright")
    for key in [" ", *("a" * (total - 2))]:
        reviewer.press(key)
    reviewer.page.keyboard.press("a")
    reviewer.all_saved()
    reviewer.page.get_by_role("button", name="Look again at 1 unsure").click()
    expect(reviewer.page.locator("#stage[data-candidate]:not(.empty):not(.loading)")).to_be_visible()
    reviewer.page.keyboard.press("x")
    expect(reviewer.page.get_by_role("heading", name="You are up to date")).to_be_visible()
    reviewer.all_saved()
    assert sorted(verdict for _, verdict in server.standing()) == ["accepted"] * (total - 1) + ["rejected"]


def test_the_help_begins_at_its_top_and_a_space_in_it_changes_nothing(reviewer: Reviewer) -> None:
    reviewer.open()
    reviewer.page.keyboard.press("?")
    expect(reviewer.page.locator("#help-title")).to_be_focused()
    reviewer.page.keyboard.press(" ")
    expect(reviewer.page.locator("#keys-on")).to_be_checked()
    reviewer.page.keyboard.press("Escape")
    expect(reviewer.page.locator("#help")).to_be_hidden()


def test_a_note_is_kept_by_control_and_enter(reviewer: Reviewer) -> None:
    reviewer.open()
    reviewer.page.keyboard.press("n")
    reviewer.page.keyboard.type("cut in two")
    reviewer.page.keyboard.press("Control+Enter")
    expect(reviewer.fact("note")).to_have_text("cut in two")


def test_a_run_is_called_by_its_model_and_the_end_of_where_it_looked(reviewer: Reviewer) -> None:
    reviewer.open()
    expect(reviewer.page).to_have_title(re.compile(r"^scripted · scripted\d+/images · segsvc$"))


def test_only_what_would_be_overlooked_has_corners_around_it(reviewer: Reviewer) -> None:
    reviewer.open()
    drawn = """async (side) => {
        const { drawMark, blank } = await import("/static/drawing.js");
        const pen = blank(document.createElement("canvas"), { width: 700, height: 700 });
        const box = { x0: 300, y0: 300, x1: 300 + side, y1: 300 + side };
        drawMark(pen, { kind: "region", outline: [], ...box }, 0, { scale: 1, left: 0, top: 0 }, 1);
        return pen.getImageData(286, 286, 1, 1).data[3] > 0;
    }"""
    assert [reviewer.page.evaluate(drawn, side) for side in (3, 49, 51, 200)] == [True, True, False, False]
